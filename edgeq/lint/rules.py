"""What a target's compiler takes, as data: all that the linter applies stands in operators.yaml.

The one rule: a fact about the compiler is a field here, never a number in the code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgeq.decode import Document, meant
from edgeq.lint.delegate_rules import DelegateRules, delegate_rules


@dataclass(frozen=True)
class ModelRules:
    """What holds for the model as a whole.

    `parsed` are the operators that the compiler reads at all, each with its newest version;
    `shape_inputs` the operators that take a shape, with the input that it is.
    """

    activation_types: tuple[str, ...] = ()
    constant_types: tuple[str, ...] = ()
    innermost_dimensions: int = 0
    known_custom: tuple[str, ...] = ()
    compiled: str = ""
    shape_inputs: Mapping[str, int] = field(default_factory=dict)
    parsed: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class OperatorRules:
    """On which terms one operator is mapped; what is left out is not restricted.

    confidence           how sure that is known, as the file's own legend says
    max_version          the newest version of it that is mapped
    parameters           inputs that must be constants
    per_tensor           its weights have one scale
    vector_inputs        inputs with but one dimension above 1, the innermost
    vector_output        so has its output
    state_types          types of its variable tensors
    zero_options         options that must be 0 (NONE, DEFAULT, no mask)
    equal_options        options that must be the same
    zero_constant        a constant input is all zero, and one of two
    axis_input, axis_option, padding_input
                         where it names axes, or paddings an axis: the batch must not be among them
    channel_multiple     what the number of channels is a multiple of, where it reduces them
    max_reduced          how many values it reduces to one
    stride_input, strided_dimensions
                         where its strides are, and which dimensions may have one above 1
    min_input_size       the height and width that its input has at least
    max_output_elements  how many values its output has at most
    max_innermost        the size of its output's innermost dimension at most
    """

    confidence: Literal["A", "B", "C", "D"] = "D"
    max_version: int | None = None
    parameters: tuple[int, ...] = ()
    per_tensor: bool = False
    vector_inputs: tuple[int, ...] = ()
    vector_output: bool = False
    state_types: tuple[str, ...] = ()
    zero_options: tuple[str, ...] = ()
    equal_options: tuple[str, ...] = ()
    zero_constant: bool = False
    axis_input: int | None = None
    axis_option: str = ""
    padding_input: int | None = None
    channel_multiple: int | None = None
    max_reduced: int | None = None
    stride_input: int | None = None
    strided_dimensions: tuple[int, ...] = ()
    min_input_size: int | None = None
    max_output_elements: int | None = None
    max_innermost: int | None = None


@dataclass(frozen=True)
class ParameterRules:
    """How parameters are laid out in the compiled file, and how many bytes of them the chip keeps.

    parameters.py says what is made of each; `usable_at_least_bytes` and `usable_at_most_bytes`
    are how far the usable memory was seen to vary.
    """

    narrow: int = 0
    narrow_step: int = 1
    wide_step: int = 1
    input_step: int = 1
    channel_bytes: int = 0
    channel_bytes_per_channel: int = 0
    depthwise_weight_bytes: int = 0
    softmax_class_bytes: int = 0
    usable_bytes: int = 0
    usable_at_least_bytes: int = 0
    usable_at_most_bytes: int = 0


@dataclass(frozen=True)
class Rules:
    """All that is known of a compiler. `unsupported` says what to do instead of an operator."""

    model: ModelRules = field(default_factory=ModelRules)
    operators: Mapping[str, OperatorRules] = field(default_factory=dict)
    unsupported: Mapping[str, str] = field(default_factory=dict)
    parameters: ParameterRules = field(default_factory=ParameterRules)


@dataclass(frozen=True)
class RulesFile:
    """The keys of operators.yaml: the rules, and where they come from."""

    sources: Mapping[str, str]
    confidence: Mapping[str, str]
    model: Any
    operators: Mapping[str, Any]
    unsupported: Mapping[str, str]
    parameters: Any


def read_rules(file: Path) -> tuple[Rules | DelegateRules | None, Document]:
    """The rules in `file`; None, and the problems in the document, where it has mistakes.

    A file that names a `delegate` holds a delegate's rules, any other a compiler's.
    Raises ConfigError where `file` is missing or is no YAML at all.
    """
    document = Document(file)
    if isinstance(document.value, dict) and "delegate" in document.value:
        return delegate_rules(document), document
    return _compiler_rules(document), document


def _compiler_rules(document: Document) -> Rules | None:
    read = document.read(RulesFile, document.value)
    given = document.value if isinstance(document.value, dict) else {}
    model = document.read(ModelRules, given.get("model", {}), ("model",))
    parameters = document.read(ParameterRules, given.get("parameters", {}), ("parameters",))
    operators = _operators(document, given.get("operators", {}))
    for name in operators.keys() - model.parsed.keys() if model else ():
        document.complain(("operators", name), f"{name!r} is mapped, but not among model.parsed"
                                               f"{meant(name, model.parsed if model else ())}")
    if document.problems or read is None or model is None or parameters is None:
        return None
    return Rules(model, operators, read.unsupported, parameters)


def _operators(document: Document, given: object) -> dict[str, OperatorRules]:
    found = {name: document.read(OperatorRules, each, ("operators", name))
             for name, each in given.items()} if isinstance(given, dict) else {}
    return {name: rules for name, rules in found.items() if rules}
