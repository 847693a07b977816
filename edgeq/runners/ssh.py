"""A Linux board over ssh: the shipped model on the board itself, its accuracy, time and memory measured.

The one rule: a time counts only where the board was neither hot nor throttled, and is its own: what runs
there under an emulator is simulated, and has no time.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from edgeq import tool
from edgeq.devices import conditions
from edgeq.devices.exchange import exchanged
from edgeq.devices.record import Record, untimed
from edgeq.devices.session import ran
from edgeq.devices.ssh import Login, happened, opened
from edgeq.errors import ConfigError, ToolError
from edgeq.interpret import Kernels
from edgeq.linux import kit as kits
from edgeq.program import OUTPUTS, mark_measured, write_costs
from edgeq.quantization import note
from edgeq.samples import samples_in

NO_TIME = "it was emulated on the board: neither its time nor its memory is that of the board"


@dataclass(frozen=True)
class Ssh:
    """The board at `address` (user@host[:port]); how it is reached is said in edgeq/devices/ssh.py (Login).

    `kernels` are LiteRT's. The program brings its own C library, so that the board's may be any. The first
    `warm_up` inferences count for no time; from `hottest_c` degrees on, and where the board was throttled,
    no time counts.
    """

    packages: ClassVar = ("ai-edge-litert",)
    live: ClassVar = True
    address: str = ""
    identity: str = ""
    known_hosts: str = ""
    folder: str = ""
    launcher: tuple[str, ...] = ()
    kernels: Kernels = "xnnpack"
    warm_up: int = 5
    hottest_c: float = conditions.HOTTEST_C
    timeout_s: float = 600.0

    def tools(self) -> tuple[Path, ...]:
        """The ssh client; ToolError with what to install where there is none."""
        found = tool.find("ssh")
        if found is None:
            raise ToolError("ssh is not installed", "apt-get install openssh-client")
        return (found,)

    def run(self, out: Path, program: Path, samples: Path) -> None:
        """Write the outputs for `samples`, the time of an inference and the memory that it took.

        Raises DeviceError where the board cannot be reached, is of another architecture, or fails.
        """
        if not self.address:
            raise ConfigError("no board is named",
                              "say which by --device user@host, or as `address:` in target.yaml")
        exchange = exchanged(program, samples_in(samples))
        task = exchange.task(kits.bundled(exchange.model), self.kernels, self.warm_up)
        login = Login(self.address, self.identity, self.known_hosts, self.folder, self.launcher)
        with opened(login) as board:
            before = board.facts()
            left = ran(board, task, self.timeout_s)
            after = board.facts()
        unfit = conditions.unfit(before, after, self.hottest_c) or happened(before, after)
        record = Record(before, after, left.times_us, left.load_us, left.first_us, left.peak_rss_bytes,
                        unfit=unfit, address=board.name)
        np.save(out / OUTPUTS, exchange.outputs(left.outputs), allow_pickle=False)
        self._write(out, board.name, record)

    def _write(self, out: Path, name: str, record: Record) -> None:
        """What the run comes to; under a launcher there, only its outputs."""
        known = [str(record.before[key]) for key in ("model", "system") if key in record.before]
        what = ", ".join([name, *known])
        if self.launcher:
            write_costs(out, untimed(NO_TIME))
            note(out, f"{what}: under {self.launcher[0]} there, so that its outputs are simulated")
        else:
            write_costs(out, record.costs())
            mark_measured(out, name)
            note(out, f"{what}: {record.sentence()}")
        record.write(out, launcher=self.launcher)
