"""What the tests of Linux boards share: a board, and how the program that runs models ends there."""

from __future__ import annotations

import shutil
from pathlib import Path

from edgeq.emulation import user_mode
from edgeq.emulation.linux_boards import BOARDS
from edgeq.emulation.user_mode import UserMode
from edgeq.linux import kit as kits

RPI4 = BOARDS["raspberry-pi-4"]


def status_of(folder: Path, mode: UserMode, request: kits.Request, given: bytes) -> tuple[int, str]:
    """The exit status for a model that lies in `folder`, and what it is taken to mean."""
    for file in kits.glibc(Path(request.model)).files.values():
        shutil.copy(file, folder)
    (folder / kits.IN).write_bytes(given)
    ended = user_mode.run(kits.words(request), folder, mode)
    return ended.status, str(kits.failed(ended.status, ended.output, request))
