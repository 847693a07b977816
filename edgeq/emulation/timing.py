"""Cycles of a Cortex-M from what a program does: Arm's tables of instructions, and the waits of a flash.

    pace = pace_of("cortex-m4", {"wait_states": 5, "read_bytes": 8, …})
    pace.cycles(events)

The one rule: every figure here stands in a manual; none is fitted to a measurement. Where a manual gives a
range, its middle is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from edgeq.errors import ConfigError

LARGEST_LINE = 64  # bytes: the plugin has a bit for each


@dataclass(frozen=True)
class Events:
    """What a program did, counted (c/events.c).

    `instructions`; `loads` and `stores` of one word or less; the `words` of instructions that move several;
    `delays` of loads, and of stores to a computed address, that no load before them hides; `interlocks`,
    addresses that wait for the result right before them; `accumulates` (MLA, MLS), `longs` (SMULL, UMULL),
    `long_accumulates` (SMLAL, UMLAL), `divides`; branches that were `taken`; accesses beyond one that
    `unaligned` addresses take; reads of the flash for instructions (`fetches`) and for data (`reads`).
    """

    instructions: int = 0
    loads: int = 0
    stores: int = 0
    words: int = 0
    delays: int = 0
    interlocks: int = 0
    accumulates: int = 0
    longs: int = 0
    long_accumulates: int = 0
    divides: int = 0
    taken: int = 0
    unaligned: int = 0
    fetches: int = 0
    reads: int = 0


@dataclass(frozen=True)
class Flash:
    """A flash that is slower than its core, and the lines that are kept of it.

    `read_bytes` come at a time after `wait_states` cycles, into lines of `line_bytes`: so many for
    instructions and for data, the least recently used going first.
    """

    wait_states: int
    read_bytes: int
    line_bytes: int
    instruction_lines: int
    data_lines: int


@dataclass(frozen=True)
class Timing:
    """The cycles of a core: one for each instruction, and so many for each of the other events.

    `source` is the manual that says so.
    """

    source: str
    beyond: Mapping[str, float]


# A refill of the pipeline takes 1 to 3 cycles; a load of one word 2, or 1 behind another; several words
# 1 + N; a division 2 to 12.
V7M: Mapping[str, float] = {
    "delays": 1, "words": 1, "interlocks": 1, "taken": 2, "unaligned": 1, "divides": 6}
TIMINGS: Mapping[str, Timing] = {
    # Loads and stores take 2 cycles, several words 1 + N, a branch that is taken 3; nothing is hidden.
    "cortex-m0": Timing("Cortex-M0 Technical Reference Manual (Arm DDI 0432C), table 3-1",
                        {"loads": 1, "stores": 1, "words": 1, "taken": 2}),
    # The same, but for a pipeline that is shorter by one.
    "cortex-m0plus": Timing("Cortex-M0+ Technical Reference Manual (Arm DDI 0484C), table 3-1",
                            {"loads": 1, "stores": 1, "words": 1, "taken": 1}),
    # MLA takes 2 cycles, SMULL 3 to 5, SMLAL 4 to 7.
    "cortex-m3": Timing("Cortex-M3 Technical Reference Manual (Arm DDI 0337I), 3.3",
                        {**V7M, "accumulates": 1, "longs": 3, "long_accumulates": 4.5}),
    # All multiplications take one cycle.
    "cortex-m4": Timing("Cortex-M4 Technical Reference Manual (Arm 100166), 3.3", V7M),
}
SHARES: Mapping[str, tuple[str, ...]] = {
    "instructions": ("instructions",),
    "loads and stores": ("loads", "stores", "words", "delays", "interlocks", "unaligned"),
    "multiplications and divisions": ("accumulates", "longs", "long_accumulates", "divides"),
    "branches taken": ("taken",),
    "flash, for instructions": ("fetches",),
    "flash, for data": ("reads",),
}


@dataclass(frozen=True)
class Pace:
    """A core with its flash, if that makes it wait: what they take for what a program does."""

    timing: Timing
    flash: Flash | None = None

    def shares(self, events: Events) -> dict[str, float]:
        """The cycles, by where they go (SHARES)."""
        waits = float(self.flash.wait_states) if self.flash else 0.0
        each = {"instructions": 1.0, **self.timing.beyond, "fetches": waits, "reads": waits}
        return {what: sum(getattr(events, name) * each.get(name, 0.0) for name in names)
                for what, names in SHARES.items()}

    def cycles(self, events: Events) -> float:
        """All of them."""
        return sum(self.shares(events).values())

    def __str__(self) -> str:
        waits = f", and {self.flash.wait_states} wait states of the flash" if self.flash else ""
        return f"cycles by the {self.timing.source}{waits}"


def pace_of(core: str, flash: Mapping[str, int]) -> Pace:
    """The pace of a core of TIMINGS with the flash that target.yaml describes, if it does.

    Raises ConfigError where no manual is known of the core, or the flash is none (see Flash).
    """
    if core not in TIMINGS:
        raise ConfigError(f"timing: no manual is known that tells the cycles of {core!r}",
                          f"name one of {', '.join(TIMINGS)}, or give cycles_per_instruction")
    if not flash:
        return Pace(TIMINGS[core])
    names = [field.name for field in fields(Flash)]
    if wrong := sorted(flash.keys() ^ set(names)):
        raise ConfigError(f"flash: {wrong[0]!r} is missing or unknown", f"give {', '.join(names)}")
    found = Flash(**flash)
    if min(flash.values()) < 0 or not 0 < found.read_bytes <= found.line_bytes <= LARGEST_LINE:
        raise ConfigError(f"flash: none has reads of {found.read_bytes} and lines of {found.line_bytes} bytes"
                          ", or fewer than none of anything", "correct it in target.yaml")
    return Pace(TIMINGS[core], found)


def events_of(counters: Sequence[int]) -> Events:
    """The events of a row that the plugin wrote: its counters, in the order of the fields."""
    return Events(*counters)
