"""Which of our modules a module needs, read from its text: nothing is imported to find out.

The store keys what a maker made by this closure, and the layer test walks the same edges, so
that neither can overlook an import that the other sees.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

PACKAGE = Path(__file__).parent
OWN = re.compile(r"^(?:from (edgeq[\w.]*) import (?:\(([^)]*)\)|(.*))|import (edgeq[\w.]*))", re.MULTILINE)


@functools.cache
def imported(file: Path, root: Path) -> tuple[Path, ...]:
    """The files below `root`'s parent that `file` imports anywhere in its text, sorted.

    `root` is our own package, or a folder of the user's, where the names of modules start.
    """
    if root == PACKAGE:
        ours = _own_modules()
        found = {ours[name] for name in _own_names(_content(file).decode("utf-8")) if name in ours}
    else:
        package = file.parent.relative_to(root).parts if root in file.parents else ()
        statements = _statements(ast.parse(file.read_bytes(), filename=str(file)).body)
        names = {name for statement in statements for name in _names(statement, package)}
        found = {path for name in names if (path := _file_of(name, root))}
    return tuple(sorted(found - {file}))


def reached(file: Path, root: Path = PACKAGE) -> tuple[Path, ...]:
    """`file` and all that it imports below `root`, transitively, sorted."""
    found: set[Path] = set()
    pending = [file]
    while pending:
        current = pending.pop()
        if current not in found:
            found.add(current)
            pending.extend(imported(current, root))
    return tuple(sorted(found))


def closure(file: Path) -> tuple[tuple[str, str], ...]:
    """The modules that one of ours reaches, itself among them: (name, sha256) pairs, sorted.

    With a module go the sources in other languages, in the folder `c` beside it. A module from
    elsewhere (a test's own maker) is named by its file alone.
    """
    modules = reached(file)
    beside = {source for folder in {path.parent for path in modules} for source in _sources(folder)}
    return tuple(
        (path.relative_to(PACKAGE).as_posix() if PACKAGE in path.parents else path.name,
         _digest(path))
        for path in (*modules, *sorted(beside)))


@functools.cache
def fingerprint(file: Path) -> str:
    """The sha256 of the closure of `file`: what a key has of it."""
    return hashlib.sha256(json.dumps(closure(file)).encode()).hexdigest()


def file_of(name: str) -> Path:
    """The file of one of our modules, by its full name."""
    return _own_modules()[name]


@functools.cache
def _digest(file: Path) -> str:
    """The digest of a file that many closures hold."""
    return hashlib.sha256(_content(file)).hexdigest()


@functools.cache
def _content(file: Path) -> bytes:
    """The bytes of a file that is read for its imports, and for its digest."""
    return file.read_bytes()


@functools.cache
def _sources(folder: Path) -> tuple[Path, ...]:
    """The sources in other languages beside the modules in `folder`."""
    return tuple(folder.glob("c/*.*"))


@functools.cache
def _own_modules() -> Mapping[str, Path]:
    """Our modules by their full names."""
    above = len(str(PACKAGE.parent)) + 1
    return {str(file)[above:-len(".py")].replace(os.sep, ".").removesuffix(".__init__"): file
            for file in PACKAGE.rglob("*.py")}


def _own_names(text: str) -> Iterator[str]:
    """The full names that one of our modules imports of ours: at its top, in full, so no parser is needed."""
    for module, several, one, whole in OWN.findall(text):
        yield module or whole
        yield from (f"{module}.{name}" for name in re.findall(r"\w+", several or one))


def _statements(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """All statements, at any depth; no import hides in an expression, so none is looked at."""
    for statement in body:
        yield statement
        for block in ("body", "orelse", "finalbody", "handlers", "cases"):
            yield from _statements(getattr(statement, block, ()))


def _names(node: ast.AST, package: tuple[str, ...]) -> Iterator[str]:
    """The full names that a statement in a module of `package` may import."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        above = package[: len(package) + 1 - node.level] if node.level else ()
        module = ".".join((*above, *filter(None, [node.module])))
        yield from (f"{module}.{alias.name}" for alias in node.names)
        yield module


@functools.cache
def _tops(base: Path) -> frozenset[str]:
    """The names that a module below `base` can begin with."""
    return frozenset(child.stem for child in base.iterdir())


@functools.cache
def _file_of(name: str, base: Path) -> Path | None:
    if name.partition(".")[0] not in _tops(base):
        return None
    place = base.joinpath(*name.split("."))
    candidates = (place.with_suffix(".py"), place / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)
