"""The adb server of this machine, and which of the phones that it sees is meant.

The one rule: the server that runs is used as it is; one is started only where there is none. It is found by
adb's own variables, ANDROID_ADB_SERVER_HOST and ANDROID_ADB_SERVER_PORT.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeq import tool
from edgeq.decode import meant
from edgeq.devices.device import cleaned
from edgeq.devices.standin.state import State
from edgeq.errors import DeviceError, ToolError

OLDEST = 39  # the server of platform-tools 26 (2017): those before lack the exit status of a shell
INSTALL = "apt-get install adb, or unpack Google's platform-tools and set ADB to its adb"
UDEV = "apt-get install android-sdk-platform-tools-common, be in the group plugdev, and plug it in again"
LOOPBACK, STAND_IN = "127.0.0.1:", re.sub(r"\W", "_", State.model)  # as adb lists it
START_S, CONNECT_S = 30.0, 20.0
HEADING = "List of devices attached"
STATES: Mapping[str, tuple[str, str]] = {
    "unauthorized": ("does not trust this computer", "unlock it, and confirm the question on its screen"),
    "authorizing": ("has not said yet whether it trusts this computer",
                    "unlock it, confirm the question on its screen, and build again"),
    "offline": ("is attached but does not answer", "plug it in again, or run `adb reconnect offline`"),
    "no": ("may not be opened by this user", UDEV),
    "connecting": ("is still connecting", "wait a moment, and build again"),
}


def client() -> Any:
    """The adb server as adbutils talks to it; ToolError where adb is missing or too old."""
    from adbutils import AdbClient
    from adbutils.errors import AdbError

    server = AdbClient(socket_timeout=CONNECT_S)
    try:
        if not _runs(server):
            _start()
        version = server.server_version()
    except (AdbError, OSError, ValueError) as error:
        raise ToolError(f"the adb server at {server.host}:{server.port} does not answer: {error}",
                        "run `adb kill-server`, and build again") from error
    if version < OLDEST:
        raise ToolError(f"the adb server is too old: version {version}, and {OLDEST} is wanted",
                        f"{INSTALL}; then run `adb kill-server`")
    return server


def adb_program() -> Path:
    """The adb client ($ADB, or on the PATH); ToolError with what to install where it is missing."""
    program = tool.find("adb")
    if program is None:
        raise ToolError("adb is not installed", INSTALL)
    return program


def chosen(server: Any, address: str) -> str:
    """The serial number of the phone that is meant, which answers.

    That is `address`, else $ANDROID_SERIAL, else the only one attached. Raises DeviceError where it is not
    there, does not answer or trust this computer, or none is named and there are several.
    """
    named = address or os.environ.get("ANDROID_SERIAL", "")
    attached = {info.serial: info.state for info in server.list()} if named else phones()
    if not named and len(attached) != 1:
        raise _several(attached) if attached else DeviceError(
            "no phone is attached", "plug one in with USB debugging on, and see that `adb devices` lists it")
    serial = named or next(iter(attached))
    if serial not in attached:
        raise DeviceError(f"no phone {serial!r} is attached{meant(serial, attached)}",
                          "see `adb devices` for the serial numbers of those that are")
    state = attached[serial]
    if state != "device":
        what, hint = STATES.get(state, (f"is in the state {state!r}", "start Android on it, and build again"))
        raise DeviceError(f"the phone {serial} {what}", hint)
    return serial


def phones() -> Mapping[str, str]:
    """Serial numbers -> states of the phones that the server sees, in whatever state; errors as `client`.

    Stand-ins are none: other builds may be at work with them, or may have ended without letting go of them.
    """
    listed = tool.run([adb_program(), "devices", "-l"], timeout_s=START_S, cwd=Path("/"))
    if listed.status:
        raise ToolError("the adb server does not answer",
                        f"run `adb kill-server`; {tool.tail(listed.output)}")
    rows = [line.split() for line in listed.output.partition(HEADING)[2].splitlines()]
    return {serial: state for serial, state, *tags in filter(None, rows)
            if f"model:{STAND_IN}" not in tags
            and (state == "device" or not serial.startswith(LOOPBACK))}


@contextmanager
def connected(server: Any, address: str) -> Iterator[None]:
    """A phone at host:port of the network, connected for as long as the block where it was not before."""
    if ":" not in address or any(info.serial == address for info in server.list()):
        yield
        return
    with cleaned(lambda: server.disconnect(address)):
        _connect(server, address)
        yield


def _connect(server: Any, address: str) -> None:
    from adbutils.errors import AdbError

    try:
        told = str(server.connect(address, timeout=CONNECT_S))
        if "connected to" not in told and "authenticate" not in told:
            raise DeviceError(f"the phone at {address} cannot be reached: {told}",
                              "see that it is on, on this network, and listens (`adb tcpip 5555`)")
    except AdbError as error:
        raise DeviceError(f"the phone at {address} does not answer: {error}",
                          "see that it is on, and that this is its address") from error


def _several(attached: Mapping[str, str]) -> DeviceError:
    listed = ", ".join(serial if state == "device" else f"{serial} ({state})"
                       for serial, state in attached.items())
    return DeviceError(f"{len(attached)} phones are attached, and none is named: {listed}",
                       "name one by --device SERIAL or in ANDROID_SERIAL")


def _runs(server: Any) -> bool:
    with socket.socket() as line:
        line.settimeout(1)
        return line.connect_ex((server.host, server.port)) == 0


def _start() -> None:
    """Start the server, which outlives this process as it does every other that uses it."""
    finished = tool.run([adb_program(), "start-server"], timeout_s=START_S, cwd=Path("/"))
    if finished.status:
        raise ToolError("the adb server did not start", tool.tail(finished.output))
