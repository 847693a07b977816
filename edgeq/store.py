"""The store: each thing is made once, under a key that says all that went into it.

A key is the digest of who makes it (a frozen dataclass: its modules and those that it runs as
`programs`, fields, packages, tools, images) and of what from (the digests of the inputs). The very values
that make the key are handed to the maker, and no others, so a key cannot forget an input. There is no
invalidation: a changed input is another key, and a step whose output came out the same does not
disturb the next.

A refusal is a result and is kept; a crash, a time-out or a missing tool never is. What a maker that is
`live` leaves, a device's answers, is made anew in every run.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import hashlib
import importlib.metadata
import inspect
import json
import os
import platform
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any

from edgeq import timings, tool
from edgeq.artifact import Artifact, Origin, digest_of, digest_of_file
from edgeq.errors import ConfigError, NotMade, Refused, ToolError
from edgeq.modules import file_of, fingerprint

STORAGE_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG)
FULL = 1 << 20  # a disk with less room than this is full
RUN = f"{time.time_ns()} {os.getpid()}"  # what a device does is kept for this run alone


@dataclass(frozen=True)
class Task:
    """One thing to be made: all that a worker needs, and nothing that is tied to this machine."""

    key: str
    maker: object
    verb: str
    inputs: tuple[object, ...]

    def __str__(self) -> str:
        return f"{type(self.maker).__name__}.{self.verb}"

    def paths(self, root: Path) -> list[object]:
        """The inputs as the maker wants them: artifacts as paths in the store at `root`."""
        return [root / each.name if isinstance(each, Artifact) else each for each in self.inputs]

    @property
    def log(self) -> str:
        """Where the output of the tools at work goes, relative to the store."""
        return f"logs/{self.key}.log"


Execute = Callable[[Task], None]


class Store:
    """A folder of finished artifacts.

    `execute` makes what is missing, in a worker or right here; without one the store is frozen:
    it finds, and writes nothing.
    """

    def __init__(self, root: Path, execute: Execute | None = None) -> None:
        self.root = root
        self._execute = execute
        self._keying = threading.Lock()  # jobs share most of what a key is made of: once is enough

    def path(self, artifact: Artifact) -> Path:
        """Where `artifact` lies on this machine."""
        return self.root / artifact.name

    def take(self, origin: Origin) -> Artifact:
        """A copy of what the user has at `origin`, by its content.

        Raises ToolError where the store cannot be written, ConfigError where `origin` cannot be
        read.
        """
        try:
            digest = _digest_of(origin)
        except OSError as error:
            raise ConfigError(f"{error.filename or origin.path} cannot be read: {error.strerror}",
                              "check that it is there and may be read") from error
        artifact = Artifact(digest, f"sources/{digest}/{_name_of(origin)}")
        if self._execute and not self.path(artifact).exists():
            with _locked(self.root, digest):
                _adopt(self.root, artifact, origin)
        return artifact

    def make(self, action: Callable[..., None], *inputs: Artifact | None) -> Artifact:
        """What `action(out, *inputs)` writes into `out`, made now only if it is not here yet.

        The maker gets the inputs as paths, in the order given.
        Raises Refused where the maker refused, now or earlier; NotMade where the store is frozen.
        """
        with self._keying:
            task = task_of(action, inputs)
        found = self._found(task)
        if found is None:
            if self._execute is None:
                raise NotMade(f"{task} is not in the store", "build without --frozen to make it")
            self._execute(task)
            found = self._found(task)
        if found is None:
            raise ToolError(f"{task} left nothing behind", f"its log: {self.root / task.log}")
        return found

    def log_of(self, artifact: Artifact) -> Path:
        """The log of the step that made `artifact`; it need not exist."""
        return self.root / "logs" / f"{Path(artifact.name).parent.name}.log"

    def _found(self, task: Task) -> Artifact | None:
        record = _record(self.root / "objects" / task.key)
        if record is None:
            return None
        if refused := record.get("refused"):
            raise Refused(*refused)
        return Artifact(record["digest"], f"objects/{task.key}/content")


def task_of(action: Callable[..., object], inputs: tuple[object, ...]) -> Task:
    """The task of calling `action`, a method of a frozen dataclass, with `inputs`."""
    maker = getattr(action, "__self__", None)
    if not (is_dataclass(maker) and not isinstance(maker, type)):
        raise TypeError(f"{action!r} is not a method of a frozen dataclass")
    said = {
        "action": f"{type(maker).__qualname__}.{action.__name__}",
        "modules": [fingerprint(Path(inspect.getfile(type(maker)))),
                    *(fingerprint(file_of(name)) for name in getattr(maker, "programs", ()))],
        "fields": vars(maker),
        **_used_by(maker),
        "cpu": cpu() if getattr(maker, "native", False) else None,
        "inputs": [value.digest if isinstance(value, Artifact) else value for value in inputs],
    }
    if getattr(maker, "live", False):
        said["run"] = RUN
    canonical = json.dumps(said, sort_keys=True, separators=(",", ":"), default=vars)
    key = hashlib.sha256(canonical.encode()).hexdigest()
    return Task(key, maker, action.__name__, inputs)


def _used_by(maker: Any) -> dict[str, Any]:
    """What `maker` has at hand that is not of edgeq: packages by version, programs and images by digest."""
    return {"packages": [(name, version(name)) for name in getattr(maker, "packages", ())],
            "tools": [tool.digest(program) for program in getattr(maker, "tools", tuple)()],
            "images": {name: image.digest for name, image in getattr(maker, "images", dict)().items()}}


def fill(root: Path, task: Task) -> None:
    """Make `task` in the store at `root`, unless it is there already.

    The draft lies under the key's lock, which the kernel lets go of when its holder dies: what a
    killed process left half done is swept away by the next one to hold the lock.
    """
    with _locked(root, task.key):
        place = root / "objects" / task.key
        if _record(place):
            return
        with _drafted(root, task.key, place) as draft:
            content = draft / "content"
            content.mkdir()
            record: dict[str, object] = {"made_by": str(task)}
            begun = time.perf_counter()
            try:
                getattr(task.maker, task.verb)(content, *task.paths(root), **_kept(root, task))
                seconds = time.perf_counter() - begun
                record["digest"] = digest = digest_of(content)
                timings.append(root, _timing(task, digest, seconds))
            except Refused as refusal:
                record["refused"] = refusal.args
            (draft / "record.json").write_text(json.dumps(record), encoding="utf-8")
        _let_go(root, task, record)


def _kept(root: Path, task: Task) -> dict[str, Path]:
    """For a maker that goes on where it was stopped: the folder that outlasts whatever stops it."""
    if not getattr(task.maker, "resumable", False):
        return {}
    partial = root / "partial" / task.key
    partial.mkdir(parents=True, exist_ok=True)
    return {"partial": partial}


def _let_go(root: Path, task: Task, record: Mapping[str, object]) -> None:
    """Remove what the maker kept to go on with; what it left beside a refusal, it left to be found."""
    partial = root / "partial" / task.key
    if "refused" not in record:
        _remove(partial)
    elif partial.exists() and not any(partial.iterdir()):
        partial.rmdir()


@functools.cache
def version(package: str) -> str:
    """The installed version of `package`; ToolError with what to install where it is missing."""
    try:
        said = importlib.metadata.distribution(package).read_text("METADATA") or ""
        found = said.partition("\nVersion: ")[2].partition("\n")[0]
        return found or importlib.metadata.version(package)  # which parses all of it as an email
    except importlib.metadata.PackageNotFoundError as error:
        raise ToolError(f"the Python package {package} is not installed",
                        f"pip install {package}, or run script/build") from error


@functools.cache
def cpu() -> tuple[str, ...]:
    """What native kernels choose their code by: the machine and the flags of its processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return (platform.machine(), platform.processor())
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return (platform.machine(), *sorted(flags.partition(":")[2].split()))


