"""Boards with 64-bit Arm cores and Linux, as a program finds them described: /proc/cpuinfo and /sys.

The one rule: the core that QEMU emulates and the files that describe it agree, since libraries choose
their kernels by both. Cores are those whose kernels were seen to compute right: `-cpu max` is none, its
SME kernels give wrong results under QEMU 7.2.

Sources: part numbers and ways of the caches, Arm's Technical Reference Manuals (A53, A72, A76); sizes of the
caches and clocks, the makers (BCM2837, BCM2711, BCM2712: raspberrypi.com/documentation; i.MX 8M: NXP's data
sheet). android-a76 is no phone but a core as phones have it: sizes of the middle cores of Google's Tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

KIB = 1024
IMPLEMENTER = 0x41  # Arm
ARCHITECTURE = 0xF  # told by the feature registers
LINE = 64  # bytes of a line of the caches
CPU = "sys/devices/system/cpu"


@dataclass(frozen=True)
class Core:
    """A core: QEMU's name for it, its number in MIDR_EL1, what Linux says that it can do."""

    qemu: str
    part: int
    features: str


@dataclass(frozen=True)
class Cache:
    """`kind` is Data, Instruction or Unified; of `size` bytes, `ways` associative."""

    level: int
    kind: str
    size: int
    ways: int


@dataclass(frozen=True)
class LinuxBoard:
    """A board with `core`, of which one is emulated: revision rNpM is (N, M); frequencies in kHz."""

    name: str
    core: Core
    revision: tuple[int, int]
    caches: tuple[Cache, ...]
    least_khz: int
    most_khz: int

    @property
    def midr(self) -> int:
        """MIDR_EL1 of its core."""
        variant, minor = self.revision
        return IMPLEMENTER << 24 | variant << 20 | ARCHITECTURE << 16 | self.core.part << 4 | minor

    def describe(self, root: Path) -> None:
        """Write the files that describe the board below `root`."""
        for name, text in self._files():
            file = root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{text}\n", encoding="ascii")

    def _files(self) -> Iterator[tuple[str, str]]:
        yield "proc/cpuinfo", self._cpuinfo()
        for name in ("possible", "present", "online"):
            yield f"{CPU}/{name}", "0"
        yield f"{CPU}/kernel_max", "0"
        yield f"{CPU}/cpu0/regs/identification/midr_el1", f"{self.midr:#018x}"
        yield f"{CPU}/cpu0/cpufreq/cpuinfo_min_freq", str(self.least_khz)
        yield f"{CPU}/cpu0/cpufreq/cpuinfo_max_freq", str(self.most_khz)
        for name in ("core_id", "physical_package_id", "core_siblings_list", "thread_siblings_list"):
            yield f"{CPU}/cpu0/topology/{name}", "0"
        for name in ("core_siblings", "thread_siblings"):
            yield f"{CPU}/cpu0/topology/{name}", "1"
        for index, cache in enumerate(self.caches):
            for name, text in _told(cache).items():
                yield f"{CPU}/cpu0/cache/index{index}/{name}", text

    def _cpuinfo(self) -> str:
        variant, minor = self.revision
        return (f"processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: {self.core.features}\n"
                f"CPU implementer\t: {IMPLEMENTER:#x}\nCPU architecture: 8\nCPU variant\t: {variant:#x}\n"
                f"CPU part\t: {self.core.part:#x}\nCPU revision\t: {minor}\n")


def _told(cache: Cache) -> Mapping[str, str]:
    return {"level": str(cache.level), "type": cache.kind, "size": f"{cache.size // KIB}K",
            "coherency_line_size": str(LINE), "ways_of_associativity": str(cache.ways),
            "number_of_sets": str(cache.size // LINE // cache.ways), "shared_cpu_list": "0"}


def _caches(*sizes: tuple[str, int, int]) -> tuple[Cache, ...]:
    """Caches of (level and kind, KiB, ways), as in ("1d", 32, 4)."""
    kinds = {"i": "Instruction", "d": "Data", "": "Unified"}
    return tuple(Cache(int(name[0]), kinds[name[1:]], size * KIB, ways) for name, size, ways in sizes)


BASIC = "fp asimd evtstrm crc32 cpuid"
A53 = Core("cortex-a53", 0xD03, BASIC)
A72 = Core("cortex-a72", 0xD08, BASIC)
A76 = Core("cortex-a76", 0xD0B, "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid "
                                "asimdrdm lrcpc dcpop asimddp")

BOARDS: Mapping[str, LinuxBoard] = {board.name: board for board in (
    LinuxBoard("raspberry-pi-3", A53, (0, 4), _caches(("1d", 32, 4), ("1i", 32, 2), ("2", 512, 16)),
               600_000, 1_200_000),
    LinuxBoard("coral-dev-board", A53, (0, 4), _caches(("1d", 32, 4), ("1i", 32, 2), ("2", 1024, 16)),
               500_000, 1_500_000),
    LinuxBoard("raspberry-pi-4", A72, (0, 3), _caches(("1d", 32, 2), ("1i", 48, 3), ("2", 1024, 16)),
               600_000, 1_500_000),
    LinuxBoard("raspberry-pi-5", A76, (4, 1),
               _caches(("1d", 64, 4), ("1i", 64, 4), ("2", 512, 8), ("3", 2048, 16)), 1_500_000, 2_400_000),
    LinuxBoard("android-a76", A76, (4, 1),
               _caches(("1d", 64, 4), ("1i", 64, 4), ("2", 256, 8), ("3", 4096, 16)), 400_000, 2_250_000),
)}
