"""The shape of the package, read from its text: imports go one way, and heavy libraries come late."""

from __future__ import annotations

import ast
import graphlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeq.modules import PACKAGE, imported

ROLES = ("frontends", "recipes", "backends", "runners", "meters")
# From the bottom up. A module imports what stands in the lines above its own, and nothing beside it.
LAYERS = (
    ("__init__", "errors"),
    ("arrays", "artifact", "marks", "progress"),
    ("modules", "tool"),
    ("containers",),
    ("measurement", "run", "timings"),
    ("estimation", "store", "repeats"),
    ("workers", "emulation", "linux"),
    ("graph", "decode"),
    ("trust", "user_code", "baseline", "quantization", "interpret", "lint"),
    ("converter", "samples", "program", "tracing"),
    ("judging", "firmware", "exported", "devices"),
    ("ptq", "training", "packaging", "regressions", "power"),
    ("engines", "gates"),
    ROLES,
    ("target", "ladder", "limits", "parity"),
    ("pipeline",),
    ("plan",),
    ("identity",),
    ("report",),
    ("provenance",),
    ("junit", "html", "sbom", "setbacks", "history", "layers", "packed"),
    ("flow",),
    ("console", "deliver", "doctor", "forecast", "github", "inspection", "node_data", "reference", "schema"),
    ("building", "comparing", "probing", "sides"),
    ("explore", "reproducing", "verifying"),
    ("cli",),
)
HEIGHT = {name: height for height, names in enumerate(LAYERS) for name in names}
FILES = sorted(PACKAGE.rglob("*.py"))
HEAVY = {"tensorflow", "keras", "tf_keras", "torch", "torchao", "executorch", "litert_torch", "adbutils",
         "h5py", "ai_edge_litert", "litert_quantizer", "tensorflow_model_optimization",
         "tflite_micro", "ethosu", "sklearn", "PIL", "model_explorer", "flask", "pebble", "junitparser",
         "ppk2_api", "pyjoulescope_driver", "serial", "in_toto_attestation", "cyclonedx",
         "sqlalchemy", "alembic", "psycopg", "jinja2", "vl_convert"}


def name_of(file: Path) -> str:
    """The module or folder, as LAYERS has it, that `file` belongs to."""
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def edges() -> Iterator[tuple[Path, Path]]:
    return ((file, other) for file in FILES for other in imported(file, PACKAGE))


def imports_in(nodes: Iterator[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def told(file: Path, other: object) -> str:
    return f"{file.relative_to(PACKAGE)} imports {other}"


def test_the_walk_sees_the_edges_that_the_text_has() -> None:
    assert PACKAGE / "flow.py" in imported(PACKAGE / "building.py", PACKAGE)
    assert PACKAGE / "engines.py" in imported(PACKAGE / "recipes/static_int8.py", PACKAGE)


def test_the_imports_that_are_read_are_those_that_python_would_make() -> None:
    for file in FILES:
        text = ast.walk(ast.parse(file.read_bytes()))
        own = {name for name in imports_in(text) if name.split(".")[0] == "edgeq"}
        assert {".".join(other.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
                for other in imported(file, PACKAGE)} >= own - {"edgeq"}


def test_every_module_has_its_place_among_the_layers() -> None:
    assert {name_of(file) for file in FILES} == HEIGHT.keys()


def test_imports_go_one_way() -> None:
    upward = [told(file, other.relative_to(PACKAGE)) for file, other in edges()
              if name_of(file) != name_of(other) and HEIGHT[name_of(other)] >= HEIGHT[name_of(file)]]
    assert not upward


@pytest.mark.parametrize("role", ROLES)
def test_a_role_knows_nothing_of_the_other_roles(role: str) -> None:
    others = set(ROLES) - {role}
    assert not [told(file, other) for file, other in edges()
                if name_of(file) == role and name_of(other) in others]


def test_no_import_leads_back_to_where_it_came_from() -> None:
    graphlib.TopologicalSorter({file: imported(file, PACKAGE) for file in FILES}).prepare()


def test_own_modules_are_imported_at_the_top() -> None:
    late = [told(file, name) for file in FILES
            for function in ast.walk(ast.parse(file.read_bytes()))
            if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
            for name in imports_in(ast.walk(function)) if name.split(".")[0] in ("edgeq", "")]
    assert not late


def test_own_modules_are_imported_by_their_full_names() -> None:
    relative = [told(file, name) for file in FILES
                for name in imports_in(ast.walk(ast.parse(file.read_bytes()))) if name.startswith(".")]
    assert not relative


def test_heavy_libraries_are_imported_only_where_they_are_needed() -> None:
    at_the_top = [told(file, name) for file in FILES
                  for name in imports_in(iter(ast.parse(file.read_bytes()).body))
                  if name.split(".")[0] in HEAVY]
    assert not at_the_top


def test_targets_hold_no_python() -> None:
    assert not list((PACKAGE.parent / "targets").rglob("*.py"))


def test_no_module_bears_the_name_of_one_of_pythons() -> None:
    names = {file.stem for file in FILES if file.parent == PACKAGE}
    assert not names & sys.stdlib_module_names
