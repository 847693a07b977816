"""A recording at work: a thread that takes what the instrument sends, until it is stopped.

The one rule: whatever becomes of the instrument meanwhile is told when the recording is stopped, and never
disturbs the run that it is a recording of; and the instrument is let go of, however that ended.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

from edgeq.errors import DeviceError
from edgeq.marks import End

Mark = tuple[float, End]  # the host's time.monotonic(), and what had come then
Result = TypeVar("Result")
END_S = 10.0


class Recording(Generic[Result]):
    """Let `take(ended)` record in a thread until `ended` is set; `made(marks)` is what it then comes to.

    `take` raises what goes wrong, `release` lets go of the instrument; both know it as `name`.
    """

    def __init__(
        self, name: str, take: Callable[[threading.Event], None],
        made: Callable[[tuple[Mark, ...]], Result], release: Callable[[], object] = lambda: None,
    ) -> None:
        self.name = name
        self._take, self._made, self._release = take, made, release
        self._marks: list[Mark] = []
        self._failure: Exception | None = None
        self._ended = threading.Event()
        self._released = False
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def __enter__(self) -> Recording[Result]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None,
    ) -> None:
        self._end()

    def mark(self, end: End) -> None:
        """Note that the device infers from now on, or no longer does."""
        self._marks.append((time.monotonic(), end))

    def stop(self) -> Result:
        """End it; DeviceError where the instrument failed or vanished meanwhile."""
        self._end()
        if isinstance(self._failure, DeviceError):
            raise self._failure
        if self._failure is not None:
            raise DeviceError(f"{self.name} vanished in mid-run: {self._failure}",
                              "see to its cable and that no other program uses it, and build again")
        return self._made(tuple(self._marks))

    def _end(self) -> None:
        if self._released:
            return
        self._released = True
        self._ended.set()
        self._thread.join(END_S)
        self._release()

    def _work(self) -> None:
        try:
            self._take(self._ended)
        except (DeviceError, OSError, ValueError, RuntimeError, EOFError) as failure:
            self._failure = failure