def perform(root: Path, task: Task) -> object:
    """What the maker of `task` returns, where its verb returns something and nothing is kept."""
    return getattr(task.maker, task.verb)(*task.paths(root))


def _timing(task: Task, made: str, seconds: float) -> timings.Timing:
    """What is noted of a `task` that made `made`; nothing of it goes into a key."""
    digests = (timings.short(value.digest) if isinstance(value, Artifact) else ""
               for value in task.inputs)
    return timings.Timing(str(task), timings.options_of(task.maker), tuple(digests),
                          timings.short(made), round(seconds, 3))


def _digest_of(origin: Origin) -> str:
    if not origin.only:
        return digest_of(origin.path)
    said = sorted((file.relative_to(origin.path).as_posix(), digest_of_file(file))
                  for file in origin.only)
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _name_of(origin: Origin) -> str:
    """What a copy is called: `.` and `..` have no name of their own, and code needs none."""
    named = origin.path if origin.path.name.strip(".") else origin.path.resolve()
    return "code" if origin.only else named.name


def _adopt(root: Path, artifact: Artifact, origin: Origin) -> None:
    place = root / artifact.name
    if place.exists():
        return
    with _drafted(root, artifact.digest, place) as draft:
        only = _copied(origin, draft)
        if _digest_of(Origin(draft, only)) != artifact.digest:
            raise ConfigError(f"{origin.path} was changed while it was read", "build again")


