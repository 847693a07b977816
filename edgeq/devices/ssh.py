"""A Linux board over ssh, by the system's OpenSSH client: its keys, its settings, its host keys.

The one rule: what a user's own `ssh` would ask about is refused here: an unknown host key, a password, a
passphrase. What runs on the board, and the folder that it runs in, ends when the connection does.
"""

from __future__ import annotations

import re
import shlex
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgeq import tool
from edgeq.devices import conditions
from edgeq.devices.device import Fact, full, held, see_arrived, see_pulled, sums
from edgeq.devices.ssh_faults import fault
from edgeq.errors import ConfigError, DeviceError, ToolError

ADDRESS = re.compile(r"(?:(?P<user>[A-Za-z0-9_][\w.-]*)@)?(?P<host>[A-Za-z0-9][\w.-]*|\[[0-9A-Fa-f:.%\w]+\])"
                     r"(?::(?P<port>\d{1,5}))?")
FOLDER = re.compile(r"^edgeq-folder=(/[\w./+-]+)$", re.MULTILINE)
BEGAN = "edgeq-began\n"  # after whatever a login prints
ENDED = re.compile(r"(?:^|\n)edgeq-status=(\d+)\n(?!.*\nedgeq-status=)", re.DOTALL)
SPACE = re.compile(r"^\S.*?\s(\d+)\s+(\d+)\s+(-?\d+)\s+\d+%", re.MULTILINE)  # of df -Pk
NO_SFTP = re.compile(r"subsystem request failed|scp: Connection closed", re.IGNORECASE)
PATIENCE_S, TRANSFER_S = 20.0, 600.0
OPTIONS = {
    "BatchMode": "yes", "StrictHostKeyChecking": "yes", "UpdateHostKeys": "no", "ConnectTimeout": "15",
    "ServerAliveInterval": "5", "ServerAliveCountMax": "3", "LogLevel": "ERROR", "RequestTTY": "no",
    "ClearAllForwardings": "yes", "ForwardAgent": "no", "ForwardX11": "no", "PermitLocalCommand": "no",
    "RemoteCommand": "none", "ControlPersist": "no",
}
# Makes the work folder, waits for the end of the connection, and takes away all that is left.
HOLD = r"""
umask 077; d=$(mktemp -d "${1:-${TMPDIR:-/tmp}}/edgeq.XXXXXX") || exit 1; trap : HUP INT TERM PIPE
echo "edgeq-folder=$d"; cat >/dev/null
for p in "$d"/.pid.*; do [ -f "$p" ] || continue; n=${p##*.}; kill -9 "-$n" || kill -9 "$n"
done 2>/dev/null; rm -rf "$d"
"""
# Runs words in the folder, and says how they ended: so that is told from how the connection did.
RUN = r"""
exec 2>&1; cd "$1" || exit; shift; : >".pid.$$"; echo edgeq-began; "$@" </dev/null; s=$?; rm -f ".pid.$$"
echo; echo "edgeq-status=$s"
"""
FACTS = conditions.SCRIPT + r"""
for f in /proc/device-tree/model /sys/devices/virtual/dmi/id/product_name; do
[ -r "$f" ] && { printf 'model='; tr -d '\000\n' <"$f"; echo; break; }; done
[ -r /etc/os-release ] && (. /etc/os-release; echo "system=$PRETTY_NAME")
t=$(vcgencmd get_throttled 2>/dev/null) || t=
[ -n "$t" ] || t=throttled=0x$(cat /sys/devices/platform/soc/soc:firmware/get_throttled 2>/dev/null)
echo "$t"
for c in /sys/class/thermal/cooling_device*; do case "$(cat "$c/type" 2>/dev/null)" in *cpufreq*)
echo "cooling=$(cat "$c/cur_state")";; esac; done
"""
THROTTLED = re.compile(r"^throttled=(0x[0-9a-fA-F]+)$", re.MULTILINE)
COOLING = re.compile(r"^cooling=[1-9]\d*$", re.MULTILINE)
# https://www.raspberrypi.com/documentation/computers/os.html#get_throttled: what holds now, and 16 bits above
# what has happened since the start.
CAUSES = {0: "its voltage is too low", 1: "its frequency is capped", 2: "its frequency is held down",
          3: "it is at its soft limit of temperature"}


