"""An exported program as a baseline: one float input, one float output, batch 1, every shape fixed.

Every frontend for ExecuTorch ends here. The one rule: what is written holds no place of this machine, so
that the same source gives the same baseline everywhere.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from edgeq.baseline import EXPORTED, FLOATS, End, write_ends
from edgeq.errors import ConfigError
from edgeq.exported.spelling import spell_plainly
from edgeq.exported.tracing import place_of

SWITCHES = ("train", "training", "dropout_p")  # arguments without which an operator draws nothing
HINT = "give the float model that it was made from; edgeq quantizes it for each target"


def write_exported(out: Path, program: Any, origin: str) -> None:
    """Write the torch.export.ExportedProgram `program` into `out` as a baseline, with its ends.

    Raises ConfigError where it is quantized, has several inputs or outputs, keeps a state between calls, or
    has a shape that is open. `origin` names the source in errors.
    """
    import torch

    check(program, origin)
    spell_plainly(program)
    entry, exit_ = _ends(program, origin)
    write_ends(out, entry, exit_)
    for node in _nodes(program):
        for trace in ("stack_trace", "from_node"):  # the latter holds addresses, other ones in each run
            node.meta.pop(trace, None)
    with warnings.catch_warnings(action="ignore"):
        torch.export.save(program, out / EXPORTED)


def check(program: Any, origin: str) -> None:
    """See that what `program` computes is float, stateless and of fixed shapes; ConfigError where not."""
    if changed := next(_changed(program), None):
        raise ConfigError(f"{origin} changes {changed} when it runs, and edgeq builds models without a state",
                          "export it in evaluation mode, as a function that changes nothing")
    if found := next(_not_float(program), None):
        raise ConfigError(f"{origin} is not a float model: {found}", HINT)
    if drawn := next(_drawn(program), None):
        raise ConfigError(f"{origin} gives something else in every run: {drawn} draws at random",
                          "leave it out of `forward`; a dropout is told to with training=self.training")
    for node in _nodes(program):
        for value in _values(node):
            if open_ := open_dimensions(value):
                raise ConfigError(
                    f"{origin}: the shape that {node.target} gives{place_of(node)} is open in its "
                    f"dimension {open_[0]}: it depends on the values",
                    "build the model from operators whose outputs have a shape known beforehand")


def inputs_of(program: Any, origin: str) -> list[Any]:
    """The values (FakeTensors) that a program takes, which is one; ConfigError where it is not."""
    nodes = [node for node in program.graph.nodes if node.name in program.graph_signature.user_inputs]
    values = [node.meta["val"] for node in nodes]
    if len(values) != 1 or not hasattr(values[0], "shape"):
        names = ", ".join(repr(node.name) for node in nodes)
        raise ConfigError(f"{origin} has {len(nodes)} inputs ({names})", "export it with one input, a tensor")
    return values


def open_dimensions(value: Any) -> list[int]:
    """Which dimensions of a value have no fixed size."""
    return [axis for axis, size in enumerate(value.shape) if not isinstance(size, int)]


def _ends(program: Any, origin: str) -> tuple[End, End]:
    """What goes in and what comes out."""
    entry, = inputs_of(program, origin)
    named = [*program.graph_signature.user_inputs, *program.graph_signature.user_outputs]
    exit_ = _outputs(program, origin)
    return _end(str(named[0]), entry), _end(str(named[1]), exit_)


def _outputs(program: Any, origin: str) -> Any:
    *_, last = program.graph.nodes
    values = [node.meta["val"] for node in last.args[0] if hasattr(node, "meta")]
    if len(program.graph_signature.user_outputs) != 1 or len(values) != 1 or not hasattr(values[0], "shape"):
        raise ConfigError(f"{origin} has {len(program.graph_signature.user_outputs)} outputs",
                          "export it with one output, a tensor")
    return values[0]


def _changed(program: Any) -> Iterator[str]:
    """What of its inputs and buffers a program writes to, and where."""
    signature = program.graph_signature
    yield from (repr(name) for name in signature.buffers_to_mutate.values())
    for node in _nodes(program):
        schema = getattr(node.target, "_schema", None)
        if schema is None or not schema.is_mutable or not node.args:
            continue
        given = node.args[0]
        while _is_view(given):
            given = given.args[0]
        if getattr(given, "op", "") == "placeholder":
            yield f"{signature.inputs_to_buffers.get(given.name, given.name)!r}{place_of(node)}"


def _drawn(program: Any) -> Iterator[str]:
    """Which operators of a program draw numbers at random, and where; a dropout does where it trains."""
    import torch

    for node in _nodes(program):
        if node.users and torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
            arguments = node.target._schema.arguments
            given = dict(zip((each.name for each in arguments), node.args, strict=False)) | node.kwargs
            switch = next((each for each in arguments if each.name in SWITCHES), None)
            if switch is None or given.get(switch.name, switch.default_value):
                yield f"{node.target}{place_of(node)}"


def _is_view(node: Any) -> bool:
    """Whether what a node gives is a part of what it is given, and no copy."""
    schema = getattr(getattr(node, "target", None), "_schema", None)
    return schema is not None and bool(node.args) and any(each.alias_info for each in schema.returns)


def _not_float(program: Any) -> Iterator[str]:
    """What in `program` is of a type that no float model has."""
    tensors = {**program.state_dict, **program.constants}
    for name, tensor in tensors.items():
        if hasattr(tensor, "dtype") and _name_of(tensor.dtype) not in FLOATS:
            yield f"tensor {name!r} is {_name_of(tensor.dtype)}"
    for node in _nodes(program):
        if str(node.target).startswith("quantized_decomposed."):
            yield f"it has {node.target}"
        for value in _values(node):
            if _name_of(value.dtype) not in FLOATS:
                yield f"{node.target}{place_of(node)} gives {_name_of(value.dtype)}"


def _nodes(program: Any) -> Iterator[Any]:
    """The nodes of a program, those of graphs inside it among them."""
    for module in program.graph_module.modules():
        if hasattr(module, "graph"):
            yield from module.graph.nodes


def _values(node: Any) -> Iterable[Any]:
    """The tensors that a node gives."""
    value = node.meta.get("val")
    several = value if isinstance(value, (list, tuple)) else (value,)
    return [each for each in several if hasattr(each, "shape")]


def _end(name: str, value: Any) -> End:
    return End(name, tuple(value.shape), _name_of(value.dtype))


def _name_of(dtype: Any) -> str:
    """A type of torch as a baseline has it: `FLOAT32`."""
    return str(dtype).rpartition(".")[2].upper()
