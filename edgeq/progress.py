"""How far a maker has come: told where it works, heard where somebody waits for it.

A maker calls `tell` and need not know who listens; where nobody does, that costs nothing. A worker
listens by writing it down, and who waits for the worker reads it and tells it on.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path

Heard = Callable[[float, str], None]
EVERY_S = 0.2
_listener: ContextVar[Heard | None] = ContextVar("listener", default=None)


def tell(fraction: float, text: str) -> None:
    """Say that `fraction` (0..1) of the work is done, and in words what is at work now."""
    if listener := _listener.get():
        listener(fraction, text)


def is_heard() -> bool:
    """Whether somebody listens."""
    return _listener.get() is not None


@contextlib.contextmanager
def heard_by(listener: Heard) -> Iterator[None]:
    """Let `listener` hear what is told in the block, by this thread."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextlib.contextmanager
def noted_in(place: Path) -> Iterator[None]:
    """Let what is told in the block stand in the file `place`, as it was a moment ago at most."""
    written = 0.0

    def write(fraction: float, text: str) -> None:
        nonlocal written
        if time.monotonic() - written < EVERY_S:
            return
        written = time.monotonic()
        draft = place.with_suffix(".draft")
        with contextlib.suppress(OSError):  # a full disk is met soon enough, and said better
            draft.write_text(json.dumps([fraction, text]), encoding="utf-8")
            draft.replace(place)

    place.unlink(missing_ok=True)
    try:
        with heard_by(write):
            yield
    finally:
        place.unlink(missing_ok=True)


def noted(place: Path) -> tuple[float, str] | None:
    """What stands in the file `place`; None where nothing does."""
    try:
        fraction, text = json.loads(place.read_bytes())
    except OSError:
        return None
    return fraction, text