@dataclass(frozen=True)
class Login:
    """How a board is reached: `address` is user@host[:port], a host of ~/.ssh/config among them.

    `identity` is a private key, `known_hosts` a file of host keys in the place of the user's own, `folder`
    where on the board the work folder goes, else its $TMPDIR, else its /tmp; `launcher` are words before each
    program that is run there.
    """

    address: str
    identity: str = ""
    known_hosts: str = ""
    folder: str = ""
    launcher: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[str, str, str]:
        """User, host and port, empty where they are not given; ConfigError for what is no address."""
        match = ADDRESS.fullmatch(self.address)
        if not match or int(match["port"] or 22) > 65535:
            raise ConfigError(f"{self.address!r} is no address of a board",
                              "write user@host, or user@host:port")
        return match["user"] or "", match["host"], match["port"] or ""

    def options(self) -> list[str]:
        """The words for ssh and scp that hold for every call."""
        given = dict(OPTIONS)
        for name, path in (("IdentityFile", self.identity), ("UserKnownHostsFile", self.known_hosts)):
            if path:
                given[name] = _quoted(path)
        if self.identity:
            given["IdentitiesOnly"] = "yes"
        if self.known_hosts:
            given["GlobalKnownHostsFile"] = "/dev/null"
        return [word for name, value in given.items() for word in ("-o", f"{name}={value}")]


@dataclass(frozen=True)
class Board:
    """A board that is connected: a Device."""

    login: Login
    control: Path
    folder: str
    connection: tool.Kept

    @property
    def name(self) -> str:
        """What errors call it."""
        return f"the board {self.login.address}"

    def push(self, files: Mapping[str, Path]) -> None:
        """As Device has it; DeviceError where the board has no room for all of them, before they are sent."""
        self._see_room(sum(file.stat().st_size for file in files.values()))
        links = Path(tempfile.mkdtemp(dir=self.control))
        for name, file in files.items():
            (links / name).symlink_to(file.resolve())
        self._copied([*(links / name for name in files), self._remote("")], "took no files")
        told = self._asked(f"chmod 700 {shlex.join(files)} && {sums([*files])}", TRANSFER_S)
        see_arrived(self.name, told.output, files)

    def run(self, words: Sequence[str], timeout_s: float) -> tool.Finished:
        """As Device has it, behind the login's launcher."""
        return self._ran([*self.login.launcher, *words], timeout_s)

    def pull(self, name: str, place: Path) -> None:
        """As Device has it."""
        self._copied([self._remote(name), place], f"did not give back {name}")
        see_pulled(self.name, self._asked(sums([name]), TRANSFER_S).output, name, place)

    def facts(self) -> Mapping[str, Fact]:
        """As Device has it: with a launcher, `abi` is what that runs: aarch64."""
        output = self._asked(FACTS, PATIENCE_S * 2).output
        facts = conditions.read(output)
        for name in ("model", "system"):
            if match := re.search(rf"^{name}=(.+)$", output, re.MULTILINE):
                facts[name] = match[1].strip()
        if match := THROTTLED.search(output):
            facts["throttled_bits"] = int(match[1], 16)
        if why := slowed(output):
            facts["throttling"] = why
        if self.login.launcher:
            facts |= {"abi": "aarch64", "machine": facts.get("abi", ""), "launcher": self.login.launcher[0]}
        return facts

    def _asked(self, script: str, timeout_s: float) -> tool.Finished:
        return self._ran(["/bin/sh", "-c", script], timeout_s)

    def _ran(self, words: Sequence[str], timeout_s: float) -> tool.Finished:
        """How `words` ended on the board, and what they printed; DeviceError where the line went first."""
        argv = [*_ssh(self.login, self.control), _script(RUN, self.folder, *words)]
        name = f"{words[0]} on {self.name}"
        try:
            finished = tool.run(argv, timeout_s=timeout_s, cwd=self.control, name=name)
        except ToolError as error:
            raise DeviceError(error.message, error.hint) from error
        output = finished.output.partition(BEGAN)[2]
        ended = ENDED.search(output)
        if ended is None:
            raise self._lost(finished)
        return tool.Finished(int(ended[1]), output[:ended.start()])

    def _copied(self, words: Sequence[str | Path], what: str) -> None:
        """Copy by scp: by SFTP, and where a board has none by scp's own protocol."""
        port = self.login.parts[2]
        shared = [_client("scp"), *self.login.options(), "-o", f"ControlPath={_quoted(self.control / 's')}",
                  *(("-P", port) if port else ())]
        for protocol in ((), ("-O",)):
            argv = [*shared, *protocol, *words]
            try:
                finished = tool.run(argv, timeout_s=TRANSFER_S, cwd=self.control, name="scp")
            except ToolError as error:
                raise DeviceError(f"{self.name} {what}: {error.message}", error.hint) from error
            if not finished.status:
                return
            if not NO_SFTP.search(finished.output) or self.connection.status() is not None:
                break
        if self.connection.status() is not None:
            raise self._lost(finished)
        self._see_room(0)
        raise full(self.name, finished.output) or DeviceError(
            f"{self.name} {what}", tool.tail(finished.output))

    def _see_room(self, size: int) -> None:
        """See that `size` bytes, and a little, have room in the work folder."""
        match = SPACE.search(self._asked("df -Pk .", PATIENCE_S).output)
        free = int(match[3]) * 1024 if match else size + 1
        if free <= size:
            raise DeviceError(f"{self.name} has too little space for {self.folder}: {free} bytes are free, "
                              f"{size} are wanted",
                              "free some, or name another folder of it as `folder:` in target.yaml")

    def _lost(self, finished: tool.Finished) -> DeviceError:
        """The error of a line that went away in mid-run, with what ssh last said."""
        said = f"{finished.output}\n{self.connection.said()}"
        return DeviceError(f"the connection to {self.name} was lost in mid-run",
                           f"see that it is up and was not started anew; {tool.tail(FOLDER.sub('', said))}")

    def _remote(self, name: str) -> str:
        user, host, _ = self.login.parts
        return f"{user}@{host}:{self.folder}/{name}" if user else f"{host}:{self.folder}/{name}"


