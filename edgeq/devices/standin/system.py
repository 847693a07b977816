"""The stand-in phone's own system: a folder with a shell, what a phone is asked by, and an Arm board's files.

The one rule: programs in it see no file of the host's but the C library for arm64 and what runs it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from edgeq import tool
from edgeq.devices.standin import state
from edgeq.devices.standin.busybox import busybox
from edgeq.devices.standin.loader import extract
from edgeq.devices.standin.scripts import SCRIPTS
from edgeq.devices.standin.state import State
from edgeq.emulation import user_mode
from edgeq.emulation.linux_boards import LinuxBoard
from edgeq.errors import ToolError

FOLDERS = ("bin", "dev", "data/local/tmp", "etc", "host-rootfs", "lib", "proc", "sys", "system/bin",
           "system/etc", "tmp")
PRELOADED, LOADER = "etc/ld.so.preload", "tmp/loader"
DEVICES, TERMINALS = ("/dev/null", "/dev/zero", "/dev/urandom"), ("/dev/ptmx", "/dev/pts")
LIBRARIES = Path("/usr/aarch64-linux-gnu/lib")
HOST = tuple(map(Path, ("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/alternatives")))


def make(root: Path, board: LinuxBoard, condition: State) -> None:
    """Make the system of a phone with the core of `board`, in `condition`, in the empty folder `root`."""
    for name in FOLDERS:
        (root / name).mkdir(parents=True)
    for place in (PRELOADED, *DEVICES):  # what proot binds must be there: else it makes it in /tmp
        (root / place.lstrip("/")).touch()
    extract(_proot(), root / LOADER)
    shutil.copy(busybox(), root / "bin/busybox")
    (root / "bin/sh").symlink_to("busybox")
    board.describe(root)
    for name, text in SCRIPTS.items():
        (root / "system/bin" / name).write_text(text, encoding="utf-8")
        (root / "system/bin" / name).chmod(0o755)
    state.write(root, condition)


def argv(root: Path, board: LinuxBoard) -> list[str]:
    """What runs a shell of the system at `root` on the emulated core of `board`; its words follow."""
    if not LIBRARIES.is_dir():
        raise ToolError(f"{LIBRARIES} is not there: the C library for arm64",
                        "apt-get install libc6-dev-arm64-cross")
    bound = [f"--bind={place}" for place in DEVICES] + [f"--bind={LIBRARIES}:/lib"]
    return [str(_proot()), "-q", f"{user_mode.program()} -cpu {board.core.qemu}", "-r", str(root), *bound,
            "-w", "/", "-v", "-1", "/bin/busybox", "sh", "-c"]


def environment(root: Path) -> dict[str, str]:
    """What a shell of the system at `root` finds in its environment."""
    loader = {"PROOT_LOADER": str(root / LOADER)} if (root / LOADER).exists() else {}
    return loader | {"PATH": "/system/bin:/bin", "HOME": "/", "TMPDIR": "/data/local/tmp",
            "PROOT_TMP_DIR": str(root / "tmp")}


def programs() -> tuple[Path, ...]:
    """What a phone is made of; ToolError with what to install, or to fetch, where something is missing."""
    return (_proot(), user_mode.program(), busybox())


def _proot() -> Path:
    path = tool.find("proot")
    if path is None:
        raise ToolError("proot is not installed, which the stand-in phone runs by", "apt-get install proot")
    return path
