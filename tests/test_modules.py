"""Which modules a module needs: what the store's keys and the layer test both rely on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgeq.modules import PACKAGE, closure, imported, reached

Written = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Written:
    def written(name: str, text: str = "") -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    return written


def names(files: tuple[Path, ...], root: Path) -> set[str]:
    return {file.relative_to(root).as_posix() for file in files}


@pytest.mark.parametrize("statement", [
    "import helper",
    "import helper as h",
    "import os, helper",
    "from helper import f",
    "def g():\n    import helper",
    "class A:\n    from helper import f",
    "try:\n    import fast\nexcept ImportError:\n    import helper",
    "try:\n    pass\nfinally:\n    import helper",
    "if True:\n    pass\nelse:\n    import helper",
    "for i in ():\n    import helper",
    "while False:\n    import helper",
    "with open('x'):\n    import helper",
    "async def g():\n    async with x:\n        import helper",
    "match 1:\n    case 1:\n        import helper",
])
def test_an_import_is_seen_wherever_it_stands(write: Written, tmp_path: Path, statement: str) -> None:
    write("helper.py")
    assert names(imported(write("mine.py", statement), tmp_path), tmp_path) == {"helper.py"}


def test_text_that_only_looks_like_an_import_is_none(write: Written, tmp_path: Path) -> None:
    write("helper.py")
    assert not imported(write("mine.py", '"""import helper"""\n# import helper\n'), tmp_path)


def test_what_lies_elsewhere_is_left_out(write: Written, tmp_path: Path) -> None:
    mine = write("mine.py", "import json\nimport numpy.linalg\nfrom edgeq import flow\n")
    assert not imported(mine, tmp_path)


def test_a_module_of_a_package_is_found_by_its_dotted_name(write: Written, tmp_path: Path) -> None:
    write("parts/deep/wheel.py")
    assert names(imported(write("mine.py", "from parts.deep import wheel"), tmp_path), tmp_path) == {
        "parts/deep/wheel.py"}


def test_a_package_stands_for_its_init(write: Written, tmp_path: Path) -> None:
    write("parts/__init__.py")
    assert names(imported(write("mine.py", "from parts import size"), tmp_path), tmp_path) == {
        "parts/__init__.py"}


def test_relative_imports_are_followed(write: Written, tmp_path: Path) -> None:
    write("parts/__init__.py")
    write("parts/wheel.py")
    write("parts/deep/axle.py", "from .. import size\nfrom ..wheel import f\nfrom . import bolt\n")
    write("parts/deep/bolt.py")
    assert names(imported(tmp_path / "parts/deep/axle.py", tmp_path), tmp_path) == {
        "parts/__init__.py", "parts/wheel.py", "parts/deep/bolt.py"}


def test_a_folder_with_an_init_is_still_where_the_users_names_start(write: Written, tmp_path: Path) -> None:
    write("__init__.py")
    write("helper.py")
    assert names(imported(write("mine.py", "import helper"), tmp_path), tmp_path) == {"helper.py"}


def test_what_is_reached_is_reached_through_others_too(write: Written, tmp_path: Path) -> None:
    write("c.py")
    write("b.py", "import c")
    write("unrelated.py")
    assert names(reached(write("a.py", "import b"), tmp_path), tmp_path) == {"a.py", "b.py", "c.py"}


def test_a_circle_of_imports_ends(write: Written, tmp_path: Path) -> None:
    write("b.py", "import a")
    assert names(reached(write("a.py", "import b"), tmp_path), tmp_path) == {"a.py", "b.py"}


def test_a_syntax_error_names_the_file_that_has_it(write: Written, tmp_path: Path) -> None:
    broken = write("helper.py", "x = 1\ny = = 2\n")
    with pytest.raises(SyntaxError) as error:
        reached(write("mine.py", "import helper"), tmp_path)
    assert (error.value.filename, error.value.lineno) == (str(broken), 2)


def test_the_closure_of_a_recipe_holds_its_engines_and_no_command_line() -> None:
    found = {name for name, _ in closure(PACKAGE / "recipes/static_int8.py")}
    assert {"recipes/static_int8.py", "engines.py", "ptq/quantizer.py", "converter.py", "errors.py"} <= found
    assert not found & {"cli.py", "flow.py", "pipeline.py", "recipes/float16.py"}


def test_a_closure_pairs_each_module_with_the_digest_of_its_text() -> None:
    assert all(len(digest) == 64 for _, digest in closure(PACKAGE / "errors.py"))
    assert [name for name, _ in closure(PACKAGE / "errors.py")] == ["errors.py"]


def test_a_maker_from_elsewhere_is_named_by_its_file(write: Written) -> None:
    found = dict(closure(write("maker.py", "from edgeq.errors import Refused")))
    assert found.keys() == {"maker.py", "errors.py"}