@contextmanager
def opened(login: Login) -> Iterator[Board]:
    """The board at `login`, with a work folder that goes when the block ends, or the connection does.

    Raises DeviceError where it cannot be reached, is not the one that it was, or lets nobody in; ToolError
    where this machine has no ssh client.
    """
    _see_files(login)
    with held(f"ssh {login.address}"), tempfile.TemporaryDirectory(prefix="edgeq-") as place:
        control = Path(place)
        argv = [*_ssh(login, control, "-M"), _script(HOLD, login.folder)]
        with tool.kept(argv, cwd=control, patience_s=PATIENCE_S, name="ssh") as connection:
            yield Board(login, control, _folder(login, connection), connection)


def slowed(output: str) -> str:
    """Why the board runs slower than it could, by what it told; empty where it does not."""
    match = THROTTLED.search(output)
    bits = int(match[1], 16) if match else 0
    causes = [cause for bit, cause in CAUSES.items() if bits >> bit & 1]
    if not causes and COOLING.search(output):
        causes = ["a cooling device holds its frequency down"]
    return ", ".join(causes)


def happened(before: Mapping[str, Fact], after: Mapping[str, Fact]) -> str:
    """Why a Raspberry Pi was slow between two tellings of its facts, though it may be over; empty if not."""
    first, last = (int(facts.get("throttled_bits", 0)) >> 16 for facts in (before, after))
    causes = [cause for bit, cause in CAUSES.items() if (last & ~first) >> bit & 1]
    return f"it was throttled in the run ({', '.join(causes)})" if causes else ""


def _folder(login: Login, connection: tool.Kept) -> str:
    """The work folder, once the connection has made it."""
    until = time.monotonic() + 2 * PATIENCE_S
    while time.monotonic() < until:
        ended = connection.status() is not None
        said = connection.said()
        if match := FOLDER.search(said):
            return match[1]
        if ended:
            raise fault(login.address, said) or DeviceError(
                f"no folder could be made in {login.folder or '$TMPDIR'} on the board {login.address}",
                f"name one that can be written as `folder:` in target.yaml; {tool.tail(said)}")
        time.sleep(0.01)
    raise DeviceError(f"the board {login.address} did not answer for {2 * PATIENCE_S:g} s",
                      tool.tail(connection.said()))


def _ssh(login: Login, control: Path, *more: str) -> list[str | Path]:
    """The words before a command; more than one connection shares the first one's."""
    user, host, port = login.parts
    return [_client("ssh"), *login.options(), "-S", control / "s", *more, *(("-p", port) if port else ()),
            *(("-l", user) if user else ()), host.strip("[]")]


def _client(name: str) -> Path:
    found = tool.find(name)
    if found is None:
        raise ToolError(f"{name} is not installed", "apt-get install openssh-client")
    return found


def _script(script: str, *words: str) -> str:
    """`script` with `words` as $1 and on, for whatever shell the user has there."""
    return f"exec /bin/sh -c {shlex.join([script, 'edgeq', *words])}"


def _see_files(login: Login) -> None:
    for name, path in (("identity", login.identity), ("known_hosts", login.known_hosts)):
        if path and not Path(path).expanduser().is_file():
            raise ConfigError(f"{name}: there is no file {path}", "correct it in target.yaml")


def _quoted(path: str | Path) -> str:
    """A path as ssh_config(5) takes it: in quotes, its tokens as they are."""
    return '"' + str(Path(path).expanduser()).replace("%", "%%") + '"'
