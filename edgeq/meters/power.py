"""Power: an instrument records while the target's own runner lets the device infer; so energy an inference.

The one rule: what cannot be trusted is no figure. A recording with a fault is `invalid`, with it; what a
stand-in recorded, or stood in for the device, is simulated; the idle floor that is subtracted is stated.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from edgeq.errors import ConfigError
from edgeq.gates import shown
from edgeq.marks import marked_by
from edgeq.measurement import Measurement, Source, Value, invalid, unavailable
from edgeq.power import arithmetic, rig
from edgeq.power.arithmetic import Asked, Taken
from edgeq.power.trace import Trace
from edgeq.program import FUNCTIONAL, FUNCTIONAL_EXPORTED, costs_in
from edgeq.repeats import median_of
from edgeq.samples import samples_in

ENERGY, LATENCY = "energy_uj", "latency_ms"
ELSEWHERE = ("this machine runs the program, and the instrument is not said to measure this machine: "
             "use rapl, or hwmon with here: true")
FIRST = 2  # inferences of the first run, which flashes and warms up and does not count
BY = {"gpio": "by its trigger pin", "serial": "by the serial link, on the host's clock",
      "host": "around the run, by the host's clock"}


@dataclass(frozen=True)
class Recorded:
    """A run and its trace: when it began, by the host, and where the runner left what it said."""

    trace: Trace
    begun: float
    out: Path


@dataclass(frozen=True)
class Power:
    """`repeats` recordings of so many `inferences`, each after `idle_s` seconds in which the device is idle.

    `trigger` tells the windows: gpio, the instrument's digital input, high during each inference; serial, the
    serial link's request and answer; host, the whole run. `floor` is what is subtracted: the median power of
    the idle seconds, or none. `runner` is the target's own.
    """

    metrics: ClassVar = (ENERGY,)
    instrument: Any
    trigger: Literal["gpio", "serial", "host"] = "host"
    repeats: int = 6
    inferences: int = 100
    idle_s: float = 1.0
    floor: Literal["idle", "none"] = "idle"
    runner: Any = None

    @property
    def packages(self) -> tuple[str, ...]:
        """Those of its instrument."""
        return tuple(getattr(self.instrument, "packages", ()))

    def measure(self, program: Path, samples: Path) -> Measurement:
        """The median energy of an inference over the repeats; unavailable where no device runs the program.

        Raises DeviceError where the instrument or the device fails, ConfigError where both do not fit.
        """
        if reason := self._unable(program):
            return {ENERGY: unavailable(ENERGY, reason)}
        self._see_settings()
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            instrument = self._placed()
            with instrument.start() as recording:  # which may be what supplies the device
                self._ran(work / "first", program, _cycled(samples, work / "few", FIRST), FIRST)
                recording.stop()
            given = _cycled(samples, work / "given", self.inferences)
            recorded = [self._recorded(instrument, work / str(turn), program, given)
                        for turn in range(self.repeats)]
            return self._figures(recorded)

    def _unable(self, program: Path) -> str:
        """Why no device infers here whose power could be measured; empty where one does."""
        if not getattr(self.runner, "live", False) and not self._is_here():
            return (ELSEWHERE if getattr(self.runner, "here", False) else
                    "no attached device runs the program: an emulator has no power of its own")
        if self._is_here() and any((program / name).exists() for name in (FUNCTIONAL, FUNCTIONAL_EXPORTED)):
            return "what ships cannot run on this machine, which the instrument measures"
        if getattr(self.runner, "benchmark_model", "") or os.environ.get("BENCHMARK_MODEL"):
            return "times are those of benchmark_model, and it is not that whose power would be measured"
        return ""

    def _placed(self) -> Any:
        """The instrument; one that is in the device itself, and names none, is in that of the runner."""
        if getattr(self.instrument, "address", None) == "" and getattr(self.runner, "address", ""):
            return replace(self.instrument, address=self.runner.address)
        return self.instrument

    def _is_here(self) -> bool:
        """Whether the instrument measures this machine, and it is the target."""
        return bool(getattr(self.instrument, "here", False) and getattr(self.runner, "here", False))

    def _see_settings(self) -> None:
        if self.repeats < 1 or self.inferences < 1 or not 0 < self.idle_s < 3600:
            raise ConfigError(f"repeats: {self.repeats}, inferences: {self.inferences}, idle_s: "
                              f"{self.idle_s:g}: a meter wants at least one repeat and one inference, and "
                              "idle_s above 0 and below 3600",
                              "correct it in target.yaml")
        if self.trigger == "gpio" and not getattr(self.instrument, "gpio", False):
            raise ConfigError("the instrument has no digital input: trigger: gpio is not for it",
                              "use trigger: host, or an instrument with one (ppk2, joulescope, csv)")

    def _ran(self, out: Path, program: Path, given: Path, count: int, *, flash: bool = True) -> None:
        """Let the runner run all of `given` on the device."""
        out.mkdir()
        known = {field.name for field in fields(self.runner)}
        changes: dict[str, Any] = {"samples": count} if "samples" in known else {}
        if "flash" in known and not flash:
            changes["flash"] = ()
        replace(self.runner, **changes).run(out, program, given)

    def _recorded(self, instrument: Any, out: Path, program: Path, given: Path) -> Recorded:
        """One recording: idle seconds, then the run."""
        with instrument.start() as recording:
            time.sleep(self.idle_s)
            begun = time.monotonic()
            with marked_by(recording.mark):
                self._ran(out, program, given, self.inferences, flash=False)
            ended = time.monotonic()
            time.sleep(self.idle_s * arithmetic.GUARD)
            trace = recording.stop()
        marks = trace.marks or ((begun, "begun"), (ended, "ended"))
        return Recorded(replace(trace, marks=marks), begun, out)

    def _figures(self, recorded: list[Recorded]) -> Measurement:
        """The figures of all the recordings, or why there are none."""
        made: list[Taken] = []
        for turn, each in enumerate(recorded, 1):
            taken = self._taken(each)
            if isinstance(taken, str):
                return {ENERGY: invalid(ENERGY, f"recording {turn} of {self.repeats}: {taken}")}
            made.append(taken)
        last = recorded[-1]
        named, standing_in = rig.device(self.runner, last.out)
        source: Source = (
            "simulated" if standing_in or last.trace.stand_in else "measured")
        value = replace(median_of(ENERGY, [each.net_uj for each in made], source), basis=self._basis(made),
                        rig=", ".join(filter(None, (last.trace.rig, named))))
        return {ENERGY: value, **dict(self._latency(made, last, value))}

    def _taken(self, recorded: Recorded) -> Taken | str:
        """What one recording comes to, or what is wrong with it."""
        trace = recorded.trace
        if trace.own_clock and self.trigger != "gpio":
            raise ConfigError(f"{trace.rig}: its times are not the host's, so only trigger: gpio tells when "
                              "the device infers", "wire a trigger, or say clock: host where they are")
        found = arithmetic.windows(trace, self.trigger)
        count = self._inferences()
        if fault := arithmetic.unfit(trace, found, Asked(count, 1 if self.trigger == "host" else count,
                                                         self.trigger)):
            return fault
        idle = arithmetic.idle_before(found[0][0] if trace.own_clock else recorded.begun, self.idle_s)
        floor = arithmetic.floor_w(trace, idle)
        if not np.isfinite(floor):
            return (f"too few samples in the {self.idle_s:g} s before the run to tell what the device uses "
                    "idle: begin to record earlier, sample faster, or raise idle_s")
        taken = arithmetic.taken(trace, found, floor if self.floor == "idle" else 0.0, count)
        if taken.net_uj <= 0:
            return (f"it used {taken.run_mw:.4g} mW in the run and {1e3 * floor:.4g} mW idle: see that it is "
                    "idle before the run, and that the instrument is in its supply; or say floor: none")
        return taken

    def _inferences(self) -> int:
        """How many inferences a run is, those among them that a runner warms up with."""
        warm_up = getattr(self.runner, "warm_up", 0) if self.trigger == "host" else 0
        return self.inferences + int(warm_up)

    def _basis(self, made: list[Taken]) -> str:
        """What the figure is made of, in a few words."""
        floor, gross, run = (statistics.median(getattr(each, name) for each in made)
                             for name in ("floor_mw", "gross_uj", "run_mw"))
        net = f"net of {floor:.4g} mW idle" if self.floor == "idle" else "no idle power subtracted"
        return (f"{net}; gross {shown(gross, 'uj')} at {shown(run, 'value')} mW; "
                f"{self.repeats} x {self._inferences()} inferences, told {BY[self.trigger]}")

    def _latency(self, made: list[Taken], last: Recorded, energy: Value) -> Iterator[tuple[str, Value]]:
        """The time of an inference by the trigger pin, where the device cannot tell its own."""
        told = costs_in(last.out).get(LATENCY)
        if self.trigger == "gpio" and (told is None or told.value is None):
            times = [each.window_ms for each in made]
            value = median_of(LATENCY, times, energy.source)
            yield LATENCY, replace(value, basis="by its trigger pin", rig=energy.rig)


def _cycled(samples: Path, folder: Path, count: int) -> Path:
    """A folder with `count` samples: those of `samples` from the first, and again."""
    given = samples_in(samples)
    folder.mkdir()
    np.save(folder / "x.npy", np.asarray(given[np.arange(count) % len(given)]), allow_pickle=False)
    return folder
