"""Which way a metric is better, and what its figures depend on beside the model that is judged.

The one rule: what a metric does not depend on never stands in the way of a comparison, and what it does
always does. The model, its calibration and its training, edgeq itself and the recipe are what a comparison
is about: they may differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from edgeq.measurement import WORST, in_group

Better = Literal["higher", "lower"]
Kind = Literal["size", "memory", "count", "score", "likeness", "time", "energy"]
Part = Literal["data", "runner", "meters", "tools", "host", "rig", "source"]
PARTS: tuple[Part, ...] = get_args(Part)


@dataclass(frozen=True)
class Trait:
    """Which way a metric is better, and of what kind it is: DEPENDS says what that depends on."""

    better: Better
    kind: Kind


# The float baseline's accuracy and the parameters that fit an accelerator are better neither way.
TRAITS: Mapping[str, Trait] = {
    "accuracy": Trait("higher", "score"),
    "accuracy_drop": Trait("lower", "score"),
    WORST: Trait("lower", "score"),
    "agreement": Trait("higher", "score"),
    "sqnr_db": Trait("higher", "likeness"),
    "mse": Trait("lower", "likeness"),
    "cosine": Trait("higher", "likeness"),
    "model_bytes": Trait("lower", "size"),
    "flash_bytes": Trait("lower", "size"),
    "streamed_bytes": Trait("lower", "size"),
    "macs": Trait("lower", "size"),
    "mapped_ops_ratio": Trait("higher", "size"),
    "ram_bytes": Trait("lower", "memory"),
    "arena_bytes": Trait("lower", "memory"),
    "instructions": Trait("lower", "count"),
    "cycles": Trait("lower", "count"),
    "latency_ms": Trait("lower", "time"),
    "latency_p90_ms": Trait("lower", "time"),
    "energy_uj": Trait("lower", "energy"),
}

# What the figures of a kind depend on, and why.
DEPENDS: Mapping[Kind, Mapping[Part, str]] = {
    "size": {"tools": "compilers lay a model out, each version otherwise",
             "source": "a prediction is no count"},
    "memory": {"tools": "the interpreter or compiler plans it",
               "runner": "an interpreter has its own structures",
               "host": "pointers on this machine are as wide as its architecture has them",
               "source": "a prediction is no count"},
    "count": {"tools": "compilers and the emulator",
              "runner": "another core or kernel takes other instructions",
              "data": "loops that clamp take the one branch or the other",
              "rig": "a counter on a board counts that board's wait states",
              "source": "an emulator's count is no chip's"},
    "score": {"tools": "quantizers choose, interpreters round",
              "runner": "kernels round otherwise",
              "data": "a score is one of these samples",
              "host": "kernels here are chosen by the architecture",
              "source": "the device may round otherwise"},
    "likeness": {"tools": "quantizers choose, interpreters round",
                 "runner": "kernels round otherwise",
                 "data": "outputs are those of these samples",
                 "host": "kernels here are chosen by the architecture",
                 "source": "the device may round otherwise"},
    "time": {"tools": "runtimes and compilers",
             "runner": "the device, its clock, its warm-up; for an estimate the whole formula",
             "meters": "how often, after how long",
             "data": "what is run",
             "host": "what this machine times is this machine's",
             "rig": "each device has its own speed",
             "source": "a formula is no clock"},
    "energy": {"tools": "runtimes and compilers",
               "runner": "the device and its clock; for an estimate the whole formula",
               "meters": "the instrument and its trigger",
               "data": "what is run",
               "host": "what this machine takes is this machine's",
               "rig": "one board and one binary differ by up to 66 % between rigs (MLPerf Tiny)",
               "source": "a formula is no instrument"},
}


def trait_of(metric: str) -> Trait | None:
    """The trait of `metric`, that of `accuracy[GROUP]` among them; None where no way is better."""
    return TRAITS.get(in_group(metric)[0])


def sign_of(metric: str) -> int:
    """1 where a higher figure of `metric` is worse, -1 where it is better."""
    trait = trait_of(metric)
    return -1 if trait and trait.better == "higher" else 1
