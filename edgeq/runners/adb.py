"""An Android phone over adb: the shipped model on the phone itself, its accuracy and its time measured.

The one rule: what a stand-in phone computes is simulated, and says so; what a hot or throttled phone takes is
no time at all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from edgeq.devices import adb, benchmark_model, conditions
from edgeq.devices.adb_server import adb_program, phones
from edgeq.devices.benchmark_model import Accelerator, Benchmark, Timed
from edgeq.devices.device import Fact
from edgeq.devices.exchange import exchanged
from edgeq.devices.record import TIMES, Record, untimed
from edgeq.devices.session import Task, ran
from edgeq.devices.standin import phone as standin
from edgeq.devices.standin import system
from edgeq.devices.standin.state import State
from edgeq.errors import ConfigError
from edgeq.interpret import Kernels
from edgeq.linux import kit as kits
from edgeq.linux.kit import Kit, Left
from edgeq.measurement import Value, invalid, unavailable
from edgeq.program import OUTPUTS, mark_measured, write_costs
from edgeq.quantization import note
from edgeq.samples import samples_in

NO_TIME = "it was emulated: the stand-in phone has no time or memory of its own"
ON_STAND_IN = "on the stand-in phone: no phone was attached"
PASSING = ("serial", "kernel")  # of a stand-in: the port that was free, and the system of this machine


@dataclass(frozen=True)
class Adb:
    """The phone with the serial number `address`, else $ANDROID_SERIAL, else the only one attached.

    Where none is attached or named, a stand-in phone is started with the core of the board `stand_in` (of
    edgeq/emulation/linux_boards.py), if one is given. The model runs on the phone's CPU, one thread, by
    LiteRT's `kernels`: in a program that brings its own C library, or, where `ndk` is the folder of an
    Android NDK, in one that this builds.

    Times are those of that program (the first `warm_up` inferences do not count), or, where its path is given
    as `benchmark_model` ($BENCHMARK_MODEL), those of TensorFlow Lite's own tool on the `accelerator`, which
    NNAPI may know by the name `nnapi_accelerator`: the medians of so many `processes` of `runs` inferences.
    From `hottest_c` degrees on, and where the phone was throttled, no time counts.
    """

    packages: ClassVar = ("ai-edge-litert", "adbutils")
    address: str = ""
    stand_in: str = ""
    kernels: Kernels = "xnnpack"
    ndk: str = ""
    benchmark_model: str = ""
    accelerator: Accelerator = "xnnpack"
    nnapi_accelerator: str = ""
    warm_up: int = 5
    runs: int = 20
    processes: int = 10
    hottest_c: float = conditions.HOTTEST_C
    timeout_s: float = 600.0

    @property
    def live(self) -> bool:
        """Whether a phone is asked, anew each time; what a stand-in computes is kept."""
        named = self.address or os.environ.get("ANDROID_SERIAL", "")
        return bool(named or not self.stand_in or phones())

    def tools(self) -> tuple[Path, ...]:
        """The adb client, and what a stand-in phone is made of; ToolError with what to install."""
        return (adb_program(), *(() if self.live else system.programs()))

    def run(self, out: Path, program: Path, samples: Path) -> None:
        """Write the outputs for `samples`, the time of an inference and the memory that it took.

        Raises DeviceError where the phone is missing, does not answer, is of another architecture, or fails.
        """
        exchange = exchanged(program, samples_in(samples))
        benchmark = self._tool()
        with self._opened() as phone:
            before = phone.facts()
            task = exchange.task(self._kit(exchange.model, before), self.kernels, self.warm_up)
            left = ran(phone, task, self.timeout_s)
            timed = self._benchmarked(phone, task, benchmark) if benchmark else ()
            after = phone.facts()
        np.save(out / OUTPUTS, exchange.outputs(left.outputs), allow_pickle=False)
        unfit = conditions.unfit(before, after, self.hottest_c)
        record = _recorded(left, timed, Record(before, after, unfit=unfit, address=phone.name))
        self._write(out, phone.name, record, timed)

    @contextmanager
    def _opened(self) -> Iterator[adb.Adb]:
        """The phone that is meant, or a stand-in."""
        if self.live:
            with adb.opened(self.address or os.environ.get("ANDROID_SERIAL", "")) as phone:
                yield phone
            return
        with standin.started(self.stand_in) as made, adb.opened(made.address) as phone:
            yield phone

    def _kit(self, model: Path, facts: Mapping[str, Fact]) -> Kit:
        """What is put on the phone; the stand-in's system is no Android's underneath."""
        ndk = "" if _is_stand_in(facts) else self.ndk
        return kits.android(model, Path(ndk)) if ndk else kits.bundled(model)

    def _benchmarked(self, phone: adb.Adb, task: Task, program: Path) -> tuple[Timed, ...]:
        """What TensorFlow Lite's own tool tells, process by process."""
        benchmark = Benchmark(self.accelerator, self.warm_up, self.runs, self.nnapi_accelerator)
        phone.push({benchmark_model.PROGRAM: program, task.request.model: task.model})
        words = benchmark_model.words(benchmark, task.request.model)
        return tuple(benchmark_model.timed(phone.run(words, self.timeout_s), benchmark)
                     for _ in range(self.processes))

    def _write(self, out: Path, name: str, record: Record, timed: tuple[Timed, ...]) -> None:
        """Figures, notes and particulars."""
        emulated = _is_stand_in(record.before)
        fallback = next((each.fallback for each in timed if each.fallback), "")
        write_costs(out, _costs(record, NO_TIME if emulated else fallback))
        if not emulated:
            mark_measured(out, name)
        note(out, self._told(name, record), *self._told_of_tool(timed, fallback))
        kept, told = (_repeatable(record), ()) if emulated else (record, timed)
        kept.write(out, benchmark_model=[vars(each) for each in told], emulated=emulated)

    def _told(self, name: str, record: Record) -> str:
        """The run in a sentence."""
        if _is_stand_in(record.before):
            return "on a stand-in phone" if self.address else ON_STAND_IN
        what = [str(record.before[key]) for key in ("model", "system") if key in record.before]
        return f"{name} ({', Android '.join(what)}): {record.sentence()}"

    def _told_of_tool(self, timed: tuple[Timed, ...], fallback: str) -> Iterator[str]:
        """Whose the times are, where they are not those of the outputs."""
        if timed:
            yield (f"times are those of benchmark_model on {self.accelerator}, outputs those of LiteRT on "
                   f"the CPU{f'; {fallback}' if fallback else ''}")

    def _tool(self) -> Path | None:
        """TensorFlow Lite's own tool, built for Android; none where it is not given."""
        given = self.benchmark_model or os.environ.get("BENCHMARK_MODEL", "")
        if given and not Path(given).is_file():
            raise ConfigError(f"benchmark_model: there is no file {given}",
                              "name TensorFlow Lite's tool for Android (android_aarch64_benchmark_model)")
        return Path(given) if given else None