def _copied(origin: Origin, draft: Path) -> tuple[Path, ...]:
    """Copy what is at `origin` to `draft`; the copies of the files that it is limited to."""
    if origin.path.is_file():
        draft.rmdir()
        shutil.copyfile(origin.path, draft)
        return ()
    for each in origin.only or origin.path.rglob("*"):
        copy = draft / each.relative_to(origin.path)
        if each.is_dir():
            copy.mkdir(parents=True, exist_ok=True)
        else:
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(each, copy)
    return tuple(draft / file.relative_to(origin.path) for file in origin.only)


def _record(place: Path) -> dict[str, str] | None:
    try:
        record: dict[str, str] = json.loads((place / "record.json").read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    return record


@contextmanager
def _locked(root: Path, key: str) -> Iterator[None]:
    try:
        (root / "locks").mkdir(parents=True, exist_ok=True)
        descriptor = os.open(root / "locks" / key, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise _unwritable(root, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _drafted(root: Path, key: str, place: Path) -> Iterator[Path]:
    """A fresh draft folder that becomes `place`, whole and on the disk, when the block ends."""
    draft = root / "drafts" / key
    try:
        with _storage(root):
            _remove(draft)
            draft.mkdir(parents=True)
            place.parent.mkdir(parents=True, exist_ok=True)
            yield draft
            _sync(draft)
            draft.rename(place)
            _sync_one(place.parent)
    finally:
        _remove(draft)


@contextmanager
def _storage(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        written = error.filename2 or error.filename  # the second where a file was copied
        elsewhere = written and not Path(str(written)).is_relative_to(root)
        unsaid = error.errno is None  # numpy's "8 requested and 4 written"
        full = unsaid and shutil.disk_usage(root).free < FULL
        if elsewhere or not (full or error.errno in STORAGE_FAULTS):
            raise
        raise _unwritable(root, error) from error


def _unwritable(root: Path, error: OSError) -> ToolError:
    reason = error.strerror or os.strerror(errno.ENOSPC)
    return ToolError(f"the store at {root} cannot be written: {reason}",
                     "free some space there, or name another store with --store DIR")


def _remove(path: Path) -> None:
    if path.is_file():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path, ignore_errors=True)


def _sync(path: Path) -> None:
    for each in (path, *path.rglob("*")):
        _sync_one(each)


def _sync_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
