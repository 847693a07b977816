"""When a device infers: marked where it is made to, heard by whoever measures meanwhile.

The one rule: a mark costs nothing where nobody listens, and changes nothing of what is run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Literal

End = Literal["begun", "ended"]
Marked = Callable[[End], None]
_listener: ContextVar[Marked | None] = ContextVar("marks", default=None)


@contextlib.contextmanager
def inferring() -> Iterator[None]:
    """The device infers for as long as the block, as seen from here."""
    listener = _listener.get()
    if listener is None:
        yield
        return
    listener("begun")
    try:
        yield
    finally:
        listener("ended")


@contextlib.contextmanager
def marked_by(listener: Marked) -> Iterator[None]:
    """Let `listener` hear that each such block has begun, and has ended, in this thread."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
