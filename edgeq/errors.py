"""Every error a user can meet: what was found, what was wanted, and what to do.

The command line prints the message and its hint and exits with its code. Raise one of these for
what the user can mend; a bug travels as it is.
"""

from __future__ import annotations

from typing import ClassVar, Literal

Kind = Literal["config", "tool", "device"]


class EdgeqError(Exception):
    """What went wrong, in a sentence; `hint` says what to do about it.

    Both are positional, so that an error survives the way back from a worker process.
    """

    exit_code: ClassVar[int] = 1
    kind: ClassVar[Kind] = "tool"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class ConfigError(EdgeqError):
    """The configuration, a file that it names, or the call is wrong."""

    exit_code = 2
    kind = "config"


class Refused(EdgeqError):
    """The model cannot be had this way on this target: a result, not a failure of a tool."""

    exit_code = 1


class ToolError(EdgeqError):
    """A tool or package is missing, crashed, hung, or wrote what cannot be read."""

    exit_code = 3


class DeviceError(ToolError):
    """A phone or board is missing, unreachable, full, of another kind, or failed in mid-run."""

    kind = "device"


class NotMade(ToolError):
    """The store was asked for what it does not have, and is not allowed to make it."""
