"""How long steps took: timings.jsonl beside the artifacts, a line a made step.

No artifact, no key and no manifest holds anything of it: it only lets `edgeq plan` say about how
long a rung would take. Losing it loses nothing else, so what cannot be read or written is let go.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np

NAME = "timings.jsonl"
LAST = 1 << 20  # bytes at its end that are read, some 7,000 steps: older ones tell less
SHORT = 16  # hex digits of a digest: enough to tell two models apart
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]


@dataclass(frozen=True)
class Timing:
    """One step that was made: whose, with which options, from what, into what, in how many seconds.

    `inputs` and `made` are the first digits of digests; what is no artifact is "".
    """

    step: str
    options: str
    inputs: tuple[str, ...]
    made: str
    seconds: Seconds


def short(digest: str) -> str:
    """As much of `digest` as a timing keeps."""
    return digest[:SHORT]


def options_of(maker: Any) -> str:
    """A short digest (hex) of the fields of `maker`, a frozen dataclass."""
    said = json.dumps(vars(maker), sort_keys=True, default=vars)
    return short(hashlib.sha256(said.encode()).hexdigest())


def append(root: Path, timing: Timing) -> None:
    """Add `timing` to those of the store at `root`, in one write beside those of other processes."""
    line = msgspec.json.encode(timing) + b"\n"
    with suppress(OSError):  # the step is made, and no full disk shall undo that
        descriptor = os.open(root / NAME, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)


def read(root: Path) -> tuple[Timing, ...]:
    """The latest timings of the store at `root`, oldest first; lines that are none are passed over."""
    try:
        with (root / NAME).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - LAST))
            lines = file.read(LAST).split(b"\n")
    except OSError:
        return ()
    return tuple(_timings(lines[1:] if size > LAST else lines))


def estimated(earlier: Sequence[Timing], step: str, options: str, sources: Collection[str]) -> str:
    """About how long `step` would take, in words: the median over the `earlier` runs nearest to it.

    Nearest are those with the same `options` on the same model, which is one of `sources` or was
    made from one; then those on other models; then those with other options. Nothing is scaled.
    """
    runs = [timing for timing in earlier if timing.step == step]
    same = [timing for timing in runs if timing.options == options]
    here = _of(same, {*sources, *(each.made for each in _of(earlier, sources))})
    for nearest, whose in ((here, ""), (same, "other models, "), (runs, "other options, ")):
        if nearest:
            told = _counted(len(nearest), whose)
            return f"about {_duration(np.median([each.seconds for each in nearest]))} ({told})"
    return "not run before"


def _of(timings: Sequence[Timing], models: Collection[str]) -> list[Timing]:
    """Those of `timings` whose first input is one of `models`."""
    return [timing for timing in timings if timing.inputs and timing.inputs[0] in models]


def _timings(lines: Sequence[bytes]) -> Iterator[Timing]:
    decoder = msgspec.json.Decoder(Timing)
    for line in lines:
        with suppress(ValueError, RecursionError):
            yield decoder.decode(line)


def _counted(runs: int, whose: str) -> str:
    earlier = "" if whose else "earlier "
    return f"{whose}{runs} {earlier}run{'s' if runs > 1 else ''}"


def _duration(seconds: float) -> str:
    """`seconds` as one says them: 0.4 s, 12 s, 3 min, 2.5 h."""
    if seconds < 99.5:
        return f"{max(seconds, 0.1):.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5970 else f"{seconds / 3600:.1f} h"
