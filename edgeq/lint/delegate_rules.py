"""What a delegate of LiteRT takes on a phone, as data: terms an operator, and stricter ones of older systems.

The one rule: a fact about the delegate is a field here, never a number in the code; what cannot be read
off a graph is told in words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeq.decode import Document, Place

QUANTIZED = "QUANT8"  # INT8 or UINT8 with a scale


@dataclass(frozen=True)
class Terms:
    """On which terms an operator is taken; what is left out is not restricted. Inputs count from 0.

    types                of the input `typed`: names of schema.fbs, or QUANT8
    output_types         and of its outputs
    barred_outputs       types that its outputs must not have
    weight_types         types of its constant weights
    ranks                numbers of dimensions that its run-time inputs may have
    output_ranks         and its outputs
    constants            inputs that must be constants
    required             inputs that must be there
    counts               how many inputs it may have
    integers             inputs that must be INT32
    zeros                constant inputs that are all 0
    options              option -> values that it may have
    unfused              types with which no activation is fused
    max_window           how many values a quantized pooling filter covers at most
    barred_axes          values that the option `axis` must not have, -1 for the last
    one_scale            weights have one scale, not one a channel
    hybrid               whether weights may be quantized where activations are float
    symmetric            types whose zero point must be 0
    scaled               its outputs have a scale above 0
    narrow_scales        scale of input * scale of weights < scale of output, where quantized
    same_grids           all run-time inputs have the same scale and zero point
    same_shapes          inputs that have the same shape
    square               its output is as wide as high
    ungrouped            the filter has as many channels as the input
    """

    types: tuple[str, ...] = ()
    typed: int = 0
    output_types: tuple[str, ...] = ()
    barred_outputs: tuple[str, ...] = ()
    weight_types: tuple[str, ...] = ()
    ranks: tuple[int, ...] = ()
    output_ranks: tuple[int, ...] = ()
    constants: tuple[int, ...] = ()
    required: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()
    integers: tuple[int, ...] = ()
    zeros: tuple[int, ...] = ()
    options: Mapping[str, tuple[int | bool, ...]] = field(default_factory=dict)
    unfused: tuple[str, ...] = ()
    max_window: int | None = None
    barred_axes: tuple[int, ...] = ()
    one_scale: bool = False
    hybrid: bool = True
    symmetric: tuple[str, ...] = ()
    scaled: bool = False
    narrow_scales: bool = False
    same_grids: bool = False
    same_shapes: tuple[int, ...] = ()
    square: bool = False
    ungrouped: bool = False


@dataclass(frozen=True)
class Delegated:
    """One operator: the lowest API level that has it, its newest version, its terms.

    `below` are further terms, by the API level from which they are lifted; `unchecked` is a condition
    that cannot be read off a graph.
    """

    min_api: int
    terms: Terms
    max_version: int | None = None
    below: Mapping[int, Terms] = field(default_factory=dict)
    unchecked: str = ""


@dataclass(frozen=True)
class DelegateRules:
    """All that is known of a delegate: what it takes, in how many pieces, and what has replaced it.

    `api_level` is that of the phone; from 31 on the delegate asks the phone's NNAPI for its feature level
    instead, which is 1000006 and so on above level 5.
    """

    name: str
    operators: Mapping[str, Delegated]
    max_pieces: int
    deprecated: str = ""
    instead: str = ""
    api_level: int = 0


@dataclass(frozen=True)
class DelegateFile:
    """The keys of the file: `delegate` is its name, and says of which kind the file is."""

    delegate: str
    sources: Mapping[str, str]
    max_pieces: int
    operators: Mapping[str, Any]
    deprecated: str = ""
    instead: str = ""


@dataclass(frozen=True)
class Entry:
    """What an operator's entry says beside its terms."""

    min_api: int
    max_version: int | None = None
    below: Mapping[str, Any] = field(default_factory=dict)
    unchecked: str = ""


def delegate_rules(document: Document) -> DelegateRules | None:
    """The rules in `document`; None, and the problems in it, where it has mistakes."""
    read = document.read(DelegateFile, document.value)
    found = {name: _delegated(document, each, ("operators", name))
             for name, each in (read.operators if read else {}).items()}
    if document.problems or read is None:
        return None
    operators = {name: each for name, each in found.items() if each}
    return DelegateRules(read.delegate, operators, read.max_pieces, read.deprecated, read.instead)


def _delegated(document: Document, given: object, at: Place) -> Delegated | None:
    """One operator, from what stands at `at`: the entry's own keys, and the terms beside them."""
    value: dict[str, Any] = given if isinstance(given, dict) else {}
    own = {key: value[key] for key in value if key in Entry.__dataclass_fields__}
    entry = document.read(Entry, own, at)
    terms = document.read(Terms, {key: value[key] for key in value.keys() - own.keys()}, at)
    if entry is None or terms is None:
        return None
    return Delegated(entry.min_api, terms, entry.max_version, _below(document, entry, at), entry.unchecked)


def _below(document: Document, entry: Entry, at: Place) -> dict[int, Terms]:
    """The terms of older systems, by the API level that lifts them."""
    found = {}
    for level, given in entry.below.items():
        terms = document.read(Terms, given, (*at, "below", level))
        if not level.isdigit():
            document.complain((*at, "below", level), f"{level!r} is no API level")
        elif terms:
            found[int(level)] = terms
    return found
