"""Worker processes: where heavy libraries are loaded and where they may crash.

The one rule: whatever happens to a worker (an exception, a signal, a hang) is an EdgeqError of
the step that it was making, and of nobody else's. No process is started before something must
be made.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Expired
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from edgeq.errors import EdgeqError, ToolError
from edgeq.store import Task, fill, perform, task_of
from edgeq.tool import TAIL

Result = TypeVar("Result")
settings: dict[str, Path] = {}  # of this process, if it is a worker: where its store lies


class Workers:
    """A pool of at most `count` processes that make tasks in the store at `root`."""

    def __init__(self, root: Path, count: int, timeout_s: float) -> None:
        self.root = root.absolute()
        self.count = count
        self.timeout_s = timeout_s
        self.made: list[Task] = []
        self._pool: Any = None  # pebble.ProcessPool, once something must be made
        self._pending: dict[str, Future[None]] = {}
        self._mutex = threading.Lock()

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.stop() if kind else self._pool.close()
            self._pool.join()

    def make(self, task: Task) -> None:
        """Make `task` in a worker and wait for it; one that is being made is waited for."""
        with self._mutex:
            future = self._pending.get(task.key)
            if future is None:
                future = self._pending[task.key] = self._schedule(_make, task)
                self.made.append(task)
        self._outcome(future, str(task), self.root / task.log)

    def perform(self, action: Callable[..., Result], *inputs: object) -> Result:
        """What `action(*inputs)` returns in a worker; nothing is kept of it."""
        task = task_of(action, inputs)
        with self._mutex:
            future: Future[Result] = self._schedule(_perform, task)
        return self._outcome(future, str(task), self.root / task.log)

    def _schedule(self, function: Callable[[Task], object], task: Task) -> Future[Any]:
        import multiprocessing

        from pebble import ProcessPool

        if self._pool is None:
            self._pool = ProcessPool(
                max_workers=self.count, context=multiprocessing.get_context("spawn"),
                initializer=_enter, initargs=(str(self.root),),
            )
        future: Future[Any] = self._pool.schedule(
            function, args=(task,), timeout=self.timeout_s)
        return future

    def _outcome(self, future: Future[Result], step: str, log: Path) -> Result:
        from pebble import ProcessExpired

        error = future.exception()
        if error is None:
            return future.result()
        if isinstance(error, EdgeqError):
            raise error
        if isinstance(error, ProcessExpired):
            raise ToolError(f"{step}: its worker {_death(error.exitcode)}", _quoted(log)) from error
        if isinstance(error, Expired):
            raise ToolError(f"{step} had not ended after {self.timeout_s:g} s and was stopped",
                            _quoted(log)) from error
        said = str(error).strip().splitlines() or ["no message"]
        raise ToolError(f"{step} failed: {type(error).__name__}: {said[0]}", _quoted(log)) from error


def _enter(root: str) -> None:
    """Ready this process to be a worker: quiet, deaf to Ctrl-C, and with Keras on TensorFlow."""
    settings["store"] = Path(root)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)


def _make(task: Task) -> None:
    _send_output_to(settings["store"] / task.log)
    fill(settings["store"], task)


def _perform(task: Task) -> object:
    _send_output_to(settings["store"] / task.log)
    return perform(settings["store"], task)


def _send_output_to(log: Path) -> None:
    """Let all that this process prints, native code included, go to `log` from here on."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def _death(code: int) -> str:
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"ended with status {code}"


def _quoted(log: Path) -> str:
    try:
        text = log.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        text = ""
    return f"the end of {log}:\n{text[-TAIL:]}" if text else f"its log, {log}, is empty"
