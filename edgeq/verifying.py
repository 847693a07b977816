"""A build's folder, checked: every file hashed again and held against report.json, manifests and SBOM.

The one rule: nothing that a file says is trusted to name a place. A path that is absolute or holds `..`, and
every link, is told and never followed.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import msgspec

from edgeq import provenance, run, sbom
from edgeq.artifact import digest_of_file
from edgeq.errors import ConfigError
from edgeq.report import SCHEMA

REPORT, JUNIT = "report.json", "report.junit.xml"
CHANGING = (run.NAME, "report.html")  # these hold the time of the run, and no digest
LOGS = "logs"
LARGEST = 1 << 28  # bytes of a JSON file
Problem = Literal["changed", "missing", "extra", "unsafe", "invalid", "disagrees"]


@dataclass(frozen=True)
class Finding:
    """What is wrong with the file at `path`, relative to the build's folder."""

    path: str
    problem: Problem
    message: str


@dataclass(frozen=True)
class Verified:
    """How many files were hashed, what was found, and folders that an earlier build left beside them."""

    files: int
    findings: tuple[Finding, ...]
    others: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether all is as it was delivered."""
        return not self.findings


@dataclass(frozen=True)
class File:
    """A delivered file in report.json."""

    path: str
    sha256: str
    bytes: int = 0


@dataclass(frozen=True)
class Job:
    """What is read of a result in report.json."""

    model: str
    target: str
    passed: bool
    recipe: str | None = None
    artifacts: tuple[File, ...] = ()


@dataclass(frozen=True)
class Reported:
    """What is read of report.json."""

    schema: str
    results: tuple[Job, ...] = ()


class _Check:
    """What was found so far: the sha256 of every file that somebody answers for, and what is wrong."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.known: dict[str, str] = {}
        self.findings: list[Finding] = []

    def tell(self, path: str, problem: Problem, message: str) -> None:
        self.findings.append(Finding(path, problem, message))


def verify(folder: Path) -> Verified:
    """Hash all of the build in `folder` again.

    Raises ConfigError where it is no folder of a build, or its report.json cannot be read whole.
    """
    report = _report(folder)
    check = _Check(folder)
    for job in report.results:
        for file in job.artifacts:
            _hash(check, file.path, file.sha256, REPORT)
    for job in report.results:
        _see_manifest(check, job)
    _see_bill(check, report)
    _see_run(check)
    others = tuple(_others(check))
    for path, link in _left(folder):
        if link:
            check.tell(path, "unsafe", "it is a link, or no plain file; nothing that is delivered is one")
        elif path not in check.known and not _expected(path, check):
            check.tell(path, "extra", "nothing answers for it")
    return Verified(len(check.known), tuple(dict.fromkeys(check.findings)), others)


def as_json(verified: Verified) -> dict[str, Any]:
    """The findings as `edgeq verify --json` prints them."""
    return {"schema": "edgeq-verify/1", "passed": verified.passed, "files": verified.files,
            "findings": [vars(finding) for finding in verified.findings], "others": list(verified.others)}


def as_text(verified: Verified) -> Iterator[str]:
    """The findings as a person reads them, a line each, the last one in sum; no control characters."""
    for finding in verified.findings:
        yield _plain(f"{finding.problem}: {finding.path}: {finding.message}")
    for folder in verified.others:
        yield _plain(f"note: {folder} is of another build: held against its own manifest alone")
    wrong = len(verified.findings)
    yield f"{verified.files} files hashed: {f'{wrong} findings' if wrong else 'all as they were delivered'}"


def _report(folder: Path) -> Reported:
    path = folder / REPORT
    if not folder.is_dir() or not _is_plain(path):
        raise ConfigError(f"{folder} is no folder of a build: it has no {REPORT}",
                          "name the folder that `edgeq build` wrote (--output-dir)")
    try:
        reported = msgspec.convert(_parsed(path), Reported)
    except ValueError as error:
        raise ConfigError(f"{path} is cut short or no report: {error}", "build again") from error
    if reported.schema != SCHEMA:
        raise ConfigError(f"{path} is of schema {reported.schema!r}, and this edgeq reads {SCHEMA}",
                          "build again with this edgeq")
    return reported


def _parsed(path: Path) -> Any:
    """The JSON in a file; ValueError where it is none."""
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"it has more than {LARGEST} bytes")
        return json.loads(path.read_bytes())
    except (OSError, RecursionError) as error:
        raise ValueError(str(error)) from error


def _hash(check: _Check, path: str, sha256: str, stated: str) -> None:
    """Hold the file at `path` against the `sha256` that is `stated` somewhere."""
    if reason := _unsafe(check.folder, path):
        check.tell(path, "unsafe", f"{stated} names it, and {reason}")
        return
    if path not in check.known:
        if not _is_plain(check.folder / path):
            check.tell(path, "missing", f"{stated} has it")
            return
        check.known[path] = digest_of_file(check.folder / path)
    if check.known[path] != sha256:
        check.tell(path, "changed", f"its sha256 is {check.known[path]}, and {stated} has {sha256}")


def _see_manifest(check: _Check, job: Job) -> None:
    """See that the manifest of `job` is a valid statement, and says what report.json says."""
    listed = {file.path: file.sha256 for file in job.artifacts}
    place = _place_of_manifest(listed, job)
    if place is None:
        if listed:
            check.tell(next(iter(listed)), "disagrees", f"{REPORT} has no {provenance.NAME} beside it")
        return
    told = _manifest(check, place)
    if told is None:
        return
    prefix = place.removesuffix(provenance.NAME)
    own = {f"{prefix}{name}": sha256 for name, sha256 in told.files.items()}
    for path in sorted({path for path, _ in own.items() ^ listed.items()} - {place}):
        check.tell(path, "disagrees", f"{place} and {REPORT} do not have the same sha256 of it")
    _see_parameters(check, job, place, told.says)


