"""YAML into frozen dataclasses: every complaint names its file and line, all at once.

The nodes of `yaml.compose` give the lines; scalars are read by YAML 1.2's core schema (PyYAML's
own rules read `no` as False, `1e-3` as text and `12:30:00` as 45000); pydantic checks the values
against the types of the dataclass. Aliases, duplicate keys and unknown keys are errors.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from pydantic import TypeAdapter, ValidationError

from edgeq.errors import ConfigError

T = TypeVar("T")
Place = tuple[str | int, ...]

INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
WORDS = {"": None, "~": None, "null": None, "Null": None, "NULL": None,
         "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


class Document:
    """One YAML file: its plain value, the line of every part of it, and what is wrong with it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[str] = []
        self._lines: dict[Place, int] = {}
        self.value = self._plain(self._composed(), ())

    def read(self, kind: type[T], value: object, at: Place = ()) -> T | None:
        """`value`, which stands at `at`, as the dataclass `kind`; None where problems were noted.

        The fields of `kind` are scalars, lists and mappings: a dataclass within is read by itself.
        """
        if not isinstance(value, dict):
            self.complain(at, f"{_name(at)} should be a mapping, not {value!r}")
            return None
        known = [field.name for field in fields(cast("type[Any]", kind)) if field.init]
        for key in value.keys() - set(known):
            self.complain((*at, key), f"unknown key {key!r}{meant(key, known)}")
        given = {key: field for key, field in value.items() if key in known}
        try:
            return TypeAdapter(kind).validate_json(json.dumps(given), strict=True)
        except ValidationError as error:
            for each in error.errors(include_url=False):
                self._explain(each, (*at, *each["loc"]))
        return None

    def complain(self, at: Place, problem: str) -> None:
        """Note that `problem` is what is wrong at `at`."""
        self.problems.append(f"{self.path}:{self.line(at)}: {problem}")

    def line(self, at: Place) -> int:
        """The line of the innermost part of `at` that is in the file."""
        while at and at not in self._lines:
            at = at[:-1]
        return self._lines.get(at, 1)

    def _composed(self) -> yaml.Node | None:
        try:
            text = self.path.read_text(encoding="utf-8")
            self.problems += [
                f"{self.path}:{event.start_mark.line + 1}: aliases are not read: write it out"
                for event in yaml.parse(text, Loader=yaml.SafeLoader)
                if isinstance(event, yaml.AliasEvent)]
            return None if self.problems else yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise ConfigError(f"{self.path}:{line}: {error.problem}", "mend the YAML") from error
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ConfigError(f"{self.path}: {getattr(error, 'strerror', None) or error}",
                              "name a YAML file") from error

    def _plain(self, node: yaml.Node | None, at: Place) -> Any:
        if node is None:
            return None
        self._lines.setdefault(at, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, at)
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(child, (*at, i)) for i, child in enumerate(node.value)]
        return scalar(node.value) if node.style is None else node.value

    def _mapping(self, node: yaml.MappingNode, at: Place) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, child in node.value:
            place = (*at, key.value)
            if not isinstance(key, yaml.ScalarNode):
                self.problems.append(f"{self.path}:{key.start_mark.line + 1}: a key must be a word")
            elif key.value in found:
                self.problems.append(f"{self.path}:{key.start_mark.line + 1}: {key.value!r} stands "
                                     f"here twice, first in line {self.line(place)}")
            else:
                self._lines[place] = key.start_mark.line + 1
                found[key.value] = self._plain(child, place)
        return found

    def _explain(self, error: Any, at: Place) -> None:
        if error["type"] == "missing":
            self.complain(at, f"{at[-1]!r} is missing")
        else:
            message = error["msg"].removeprefix("Value error, ")
            self.complain(at, f"{_name(at)}: {message[0].lower()}{message[1:]}, not {error['input']!r}")


def scalar(text: str) -> str | int | float | bool | None:
    """A plain scalar by YAML 1.2's core schema (https://yaml.org/spec/1.2.2, 10.3.2)."""
    if text in WORDS:
        return WORDS[text]
    if INTEGER.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    return float(text) if FLOAT.fullmatch(text) else text


def meant(word: str, known: Iterable[str]) -> str:
    """The end of a complaint about `word`: what was probably meant, or what is known."""
    names = [*known]
    near = difflib.get_close_matches(word, names, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(names) or 'none'}"


def raise_all(documents: Iterable[Document]) -> None:
    """Raise one ConfigError with the problems of all `documents`, if there are any."""
    problems = [problem for document in documents for problem in document.problems]
    if problems:
        raise ConfigError("\n".join(dict.fromkeys(problems)),
                          "`edgeq schema` prints what may stand where")


def _name(place: Place) -> str:
    return ".".join(str(step) for step in place) or "the file"
