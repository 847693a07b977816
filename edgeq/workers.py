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
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from edgeq import progress, tool
from edgeq.errors import EdgeqError, ToolError
from edgeq.store import Task, fill, perform, task_of
from edgeq.tool import TAIL

Result = TypeVar("Result")
LOOK_S = 0.2  # how often one who waits looks how far the work has come
POLL_S = 0.01  # how often the pool looks for what has ended: its own 0.1 s is felt at every step
settings: dict[str, Path] = {}  # of this process, if it is a worker: where its store lies


class Workers:
    """A pool of at most `count` processes that make tasks in the store at `root`."""

    def __init__(self, root: Path, count: int, timeout_s: float) -> None:
        self.root = root.absolute()
        self.count = count
        self.timeout_s = timeout_s
        self._pool: Any = None  # pebble.ProcessPool, once something must be made
        self._pending: dict[str, Future[None]] = {}
        self._scheduled: list[Future[Any]] = []
        self._mutex = threading.Lock()

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is None:
            return
        import multiprocessing

        with self._mutex:
            for future in self._scheduled:
                future.cancel()  # whoever still waits for it need not wait any longer
            self._pool.stop()
        for worker in multiprocessing.active_children():
            worker.terminate()  # one that is just starting would trip over the pool's end, aloud
        self._pool.join()

    def make(self, task: Task) -> None:
        """Make `task` in a worker and wait for it; one that is being made is waited for."""
        with self._mutex:
            future = self._pending.get(task.key)
            if future is None:
                _progress(self.root / task.log).unlink(missing_ok=True)  # of one that was stopped
                future = self._pending[task.key] = self._schedule(_make, task)
        self._outcome(future, str(task), self.root / task.log)

    def perform(self, action: Callable[..., Result], *inputs: object) -> Result:
        """What `action(*inputs)` returns in a worker; nothing is kept of it."""
        task = task_of(action, inputs)
        with self._mutex:
            future: Future[Result] = self._schedule(_perform, task)
        return self._outcome(future, str(task), self.root / task.log)

    def _schedule(self, function: Callable[[Task], object], task: Task) -> Future[Any]:
        import multiprocessing

        from pebble import CONSTS, ProcessPool

        if self._pool is None:
            os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # of the workers, which fill the cores
            CONSTS.sleep_unit = POLL_S
            self._pool = ProcessPool(
                max_workers=self.count, context=multiprocessing.get_context("spawn"),
                initializer=_enter, initargs=(str(self.root),),
            )
        future: Future[Any] = self._pool.schedule(
            function, args=(task,), timeout=self.timeout_s)
        self._scheduled.append(future)
        return future

    def _outcome(self, future: Future[Result], step: str, log: Path) -> Result:
        from pebble import ProcessExpired

        error = _end_of(future, _progress(log))
        if error is None:
            return future.result()
        if isinstance(error, EdgeqError):
            raise error
        if isinstance(error, ProcessExpired):
            raise ToolError(f"{step}: its worker {_death(error.exitcode)}", _quoted(log)) from error
        if isinstance(error, Expired):
            raise ToolError(f"{step} had not ended after {self.timeout_s:g} s and was stopped",
                            _quoted(log)) from error
        raise failure(step, error, _quoted(log)) from error


def _enter(root: str) -> None:
    """Ready this process to be a worker: quiet, deaf to Ctrl-C, and with Keras on TensorFlow."""
    settings["store"] = Path(root)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_follow, daemon=True).start()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)


def _follow() -> None:
    """End with the main process, however that ended: a task that hangs would hold its lock."""
    import multiprocessing

    if parent := multiprocessing.parent_process():
        parent.join()
        _leave()


def _leave(*_: object) -> None:
    from pebble.common.process import process_exit

    with suppress(ValueError):  # in a thread; a second signal shall not cut short what the first one began
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    tool.stop_all()
    process_exit(1)


def _make(task: Task) -> None:
    with progress.noted_in(_progress(settings["store"] / task.log)):
        _told(fill, task)


def _progress(log: Path) -> Path:
    """Where the step with this log notes how far it has come."""
    return log.with_suffix(".progress")


def _end_of(future: Future[Any], place: Path) -> BaseException | None:
    """The error that `future` ends with, or None; what is noted at `place` until then is told on."""
    told = None
    while progress.is_heard():
        try:
            return future.exception(timeout=LOOK_S)
        except Expired:
            found = progress.noted(place)
            if found and found != told:
                progress.tell(*found)
            told = found
    return future.exception()


def _perform(task: Task) -> object:
    return _told(perform, task)


def _told(function: Callable[[Path, Task], Result], task: Task) -> Result:
    """What `function` returns; what it raises in words, for not every exception can travel.

    One of the user's own class cannot be read by the main process, and would end the whole pool.
    """
    output = settings["store"] / task.log
    _send_output_to(output)
    try:
        return function(settings["store"], task)
    except EdgeqError:
        raise
    except (Exception, SystemExit) as error:
        printed = _quoted(output)
        logging.getLogger(__name__).info("%s failed", task, exc_info=error)
        raise failure(str(task), error, printed) from error


def _send_output_to(log: Path) -> None:
    """Let all that this process prints, native code included, go to `log` from here on."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def failure(step: str, error: BaseException, hint: str) -> ToolError:
    """The error of a `step` that raised one that is none of ours."""
    said = str(error).strip().splitlines() or ["no message"]
    return ToolError(f"{step} failed: {type(error).__name__}: {said[0]}", hint)


def _death(code: int) -> str:
    return tool.died_of(-code) if code < 0 else f"ended with status {code}"


def _quoted(log: Path) -> str:
    try:
        text = log.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        text = ""
    return f"the end of {log}:\n{text[-TAIL:]}" if text else f"it printed nothing; its log: {log}"
