"""YAML as users write it, and as they get it wrong: values by YAML 1.2, mistakes by file and line."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgeq.decode import Document, meant, raise_all, scalar
from edgeq.errors import ConfigError

Colour = Literal["red", "green"]


@dataclass(frozen=True)
class Board:
    """A small file to read."""

    name: str
    megahertz: int = 0
    volts: float = 3.3
    lit: bool = False
    colours: tuple[Colour, ...] = ()
    pins: Mapping[str, Colour] = field(default_factory=dict)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "board.yaml"


def document(file: Path, text: str) -> Document:
    file.write_text(text, encoding="utf-8")
    return Document(file)


def read(file: Path, text: str) -> Board | None:
    """The board in `text`; all that is wrong with it as one ConfigError."""
    found = document(file, text)
    board = found.read(Board, found.value)
    raise_all([found])
    return board


def mistakes(file: Path, text: str) -> list[str]:
    """What is wrong with `text`, a line each, without the folder in front."""
    with pytest.raises(ConfigError) as error:
        read(file, text)
    assert error.value.exit_code == 2
    return error.value.message.replace(f"{file.parent}/", "").splitlines()


@pytest.mark.parametrize(("text", "value"), [
    ("no", "no"), ("on", "on"), ("Yes", "Yes"), ("true", True), ("FALSE", False), ("tRUE", "tRUE"),
    ("", None), ("~", None), ("null", None), ("None", "None"),
    ("12:30:00", "12:30:00"), ("2026-11-21", "2026-11-21"), ("1_000", "1_000"), ("0b11", "0b11"),
    ("0o17", 15), ("0x1F", 31), ("017", 17), ("-5", -5), ("+5", 5),
    ("1e-3", 0.001), ("1E3", 1000.0), ("1.", 1.0), (".5", 0.5), ("-0.5", -0.5), (".", "."),
    ("1.2.3", "1.2.3"),
])
def test_a_plain_scalar_means_what_yaml_1_2_says(text: str, value: object) -> None:
    found = scalar(text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("text", [".inf", "-.inf", ".nan", "1e999", "9" * 400, "0x" + "f" * 400, "9" * 9999])
def test_what_no_float_can_hold_stays_text(text: str) -> None:
    assert scalar(text) == text


def test_quoted_text_stays_text(file: Path) -> None:
    assert document(file, """[ "1", 'true', "", "~", 1 ]""").value == ["1", "true", "", "~", 1]


def test_a_block_of_text_stays_text(file: Path) -> None:
    assert document(file, "a: |\n  12\nb: >\n  true\n").value == {"a": "12\n", "b": "true\n"}


def test_a_tag_makes_nothing(file: Path) -> None:
    assert document(file, "a: !!python/object/apply:os.getcwd []").value == {"a": []}


def test_keys_are_text_whatever_they_look_like(file: Path) -> None:
    assert document(file, "1: a\nno: b\n~: c\n").value == {"1": "a", "no": "b", "~": "c"}


def test_a_byte_order_mark_and_windows_line_ends_are_read_over(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbfname: pico\r\nmegahertz: 133\r\n")
    assert Document(file).value == {"name": "pico", "megahertz": 133}


def test_a_mapping_becomes_the_dataclass_with_its_defaults(file: Path) -> None:
    board = read(file, "name: pico\nmegahertz: 133\ncolours: [red]\npins: {a: green}\n")
    assert board == Board("pico", 133, 3.3, colours=("red",), pins={"a": "green"})


def test_a_whole_number_will_do_for_a_float(file: Path) -> None:
    assert read(file, "name: pico\nvolts: 5").volts == 5.0


def test_an_unknown_key_is_told_with_its_line_and_what_was_meant(file: Path) -> None:
    assert mistakes(file, "name: pico\nmegaherz: 133\n") == [
        "board.yaml:2: unknown key 'megaherz'; did you mean 'megahertz'?"]


def test_a_key_like_no_other_is_answered_with_those_there_are(file: Path) -> None:
    [told] = mistakes(file, "name: pico\nxyzzy: 1\n")
    assert told.endswith("known: name, megahertz, volts, lit, colours, pins")


def test_a_missing_key_is_told(file: Path) -> None:
    assert mistakes(file, "megahertz: 133\n") == ["board.yaml:1: 'name' is missing"]


def test_a_duplicate_key_is_told_with_both_lines(file: Path) -> None:
    assert mistakes(file, "name: pico\nlit: true\nname: nano\n") == [
        "board.yaml:3: 'name' stands here twice, first in line 1"]


def test_a_key_that_is_no_word_is_told(file: Path) -> None:
    assert mistakes(file, "name: pico\n? [a, b]\n: 1\n") == ["board.yaml:2: a key must be a word"]


def test_every_alias_is_told_and_nothing_else(file: Path) -> None:
    assert mistakes(file, "name: &n pico\nlit: *n\npins: {a: *n}\n") == [
        "board.yaml:2: aliases are not read: write it out",
        "board.yaml:3: aliases are not read: write it out"]


def test_an_alias_within_itself_is_no_trap(file: Path) -> None:
    assert mistakes(file, "pins: &p [*p]\n") == ["board.yaml:1: aliases are not read: write it out"]


def test_an_anchor_that_nothing_refers_to_is_harmless(file: Path) -> None:
    assert read(file, "name: &n pico\n") == Board("pico")


def test_all_mistakes_are_told_at_once_from_top_to_bottom(file: Path) -> None:
    told = mistakes(file, "megahertz: fast\nlit: 1\nvolts: no\nname: [a]\ncolour: red\n")
    assert [line.split()[0] for line in told] == [f"board.yaml:{n}:" for n in (1, 2, 3, 4, 5)]
    assert told[0] == "board.yaml:1: megahertz: expected `int`, got `str`; found 'fast'"


@pytest.mark.parametrize("wrong", ["colours: [red, blue]", "pins: {a: blue}"])
def test_a_word_that_will_not_do_is_answered_with_those_that_would(file: Path, wrong: str) -> None:
    [told] = mistakes(file, f"name: pico\n{wrong}\n")
    assert "board.yaml:2:" in told
    assert "expected one of red, green; found" in told


@pytest.mark.parametrize(("text", "found"), [
    ("", "empty"), ("# nothing\n", "empty"), ("[1, 2]", "[1, 2]"), ("word", "'word'")])
def test_a_file_without_a_mapping_is_told(file: Path, text: str, found: str) -> None:
    assert mistakes(file, text) == [f"board.yaml:1: the file is {found}, and should be a mapping"]


@pytest.mark.parametrize(("text", "line", "word"), [
    ("name: [pico\nlit: true\n", 2, "flow sequence"),
    ("name:\n\tpico\n", 2, "cannot start any token"),
    ("name: 'pico\n", 2, "quoted scalar"),
    ("name: pico\n  lit: true\n", 2, "mapping values are not allowed"),
    ("name: pico\n---\nname: nano\n", 2, "another document"),
])
def test_a_syntax_error_is_told_with_its_line(file: Path, text: str, line: int, word: str) -> None:
    [told] = mistakes(file, text)
    assert told.startswith(f"board.yaml:{line}: ")
    assert word in told


@pytest.mark.parametrize("content", [b"name: \xe4\n", b"name: \x00\n", b"\x89PNG\r\n\x1a\n\x00\xff"])
def test_a_file_that_is_no_text_is_told(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"board\.yaml.*(decode|control)") as error:
        Document(file)
    assert error.value.hint == "name a YAML file"


@pytest.fixture(scope="module")
def any_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any") / "board.yaml"


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.binary(max_size=40)
       | st.text("nameligt:[]{}&*!|>-?,'\"#%@~ \n\t017.e", max_size=40).map(str.encode))
@example(b"? ")
@example(b"{? }")
@example(b"name: !<")
def test_whatever_stands_in_a_file_nothing_worse_than_a_config_error_comes_of_it(any_file, content):
    any_file.write_bytes(content)
    with contextlib.suppress(ConfigError):
        found = Document(any_file)
        assert (found.read(Board, found.value) is None) == bool(found.problems)


def test_a_missing_file_is_told(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"board\.yaml: No such file"):
        Document(file)


def test_a_folder_in_place_of_a_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        Document(tmp_path)


def test_the_mistakes_of_several_files_come_together(tmp_path: Path) -> None:
    documents = []
    for name in ("a.yaml", "b.yaml"):
        found = document(tmp_path / name, "nam: pico\n")
        found.read(Board, found.value)
        documents.append(found)
    with pytest.raises(ConfigError) as error:
        raise_all(documents)
    assert [Path(line.split(":")[0]).name for line in error.value.message.splitlines()] == [
        "a.yaml", "a.yaml", "b.yaml", "b.yaml"]


def test_without_mistakes_nothing_is_raised(file: Path) -> None:
    raise_all([document(file, "name: pico\n")])


def test_a_near_word_is_suggested_and_a_far_one_answered_with_the_list() -> None:
    assert meant("hots", ["host", "tflm"]) == "; did you mean 'host'?"
    assert meant("xyzzy", ["host", "tflm"]) == "; known: host, tflm"
    assert meant("xyzzy", []) == "; known: none"
