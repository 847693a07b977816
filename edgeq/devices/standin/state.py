"""What the stand-in phone is like, and what ails it: one small file in its own system.

The phone's `getprop` and `dumpsys`, which are scripts, read the same file, so both sides tell one story;
a test that changes it changes the phone at once.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

FILE = "system/etc/phone.conf"


@dataclass(frozen=True)
class State:
    """A phone in good health, unless told otherwise.

    `authorized` is whether it lets this computer in, `awake` whether it answers at all. It has room for
    `free_bytes` in one file, cuts a file that is pulled after `cut_after` bytes, and is gone once
    `gone_after` bytes were sent to it (each -1: never), or at once where it is `gone`.
    """

    model: str = "edgeq stand-in"
    release: str = "14"
    sdk: str = "34"
    abis: str = "arm64-v8a"
    celsius: str = "31.0"
    thermal_status: str = "0"
    battery: str = "80"
    powered: str = "true"
    authorized: bool = True
    awake: bool = True
    gone: bool = False
    free_bytes: int = -1
    cut_after: int = -1
    gone_after: int = -1


def change(root: Path, **changes: Any) -> None:
    """Change the phone whose system lies at `root`."""
    write(root, replace(read(root), **changes))


def write(root: Path, state: State) -> None:
    """Make `state` the phone's; words that a shell reads, in one step."""
    draft = root / f"{FILE}.draft"
    draft.write_text("".join(f"{name}={shlex.quote(str(value))}\n" for name, value in vars(state).items()),
                     encoding="utf-8")
    draft.replace(root / FILE)


def read(root: Path) -> State:
    """The state of the phone whose system lies at `root`."""
    kinds = {name: type(value) for name, value in vars(State()).items()}
    said = dict(word.split("=", 1) for word in shlex.split((root / FILE).read_text(encoding="utf-8")))
    read: dict[str, Any] = {name: text == "True" if kinds[name] is bool else kinds[name](text)
                            for name, text in said.items()}
    return State(**read)
