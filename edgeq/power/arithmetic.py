"""Energy an inference out of a trace: windows, an idle floor, a quotient; and when there is none.

The one rule: a figure is made only of a trace that nothing speaks against; see `unfit`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edgeq.power.trace import Trace

Window = tuple[float, float]  # from, to (seconds, as the trace has them)
LEAST = 10  # sample periods that a window, and an idle stretch, must hold
LOST = 0.001  # the share of a window's samples that may be missing
RATE, RATE_S, DRIFT_S = 0.05, 0.3, 0.3  # by how much a clock may differ from the host's: a share, seconds
GUARD = 0.1  # the share of an idle stretch at its end that is left out


@dataclass(frozen=True)
class Asked:
    """What a recording is of: `inferences`, how many `windows` they should be, and how these are told.

    `trigger` is gpio, serial or host.
    """

    inferences: int
    windows: int
    trigger: str


@dataclass(frozen=True)
class Taken:
    """Microjoules an inference, `net` of the floor and `gross`; the floor and the run in milliwatts.

    `window_ms` is the time of an inference, as the windows tell it.
    """

    net_uj: float
    gross_uj: float
    floor_mw: float
    run_mw: float
    window_ms: float


def pulses(trace: Trace) -> tuple[Window, ...]:
    """When the trigger was high, from its rising edges to its falling ones; one that is not whole is none."""
    if trace.trigger is None or not trace.trigger.size:
        return ()
    steps = np.diff(trace.trigger.astype(np.int8))
    up, down = np.flatnonzero(steps == 1) + 1, np.flatnonzero(steps == -1) + 1
    down = down[down > up[0]] if up.size else down[:0]
    return tuple((float(trace.times[first]), float(trace.times[last]))
                 for first, last in zip(up, down, strict=False))


def marked(trace: Trace) -> tuple[Window, ...]:
    """When the host let the device infer, by its own clock."""
    begun = [at for at, end in trace.marks if end == "begun"]
    ended = [at for at, end in trace.marks if end == "ended"]
    return tuple(zip(begun, ended, strict=False))


def windows(trace: Trace, trigger: str) -> tuple[Window, ...]:
    """The windows that `trigger` tells: gpio, serial (each inference), host (all of them as one)."""
    if trigger == "gpio":
        return pulses(trace)
    found = marked(trace)
    return found if trigger == "serial" or not found else ((found[0][0], found[-1][1]),)


def energy_in(trace: Trace, within: Window) -> float:
    """Joules from the one time to the other; between samples the power is that of the step."""
    at = np.interp(within, trace.times, trace.energy)
    return float(at[1] - at[0])


def floor_w(trace: Trace, idle: Window) -> float:
    """The median power (W) of the steps within `idle`; NaN where there are too few of them.

    It is the median that no wake-up, and no peak of a transfer, moves.
    """
    first, last = np.searchsorted(trace.times, idle)
    steps = slice(int(first), int(last))
    power = np.diff(trace.energy[steps]) / np.diff(trace.times[steps])
    return float(np.median(power)) if power.size >= LEAST else float("nan")


def idle_before(first: float, seconds: float) -> Window:
    """The idle stretch of so many seconds before the first window, less what may be part of the run."""
    return first - seconds, first - GUARD * seconds


def taken(trace: Trace, found: Sequence[Window], floor: float, inferences: int) -> Taken:
    """What `inferences` in the windows `found` took, above the `floor` (W).

    E = (sum of the energy in the windows - floor * their time) / inferences.
    """
    gross = sum(energy_in(trace, window) for window in found)
    seconds = sum(last - first for first, last in found)
    return Taken((gross - floor * seconds) / inferences * 1e6, gross / inferences * 1e6, floor * 1e3,
                 gross / seconds * 1e3, seconds / inferences * 1e3)


def unfit(trace: Trace, found: Sequence[Window], asked: Asked) -> str:
    """Why `trace` with the windows `found` gives no figure, and what to do; empty where it does."""
    return next(iter(_faults(trace, found, asked)), "")


def _faults(trace: Trace, found: Sequence[Window], asked: Asked) -> Iterator[str]:
    if trace.times.size < 2:
        yield "the instrument recorded nothing: see that it is wired, and that its output is on"
        return
    yield from _of_clock(trace)
    yield from _of_count(trace, found, asked)
    if not found:
        return
    yield from _of_span(trace, found, asked)
    yield from _of_samples(trace, found, 0.0 if asked.trigger == "gpio" else trace.slack_s)


def _of_clock(trace: Trace) -> Iterator[str]:
    """A clock that runs backwards, or at another rate than the instrument states."""
    if not np.isfinite(trace.times).all() or not np.isfinite(trace.energy).all():
        yield "the trace holds what is no number: see to the instrument's export"
    if back := int(np.count_nonzero(np.diff(trace.times) <= 0)):
        yield f"the instrument's clock ran backwards or stood still, {back} times: set it, and record again"
    if abs(trace.drift) > RATE and abs(trace.drift) * float(trace.times[-1] - trace.times[0]) > DRIFT_S:
        way = "slow" if trace.drift > 0 else "fast"
        yield (f"the instrument's clock is {abs(100 * trace.drift):.2g} % {way} by the host's: it runs at "
               "another rate than stated, or samples were lost")


def _of_count(trace: Trace, found: Sequence[Window], asked: Asked) -> Iterator[str]:
    """Windows that are missing, or too many."""
    if trace.trigger is not None and asked.trigger == "gpio" and trace.trigger[0]:
        yield ("the trigger was high before the run: it is inverted, or floats; the firmware holds it low "
               "between inferences")
    if asked.trigger == "gpio" and not found:
        yield ("no edge was seen on the trigger: wire the firmware's pin to the instrument's input, name its "
               "channel, and see that the firmware has an eq_trigger (docs/power.md)")
    elif len(found) > asked.windows:
        yield (f"{len(found)} windows for {asked.windows} inferences: the trigger bounces or floats, or the "
               "line was bad and inferences were repeated")
    elif len(found) < asked.windows:
        yield (f"only {len(found)} windows for {asked.windows} inferences: the recording is not of all the "
               "run, or the pulses are too short to be seen")


def _of_span(trace: Trace, found: Sequence[Window], asked: Asked) -> Iterator[str]:
    """Windows beyond the trace, or that last otherwise than the host saw."""
    if found[0][0] < trace.times[0] or found[-1][1] > trace.times[-1]:
        yield "the recording does not hold the whole run: record longer, or see why it broke off"
    seen = marked(trace)
    if asked.trigger != "gpio" or not seen:
        return
    span, host = found[-1][1] - found[0][0], seen[-1][1] - seen[0][0]
    if abs(span - host) > RATE * host + RATE_S:
        yield (f"the trigger tells a run of {span:.3g} s, the host's clock one of {host:.3g} s: the "
               "instrument's clock runs at another rate, or its times are in another unit")


def _of_samples(trace: Trace, found: Sequence[Window], slack_s: float) -> Iterator[str]:
    """Windows too short, by samples or by how true their ends are; with samples lost, or out of range."""
    period = trace.period_s or float(np.median(np.diff(trace.times)))
    shortest = min(last - first for first, last in found)
    if shortest < LEAST * max(period, slack_s):
        why = (f"its samples lie {period * 1e3:.3g} ms apart" if period >= slack_s else
               f"the host's marks are off by up to {slack_s * 1e3:.3g} ms")
        yield (f"a window lasts {shortest * 1e3:.3g} ms, and {why}: {LEAST} times that is wanted; sample "
               "faster, trigger by gpio, or let the run have more inferences")
    ends = np.searchsorted(trace.times, np.asarray(found))
    if (lost := max(_lost(trace, *each) for each in ends)) > LOST:
        yield (f"{100 * lost:.2g} % of the samples were lost in the run: use a better cable or port, "
               "and let nothing else load this machine")
    if trace.beyond is not None and any(trace.beyond[first:last].any() for first, last in ends):
        yield "the instrument was out of its range in the run: choose a wider one, or less of a load"


def _lost(trace: Trace, first: int, last: int) -> float:
    """The share of a window's samples, from the one to the other, that should be there and are not."""
    if trace.period_s is None or last <= first:
        return 0.0
    steps = np.diff(trace.times[first:last + 1]) / trace.period_s
    return float(np.sum(np.round(steps) - 1) / np.sum(steps)) if steps.size else 0.0
