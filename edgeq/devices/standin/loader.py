"""What proot starts programs by: a small ELF file within proot's own, which it writes to /tmp on every start.

Where proot may write nothing but the phone's folder it must find that file made: proot takes it from
PROOT_LOADER. Newer ones write it below PROOT_TMP_DIR instead, and take this one just as well.
"""

from __future__ import annotations

import struct
from pathlib import Path

ELF = b"\x7fELF\x02\x01\x01"  # 64 bits, little-endian
EXECUTABLE = 2
KIND, SECTIONS, COUNT = 16, 40, 58  # e_type and e_machine, e_shoff, e_shentsize and e_shnum


def embedded(program: bytes) -> bytes:
    """The executable that is embedded in the ELF file `program`, for its machine; empty where none is."""
    machine = struct.unpack_from("<H", program, KIND + 2)[0]
    place = program.find(ELF, 1)
    while place > 0:
        kind = struct.unpack_from("<HH", program, place + KIND)
        if kind == (EXECUTABLE, machine):
            sections = struct.unpack_from("<Q", program, place + SECTIONS)[0]
            size, count = struct.unpack_from("<HH", program, place + COUNT)
            return program[place:place + sections + size * count]
        place = program.find(ELF, place + 1)
    return b""


def extract(proot: Path, place: Path) -> bool:
    """Write what is embedded in `proot` to `place`, to be run; whether there was any."""
    found = embedded(proot.read_bytes())
    if found:
        place.write_bytes(found)
        place.chmod(0o755)
    return bool(found)
