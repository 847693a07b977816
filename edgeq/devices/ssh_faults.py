"""What OpenSSH's client complains of, as errors that say what to do.

The one rule: a board's host key is never taken on trust here; how to look at it first is told.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from edgeq.devices.device import full
from edgeq.errors import ConfigError, DeviceError, EdgeqError, ToolError

CHANGED = "REMOTE HOST IDENTIFICATION HAS CHANGED"
UNKNOWN = re.compile(r"No (\S+ )?host key is known for|Host key verification failed")
CONFIGURED = re.compile(r"Bad configuration option|Bad owner or permissions|\d+ bad configuration options")
NAMED = ("see that it is on, and correct its address; a name in .local needs mDNS on this machine, "
         "its IP address does not")
SERVED = "switch its ssh server on (Raspberry Pi OS: raspi-config, Interface Options, SSH)"
KEYED = ("put your key there (ssh-copy-id), or name one as `identity:`; a key with a passphrase must be in "
         "ssh-agent, and a password is never used")
# What ssh says -> what is wrong with the board, and what to do.
LINES: Mapping[str, tuple[str, str]] = {
    "Could not resolve hostname": ("has a name that nobody knows", NAMED),
    "Connection refused": ("is there, and has no ssh server at that port", SERVED),
    "invalid format": ("was not tried: ssh cannot read the key", "name a private key as `identity:`"),
    "error in libcrypto": ("was not tried: ssh cannot read the key", "name a private key as `identity:`"),
    "UNPROTECTED PRIVATE KEY FILE": ("was not tried: others may read the private key", "chmod 600 that key"),
    "Permission denied": ("does not let this user in", KEYED),
    "Too many authentication failures": ("does not let this user in", KEYED),
    "No route to host": ("cannot be reached", "see that it is on, and in the same network"),
    "Network is unreachable": ("cannot be reached", "see that this machine is in a network"),
    "timed out": ("does not answer", "see that it is on, and that no firewall is between"),
    "Unable to negotiate": ("has an ssh server too old for this client",
                            "allow its algorithms for this host in ~/.ssh/config"),
    "Connection reset": ("closed the connection", "see its log: journalctl -u ssh"),
    "Connection closed": ("closed the connection", "see its log: journalctl -u ssh"),
}


def fault(address: str, said: str) -> EdgeqError | None:
    """The error that what ssh `said` stands for; None where it says nothing that is known here."""
    board = f"the board {address}"
    if CHANGED in said:
        return DeviceError(
            f"{board} has another host key than it had: it was set up anew, or is another machine",
            f"if you know why: ssh-keygen -R {_host(address)}, and ssh to it once to see its new key")
    if UNKNOWN.search(said):
        return DeviceError(
            f"{board} has a host key that is not known here",
            "ssh to it once and compare what it shows with the board's own; or put that into a file, as "
            f"ssh-keyscan prints it for {_host(address)}, and name the file as `known_hosts:`")
    if CONFIGURED.search(said):
        return ConfigError(f"ssh does not take its own settings: {_last(said)}", "mend ~/.ssh/config")
    if "too long for Unix domain socket" in said:
        return ToolError("the folder for temporary files has too long a name for ssh",
                         "set TMPDIR to another")
    for words, (what, hint) in LINES.items():
        if words in said:
            return DeviceError(f"{board} {what}: {_last(said)}", hint)
    return full(board, said) or (ToolError(_last(said), "see `ssh -V`") if "ssh:" in said else None)


def _host(address: str) -> str:
    """The host as known_hosts has it: `[host]:port` where the port is another."""
    host, colon, port = address.rpartition("@")[2].partition(":")
    return f"'[{host}]:{port}'" if colon and not host.startswith("[") else host


def _last(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
