"""Keeping a process, and all that it starts, to a few folders: Landlock, which Linux has had since 5.13.

The one rule: whatever a shell on the stand-in phone is told, `rm -rf /` among it, nothing outside of the
phone's own folder is written, nothing of the user's is read, and no other process is disturbed (that
from Linux 6.12 on). Numbers: linux/landlock.h,
https://docs.kernel.org/userspace-api/landlock.html.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path

from edgeq.errors import ToolError

CREATE, ADD, RESTRICT = 444, 445, 446  # system calls, the same on every architecture
VERSION, BENEATH = 1, 1
NO_NEW_PRIVILEGES = 38
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
RIGHTS = (13, 14, 15, 15, 16)  # how many rights of the file system versions 1, 2, 3, 4 and 5 know
READ = EXECUTE | READ_FILE | READ_DIR
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | 1 << 14 | 1 << 15  # what applies to no folder
BIND, CONNECT = 1, 2  # of TCP, from the version NET on
SOCKETS, SIGNALS = 1, 2  # to processes outside, from the version SCOPED on
NET, SCOPED = 4, 6
UNCONFINED = ("EDGEQ_STANDIN", "unconfined")  # a variable of the environment, for kernels without it


def confine(written: Iterable[Path], read: Iterable[Path]) -> None:
    """Keep this process to writing below `written` and reading below these and `read`, for good.

    Raises ToolError where the kernel has no Landlock.
    """
    libc, known = ctypes.CDLL(None, use_errno=True), version()
    if known < 1:
        raise ToolError("this kernel has no Landlock, and the stand-in phone is not let loose without it",
                        "use Linux 5.13 or later with Landlock on, or attach a phone; or set "
                        f"{'='.join(UNCONFINED)} where nobody else uses this machine")
    every = (1 << RIGHTS[min(known, len(RIGHTS)) - 1]) - 1
    asked = [every, *[BIND | CONNECT] * (known >= NET), *[SOCKETS | SIGNALS] * (known >= SCOPED)]
    words = (ctypes.c_uint64 * len(asked))(*asked)
    ruleset = libc.syscall(CREATE, words, ctypes.c_size_t(ctypes.sizeof(words)), ctypes.c_uint(0))
    _see(ruleset)
    for rights, places in ((every, written), (READ, read)):
        for place in places:
            _allow(libc, ruleset, place, rights & every)
    _see(libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0))
    _see(libc.syscall(RESTRICT, ruleset, ctypes.c_uint(0)))
    os.close(ruleset)


def version() -> int:
    """The version of this kernel's Landlock; less than 1 where it has none."""
    found: int = ctypes.CDLL(None).syscall(CREATE, None, ctypes.c_size_t(0), ctypes.c_uint(VERSION))
    return found


def _allow(libc: ctypes.CDLL, ruleset: int, place: Path, rights: int) -> None:
    """Allow `rights` below `place`, where there is such a place."""
    if not place.exists():
        return
    number = os.open(place, os.O_PATH | os.O_CLOEXEC)
    rights = rights if place.is_dir() else rights & OF_FILES
    rule = rights.to_bytes(8, "little") + number.to_bytes(4, "little")  # packed
    _see(libc.syscall(ADD, ruleset, BENEATH, ctypes.create_string_buffer(rule), ctypes.c_uint(0)))
    os.close(number)


def _see(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise ToolError(f"Landlock refused: {os.strerror(number)}", "attach a phone, or use another kernel")