def _place_of_manifest(listed: Iterable[str], job: Job) -> str | None:
    """Which of the files `listed` is the manifest of `job`; None where none is."""
    depth = 3 if job.passed else 4
    places = (path for path in map(PurePosixPath, listed) if path.name == provenance.NAME)
    return next((str(path) for path in places if len(path.parts) == depth), None)


def _see_parameters(check: _Check, job: Job, place: str, says: Mapping[str, Any]) -> None:
    """See that a manifest means the job that report.json means."""
    wanted = {"model": job.model, "target": job.target, "recipe": job.recipe, "passed": job.passed}
    for key in wanted.keys() & says.keys():
        if says[key] != wanted[key]:
            check.tell(place, "disagrees", f"{key} is {says[key]!r}, and {REPORT} has {wanted[key]!r}")


@dataclass(frozen=True)
class _Told:
    """What a manifest says: sha256 of files by their place beside it, and its parameters."""

    files: Mapping[str, str]
    says: Mapping[str, Any]


def _manifest(check: _Check, place: str) -> _Told | None:
    """The manifest at `place`, where it is a valid statement."""
    if place not in check.known:
        return None  # missing or unsafe: that is told
    try:
        content = _parsed(check.folder / place)
        provenance.see_valid(content)
        definition = content["predicate"]["buildDefinition"]
        return _Told({subject["name"]: subject["digest"]["sha256"] for subject in content["subject"]},
                     {**definition["externalParameters"], **definition["internalParameters"]})
    except (ValueError, KeyError, TypeError) as error:
        check.tell(place, "invalid", f"it is no in-toto statement of edgeq's: {error}")
        return None


def _see_bill(check: _Check, report: Reported) -> None:
    """See that the SBOM is valid, and has the files that report.json has, and report.json itself."""
    if not _is_plain(check.folder / sbom.NAME):
        check.tell(sbom.NAME, "missing", "every build has one")
        return
    try:
        bill = _parsed(check.folder / sbom.NAME)
        sbom.see_valid(bill)
        listed = sbom.files_in(bill)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        check.known[sbom.NAME] = ""
        check.tell(sbom.NAME, "invalid", f"it is no CycloneDX bill of edgeq's: {error}")
        return
    check.known[sbom.NAME] = digest_of_file(check.folder / sbom.NAME)
    for path, sha256 in listed.items():
        _hash(check, path, sha256, sbom.NAME)
    wanted = {file.path for job in report.results for file in job.artifacts} | {REPORT, JUNIT}
    for path in sorted(wanted ^ listed.keys()):
        check.tell(path, "disagrees", f"{sbom.NAME} and {REPORT} do not both have it")


def _see_run(check: _Check) -> None:
    """See that run.json is there, and tells of a run."""
    place = check.folder / run.NAME
    if not _is_plain(place):
        check.tell(run.NAME, "missing", "every build has one")
        return
    try:
        run.read(place)
    except ConfigError as error:
        check.tell(run.NAME, "invalid", error.message)


def _others(check: _Check) -> Iterator[str]:
    """The folders that another build left, each held against its own manifest."""
    for path, link in [*_left(check.folder)]:
        place = PurePosixPath(path)
        if not link and place.name == provenance.NAME and path not in check.known and _depth(place) == 2:
            check.known[path] = digest_of_file(check.folder / path)
            told = _manifest(check, path)
            for name, sha256 in told.files.items() if told else ():
                _hash(check, f"{place.parent}/{name}", sha256, path)
            yield str(place.parent)


def _expected(path: str, check: _Check) -> bool:
    """Whether a file that no digest is kept of may be there: it tells the time of a run, or is a log."""
    place = PurePosixPath(path)
    beside = place.parent.parent / provenance.NAME
    return path in CHANGING or (place.parent.name == LOGS and place.suffix == ".log"
                                and str(beside) in check.known)


def _depth(place: PurePosixPath) -> int:
    """How many folders lead to a file, the one for what failed apart."""
    return len(place.parts) - 1 - (place.parts[0] == "failed")


def _left(folder: Path) -> Iterator[tuple[str, bool]]:
    """All files and links below `folder`, links not followed: the path, and whether it is no plain file."""
    for place, folders, files in os.walk(folder):
        for name in sorted((*folders, *files)):
            path = Path(place) / name
            if path.is_symlink() or not path.is_dir():
                yield path.relative_to(folder).as_posix(), not _is_plain(path)


def _unsafe(folder: Path, path: str) -> str:
    """Why `path` must not be opened below `folder`; empty where it may."""
    place = PurePosixPath(path)
    if not place.parts or place.is_absolute() or "\0" in path or ".." in place.parts or str(place) != path:
        return "it is no plain path below the build's folder"
    steps = (Path(*place.parts[:count]) for count in range(1, len(place.parts) + 1))
    if any((folder / step).is_symlink() for step in steps):
        return "a link stands on the way"
    return ""


def _is_plain(path: Path) -> bool:
    """Whether a regular file is there, which is no link."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (OSError, ValueError):
        return False


def _plain(text: str) -> str:
    """`text` with what is no printable character escaped: names are the file system's."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