def _costs(record: Record, untold: str) -> dict[str, Value]:
    """What `record` comes to; where it is for the reason `untold` that times are none, no times."""
    if not untold:
        return record.costs()
    costs = untimed(untold) if untold == NO_TIME else record.costs()
    reasoned = (invalid, record.unfit) if record.unfit else (unavailable, untold)
    return costs | {metric: reasoned[0](metric, reasoned[1]) for metric in TIMES}


def _recorded(left: Left, timed: tuple[Timed, ...], record: Record) -> Record:
    """`record` with the times of the tool, where it ran, else with those of our own program."""
    record = replace(record, peak_bytes=left.peak_rss_bytes)
    if not timed:
        return replace(record, times_us=left.times_us, load_us=left.load_us, first_us=left.first_us)
    kind = "medians" if all(each.is_median for each in timed) else "means"
    return replace(record, times_us=[each.typical_us for each in timed], load_us=timed[0].load_us,
                   first_us=timed[0].first_us, each=f"{kind} of {timed[0].runs} inferences")


def _repeatable(record: Record) -> Record:
    """What of a stand-in's `record` is the same in each run and on each machine: its times are no phone's."""
    before, after = ({key: fact for key, fact in facts.items() if key not in PASSING}
                     for facts in (record.before, record.after))
    return replace(record, before=before, after=after, times_us=(), load_us=0.0, first_us=0.0, peak_bytes=0,
                   address="")


def _is_stand_in(facts: Mapping[str, Fact]) -> bool:
    return facts.get("model") == State.model
