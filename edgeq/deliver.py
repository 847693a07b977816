"""What a build leaves on the disk: reports, and a folder a job with what is shipped.

    build/report.json, report.junit.xml, run.json, sbom.cdx.json
    build/TARGET/MODEL/          passed
    build/failed/TARGET/MODEL/   the best rung where none passed

Both places of a job are replaced together, so that an old pass never outlives a new failure.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from edgeq import layers, provenance, run, sbom
from edgeq.artifact import digest_of_file
from edgeq.errors import ConfigError
from edgeq.junit import junit
from edgeq.packed import PACKAGE
from edgeq.program import NOTICE, SHIP
from edgeq.quantization import DETAILS
from edgeq.report import Report, Result, as_json
from edgeq.store import Store

LINT = "lint.json"
DRAFT = ".draft-"


def ready(folder: Path, option: str = "--output-dir") -> None:
    """See that `folder` can be written, before hours are spent on what goes there.

    Raises ConfigError where it cannot, naming the `option` that says so.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(f"the output folder {folder} cannot be written: {error.strerror}",
                          f"name another with {option}") from error


def deliver(report: Report, store: Store, folder: Path) -> dict[str, Any]:
    """Write all of `report` below `folder`; returns what report.json holds."""
    with _alone(folder):
        files = {(result.target, result.model): _job(report, result, store, folder)
                 for result in report.results}
        content = as_json(report, files)
        texts = {"report.json": json.dumps(content, indent=1, allow_nan=False),
                 "report.junit.xml": junit(report)}
        for name, text in texts.items():
            write(folder / name, text)
        bill = sbom.bom(report, files, [_told(*each) for each in texts.items()], _whole(report, store))
        write(folder / sbom.NAME, json.dumps(bill, indent=1))
        write(folder / run.NAME, json.dumps(run.as_json(report.run), indent=1))
        delivered: dict[str, Any] = json.loads(texts["report.json"])
    return delivered


def write(path: Path, text: str) -> None:
    """Write `text` to `path`, a file whole or not at all; ConfigError where that cannot be."""
    draft = path.parent / f".{path.name}.{os.getpid()}"
    try:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            path.write_text(text, encoding="utf-8")  # /dev/stdout, a pipe: not ours to replace
        else:
            draft.write_text(text, encoding="utf-8")
            draft.replace(path)
    except OSError as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise ConfigError(f"{path} cannot be written: {error.strerror}",
                          "name another place for it") from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold off other builds that deliver to `folder`, and sweep up after one that was killed."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        for draft in folder.glob(f"{DRAFT}*"):
            shutil.rmtree(draft, ignore_errors=True)
        yield
    finally:
        os.close(descriptor)


def _job(report: Report, result: Result, store: Store, folder: Path) -> list[dict[str, Any]]:
    passed = folder / result.target / result.model
    failed = folder / "failed" / result.target / result.model
    place = passed if result.passed else failed
    draft = Path(tempfile.mkdtemp(prefix=DRAFT, dir=folder))
    try:
        files = _fill(draft / "new", report, result, store)
        for old in (passed, failed):
            _retire(old, draft)
        if files:
            place.parent.mkdir(parents=True, exist_ok=True)
            (draft / "new").rename(place)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror}",
                          "free some space there, or name another with --output-dir") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    prefix = place.relative_to(folder).as_posix()
    return [{**each, "path": f"{prefix}/{each['path']}"} for each in files]


def _retire(place: Path, draft: Path) -> None:
    """Take what an earlier build left at `place` out of the way, in one step."""
    if place.exists():
        place.rename(draft / f"old-{place.parent.parent.name}")
    for parent in (place.parent, place.parent.parent):
        with suppress(OSError):  # kept where other jobs still lie in it
            parent.rmdir()


def _fill(new: Path, report: Report, result: Result, store: Store) -> list[dict[str, Any]]:
    """Put what the best rung left into `new`, described; nothing where no rung left anything."""
    best = result.best
    if best is None:
        return []
    made = {name: store.path(artifact) for name, artifact in best.made.items()}
    _ship(made, new)
    layers.write(new, made)
    files = [_described(file, new) for file in sorted(new.rglob("*")) if file.is_file()]
    told = provenance.statement(report.version, result, best, files, store)
    write(new / provenance.NAME, json.dumps(told, indent=1))
    _keep_logs({name: store.log_of(artifact) for name, artifact in best.made.items()}, new / "logs")
    return [*files, _described(new / provenance.NAME, new)]


def _ship(made: Mapping[str, Path], new: Path) -> None:
    """What is taken along: the program, what an engineer links it by, and what was said at length."""
    _copy(made["program"] / SHIP, new)
    if PACKAGE in made:
        _copy(made[PACKAGE], new)
    for beside in (NOTICE, LINT):
        if (made["program"] / beside).exists():
            shutil.copyfile(made["program"] / beside, new / beside)
    for step in made.keys() - set(provenance.GIVEN):
        _copy_details(made[step] / DETAILS, new / DETAILS)


def _keep_logs(logs: Mapping[str, Path], folder: Path) -> None:
    folder.mkdir()
    for name, log in logs.items():
        if log.exists() and log.stat().st_size:
            shutil.copyfile(log, folder / f"{name}.log")


def _copy(folder: Path, new: Path) -> None:
    """As shutil.copytree, whose own error says nothing of why a file could not be written."""
    for file in folder.rglob("*"):
        if file.is_file():
            copy = new / file.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)


def _copy_details(folder: Path, new: Path) -> None:
    """What a step says at length: the JSON files in its `folder`."""
    for file in folder.glob("*.json"):
        new.mkdir(exist_ok=True)
        shutil.copyfile(file, new / file.name)


def _whole(report: Report, store: Store) -> set[str]:
    """The digests of what went into `report` that is one file."""
    made = {artifact for result in report.results if result.best for artifact in result.best.made.values()}
    return {artifact.digest for artifact in made if store.path(artifact).is_file()}


def _told(name: str, text: str) -> dict[str, Any]:
    """As `_described`, of a file by its text."""
    encoded = text.encode()
    return {"path": name, "bytes": len(encoded), "sha256": hashlib.sha256(encoded).hexdigest()}


def _described(file: Path, folder: Path) -> dict[str, Any]:
    return {"path": file.relative_to(folder).as_posix(), "bytes": file.stat().st_size,
            "sha256": digest_of_file(file)}
