"""The plugins of QEMU that count: each compiled once a version of its source, then kept."""

from __future__ import annotations

import tempfile
from pathlib import Path

from edgeq import tool
from edgeq.artifact import digest_of_file
from edgeq.emulation.boards import SOURCES
from edgeq.errors import ToolError

COUNT, EVENTS = SOURCES / "count.c", SOURCES / "events.c"
FLAGS = ("-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror")


def built(source: Path = COUNT) -> Path:
    """The plugin of `source`, compiled, in the user's cache; ToolError where it cannot be compiled."""
    place = tool.cache() / f"{source.stem}-{digest_of_file(source)[:16]}.so"
    if not place.exists():
        compiler = tool.find("gcc") or tool.find("cc")
        if compiler is None:
            raise ToolError("gcc is not installed, and instructions are counted by a plugin that it compiles",
                            "apt-get install gcc libc6-dev")
        try:
            _compile(compiler, source, place)
        except OSError as error:
            raise ToolError(f"{place.parent} cannot be written: {error.strerror}",
                            "set XDG_CACHE_HOME to a folder that can") from error
    return place


def _compile(compiler: Path, source: Path, place: Path) -> None:
    """Into a folder of its own, then to its place: another process may be at it, too."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as work:
        draft = Path(work) / place.name
        finished = tool.run([compiler, *FLAGS, source, "-o", draft], timeout_s=60, cwd=Path(work))
        if finished.status:
            raise ToolError("the plugin that counts instructions could not be compiled",
                            tool.tail(finished.output))
        draft.replace(place)
