"""YAML into frozen dataclasses: every complaint names its file and line, all at once.

The nodes of `yaml.compose` give the lines; scalars are read by YAML 1.2's core schema (PyYAML's
own rules read `no` as False, `1e-3` as text and `12:30:00` as 45000); msgspec checks the values
against the types of the fields. Aliases, duplicate keys and unknown keys are errors.
"""

from __future__ import annotations

import difflib
import functools
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

import msgspec
import yaml

from edgeq.errors import ConfigError

T = TypeVar("T")
Place = tuple[str | int, ...]

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
INTEGER = re.compile(r"[-+]?[0-9]{1,300}|0o[0-7]{1,300}|0x[0-9a-fA-F]{1,250}")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
WORDS = {"": None, "~": None, "null": None, "Null": None, "NULL": None,
         "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
NOWHERE: Mapping[str, Place] = {}


class Document:
    """One YAML file: its plain value, the line of every part of it, and what is wrong with it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._problems: list[tuple[int, str]] = []
        self._lines: dict[Place, int] = {}
        self.value = self._plain(self._composed(), ())

    def read(
        self, kind: type[T], value: object, at: Place = (), elsewhere: Mapping[str, Place] = NOWHERE
    ) -> T | None:
        """`value`, which stands at `at`, as the dataclass `kind`; None where problems were noted.

        The fields of `kind` are scalars, lists and mappings: a dataclass within is read by itself.
        What of them stands `elsewhere` is told there.
        """
        if not isinstance(value, dict):
            found = "is empty" if value is None else f"is {value!r}"
            self.complain(at, f"{_name(at)} {found}, and should be a mapping")
            return None
        noted = len(self._problems)
        kinds = hints(cast("Any", kind))
        for key in value.keys() - kinds.keys():
            self.complain((*at, key), f"unknown key {key!r}{meant(key, kinds)}")
        for field in fields(cast("Any", kind)):
            if field.default is field.default_factory is MISSING and field.name not in value:
                self.complain(at, f"{field.name!r} is missing")
        read = {key: self._converted(given, kinds[key], elsewhere.get(key, (*at, key)))
                for key, given in value.items() if key in kinds}
        return kind(**read) if len(self._problems) == noted else None

    def _converted(self, value: object, kind: Any, at: Place) -> Any:
        try:
            return msgspec.convert(value, kind, strict=True)
        except msgspec.ValidationError as error:
            wanted, _, place = str(error).partition(" - at ")
            where = f" at {place.replace('`', '')}" if place else ""
            if "enum" in wanted:
                wanted = f"Expected one of {', '.join(_choices(kind))}"
            self.complain(at, f"{_name(at)}{where}: {wanted[0].lower()}{wanted[1:]}; found {value!r}")
        return None

    def complain(self, at: Place, problem: str) -> None:
        """Note that `problem` is what is wrong at `at`."""
        self.complain_in(self.line(at), problem)

    def complain_in(self, line: int, problem: str) -> None:
        """Note that `problem` is what is wrong in a line of the file."""
        self._problems.append((line, problem))

    @property
    def problems(self) -> list[str]:
        """What is wrong with it, as file:line, from top to bottom."""
        unique = dict.fromkeys(sorted(self._problems, key=lambda noted: noted[0]))
        return [f"{self.path}:{line}: {problem}" for line, problem in unique]

    def line(self, at: Place) -> int:
        """The line of the innermost part of `at` that is in the file."""
        while at and at not in self._lines:
            at = at[:-1]
        return self._lines.get(at, 1)

    def _composed(self) -> yaml.Node | None:
        try:
            text = self.path.read_text(encoding="utf-8")
            for event in yaml.parse(text, Loader=LOADER):
                if isinstance(event, yaml.AliasEvent):
                    self.complain_in(_line(event.start_mark), "aliases are not read: write it out")
            raise_all([self])
            return yaml.compose(text, Loader=LOADER)
        except yaml.MarkedYAMLError as error:
            said = " ".join(filter(None, (error.context, error.problem)))
            raise ConfigError(f"{self.path}:{_line(error.problem_mark)}: {said}",
                              "mend the YAML; in { } and [ ], quote words that hold brackets or commas"
                              ) from error
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ConfigError(f"{self.path}: {getattr(error, 'strerror', None) or error}",
                              "name a YAML file") from error

    def _plain(self, node: yaml.Node | None, at: Place) -> Any:
        if node is None:
            return None
        self._lines.setdefault(at, _line(node.start_mark))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, at)
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(child, (*at, i)) for i, child in enumerate(node.value)]
        quoted = isinstance(node, yaml.ScalarNode) and node.style
        return node.value if quoted else scalar(node.value)

    def _mapping(self, node: yaml.MappingNode, at: Place) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, child in node.value:
            place = (*at, key.value)
            if not isinstance(key, yaml.ScalarNode):
                self.complain_in(_line(key.start_mark), "a key must be a word")
            elif key.value in found:
                self.complain_in(_line(key.start_mark), f"{key.value!r} stands here twice, first in "
                                                        f"line {self.line(place)}")
            else:
                self._lines[place] = _line(key.start_mark)
                found[key.value] = self._plain(child, place)
        return found


def scalar(text: str) -> str | int | float | bool | None:
    """A plain scalar by YAML 1.2's core schema (https://yaml.org/spec/1.2.2, 10.3.2).

    A number beyond what a float holds stays text, and so do `.inf` and `.nan`: nothing takes them.
    """
    if text in WORDS:
        return WORDS[text]
    if INTEGER.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if FLOAT.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    return text


@functools.cache
def hints(kind: type[Any]) -> dict[str, Any]:
    """The fields that the dataclass `kind` is made from, and their types."""
    types = get_type_hints(kind, include_extras=True)
    return {field.name: types[field.name] for field in fields(kind) if field.init}


def meant(word: str, known: Iterable[str]) -> str:
    """The end of a complaint about `word`: what was probably meant, or what is known."""
    names = [*known]
    near = difflib.get_close_matches(word, names, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(names) or 'none'}"


def raise_all(documents: Iterable[Document]) -> None:
    """Raise one ConfigError with the problems of all `documents`, if there are any."""
    problems = [problem for document in documents for problem in document.problems]
    if problems:
        raise ConfigError("\n".join(problems),
                          "`edgeq schema` prints what may stand where")


def _choices(kind: Any) -> tuple[str, ...]:
    """The words that the type `kind` admits, in whatever it wraps them."""
    parts = get_args(kind)
    if get_origin(kind) is Literal:
        return tuple(map(str, parts))
    return tuple(word for part in parts for word in _choices(part))


def _line(mark: Any) -> int:
    """The line, counted from 1, that a mark of PyYAML's stands for."""
    return mark.line + 1 if mark else 1


def _name(place: Place) -> str:
    return ".".join(str(step) for step in place) or "the file"
