"""What lies in a .pt2 archive, and what of it is code: told before anything of it is loaded.

torch's loader unpickles what an archive says is pickled, loads shared libraries out of it, looks operators
up by any dotted name, evaluates expressions of sizes as Python, and writes names into Python that it runs.
Read here is what torch.export.save of 2.13 writes and load_pt2 reads (torch/export/pt2_archive/_package.py,
torch/_export/serde/serialize.py). The one rule: what is let through is listed; all else is code.
The archive is opened by torch's own reader, so that what is looked at is what will be loaded.
"""

from __future__ import annotations

import ast
import io
import json
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgeq.errors import ConfigError
from edgeq.exported.tracing import first_line

GRAPHS, WEIGHTS, CONSTANTS = "models/", "data/weights/", "data/constants/"
SAMPLES, LIBRARIES = "data/sample_inputs/", "data/aotinductor/"
PICKLED = ("custom_obj_", "opaque_obj_")  # unpickled whatever their entry says
GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
OPERATOR = re.compile(
    r"torch\.ops\.(aten|prims|quantized_decomposed)\.\w+\.\w+|torch\._?sym_\w+|math\.\w+|"
    r"_operator\.(eq|ne|le|ge|lt|gt|neg|pos|mul|add|sub|floordiv|mod|pow|truediv)|"
    r"_operator\.(and_|or_|lshift|rshift|getitem)|"
    r"torch\.ops\.higher_order\.(cond|while_loop|scan|map_impl|wrap_with_(set_grad_enabled|autocast))")
READS_FILES = frozenset({"torch.ops.aten.from_file.default", "torch.ops.aten.from_file.out"})
SIZES = frozenset({
    "Symbol", "Integer", "Float", "Rational", "Add", "Mul", "Pow", "Max", "Min", "Abs", "floor", "ceiling",
    "Mod", "And", "Or", "Not", "Eq", "Ne", "Lt", "Le", "Gt", "Ge", "Equality", "Unequality",
    "StrictLessThan", "LessThan", "StrictGreaterThan", "GreaterThan", "FloorDiv", "ModularIndexing", "Where",
    "PythonMod", "CleanDiv", "CeilToInt", "FloorToInt", "CeilDiv", "LShift", "RShift", "PowByNatural",
    "FloatPow", "FloatTrueDiv", "IntTrueDiv", "IsNonOverlappingAndDenseIndicator", "TruncToFloat",
    "TruncToInt", "RoundToInt", "RoundDecimal", "ToFloat", "Identity"})
PARTS_OF_SIZES = (
    ast.Expression, ast.Call, ast.keyword, ast.Name, ast.Constant, ast.UnaryOp, ast.BinOp, ast.Compare,
    ast.operator, ast.unaryop, ast.cmpop, ast.Load)
VARIABLE = re.compile(r"\w*")
NAME = re.compile(r"[\w.\-/:+@<>, ]*")  # a parameter's, which its owner may have called `3x3-conv`
STRUCTURE = re.compile(r"(?:[\w.\-/:\[\]{}, ]|\\?\")*")
IMPORTS = ("default_factory_module", "__enum__")
HINT = "save it with torch.export.save of PyTorch 2.13, as NAME.pt2"


def read(path: Path) -> Any:
    """The .pt2 archive at `path`, in torch's own reader; ConfigError where it is none, damaged or old."""
    from torch.export.pt2_archive import PT2ArchiveReader

    try:
        return PT2ArchiveReader(str(path))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ConfigError(f"{path.name} is no exported program, is damaged, or was saved by a PyTorch "
                          f"before 2.8: {first_line(error)}", HINT) from error


def code_in_pt2(path: Path) -> Iterator[str]:
    """What in the .pt2 archive at `path` would run when it is loaded; ConfigError where it is damaged."""
    archive = read(path)
    try:
        for name in archive.get_file_names():
            yield from _code_in_entry(archive, name)
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{path.name} is damaged: {first_line(error)}", HINT) from error


def _code_in_entry(archive: Any, name: str) -> Iterator[str]:
    if name.startswith(LIBRARIES):
        yield f"the compiled code {name}"
    elif name.startswith(SAMPLES) or (name.startswith((WEIGHTS, CONSTANTS)) and name.endswith(".pt")):
        yield from _unpickled(archive.read_bytes(name), name)
    elif name.startswith((WEIGHTS, CONSTANTS)) and name.endswith(".json"):
        for each, payload in json.loads(archive.read_bytes(name))["config"].items():
            yield from _code_in_payload(each, payload)
    elif name.startswith(GRAPHS):
        yield from _code_in_graph(json.loads(archive.read_bytes(name)), "")


def _unpickled(content: bytes, name: str) -> Iterator[str]:
    """What a pickle calls that torch's loader of plain tensors refuses: a laxer one would then load it."""
    import torch

    if not content:
        return
    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, OSError,
            EOFError) as error:
        found = GLOBAL.search(str(error))
        yield f"{found[1]} in the pickled entry {name}" if found else f"the pickled entry {name}"


def _code_in_payload(name: str, payload: Any) -> Iterator[str]:
    """A tensor lies in an archive as its bytes; whatever else was saved lies there pickled."""
    if payload.get("use_pickle") or str(payload.get("path_name")).startswith(PICKLED):
        yield f"the pickled entry {name}"
    elif not NAME.fullmatch(name):
        yield f"the name {name!r}"


def _code_in_graph(value: Any, key: str) -> Iterator[str]:
    """What in the JSON `value` below `key` of a graph could make torch run something."""
    if isinstance(value, dict):
        for each, inner in value.items():
            if not NAME.fullmatch(each):
                yield f"the name {each!r}"
            if each not in ("metadata", "guards_code"):  # kept as text, and run only with guards: never here
                yield from _code_in_graph(inner, each)
    elif isinstance(value, list):
        for inner in value:
            yield from _code_in_graph(inner, key)
    elif isinstance(value, str):
        yield from _code_in_text(value, key)


def _code_in_text(text: str, key: str) -> Iterator[str]:
    if key == "target":
        if text in READS_FILES or not OPERATOR.fullmatch(text):
            yield f"a call of {text}"
    elif key == "expr_str":
        if not _is_size(text):
            yield f"the expression {text[:80]!r}"
    elif key in ("in_spec", "out_spec"):
        if not _is_structure(text):
            yield f"the structure {text[:80]!r}"
    elif not _is_name(text, key):
        yield f"the name {text[:80]!r}"


def _is_structure(text: str) -> bool:
    return not any(name in text for name in IMPORTS) and bool(STRUCTURE.fullmatch(text))


def _is_name(text: str, key: str) -> bool:
    """Whether a text is fit to be a name, where it is not one of those that are never more than text."""
    return key in ("as_string", "as_strings") or bool((VARIABLE if key == "name" else NAME).fullmatch(text))


def _is_size(text: str) -> bool:
    """Whether a size is written as sympy prints it: known functions of names and numbers, and no more."""
    try:
        parts = [*ast.walk(ast.parse(text, mode="eval"))]
    except (SyntaxError, ValueError, RecursionError):
        return False
    return all(isinstance(part, PARTS_OF_SIZES) and _is_plain(part) for part in parts)


def _is_plain(part: ast.AST) -> bool:
    if isinstance(part, ast.Call):
        return isinstance(part.func, ast.Name) and part.func.id in SIZES
    if isinstance(part, ast.Constant):
        return not isinstance(part.value, str) or bool(re.fullmatch(r"[\w.+-]*", part.value))
    return not isinstance(part, ast.keyword) or part.arg is not None
