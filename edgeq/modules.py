"""Which of our modules a module needs, read from its text: nothing is imported to find out.

The store keys what a maker made by this closure, and the layer test walks the same edges, so
that neither can overlook an import that the other sees.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from edgeq.artifact import digest_of_file

PACKAGE = Path(__file__).parent
FIRST_DEFINITION = re.compile(rb"^(?:@|class |def |async )", re.MULTILINE)


@functools.cache
def imported(file: Path, root: Path) -> tuple[Path, ...]:
    """The files below `root`'s parent that `file` imports anywhere in its text, sorted.

    `root` is our own package, or a folder of the user's, where the names of modules start.
    """
    base = root.parent if root == PACKAGE else root
    package = file.parent.relative_to(base).parts if base in file.parents else ()
    text = file.read_bytes()
    if root == PACKAGE:
        text = FIRST_DEFINITION.split(text, maxsplit=1)[0]  # what we import of our own, we import above
    statements = _statements(ast.parse(text, filename=str(file)).body)
    names = {name for statement in statements for name in _names(statement, package)}
    found = {path for name in names if (path := _file_of(name, base)) and root in path.parents}
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


@functools.cache
def closure(file: Path) -> tuple[tuple[str, str], ...]:
    """The modules that one of ours reaches, itself among them: (name, sha256) pairs, sorted.

    A module from elsewhere (a test's own maker) is named by its file alone.
    """
    return tuple(
        (path.relative_to(PACKAGE).as_posix() if PACKAGE in path.parents else path.name,
         digest_of_file(path))
        for path in reached(file))


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
