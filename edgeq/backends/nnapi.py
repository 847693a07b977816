"""Android's NNAPI: the model itself, with a word on what of it the delegate would take.

Nothing is compiled here: the phone's own drivers do that when the model is loaded. Which operators they
get is estimated by the delegate's rules for the phone's API level.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from edgeq.errors import ConfigError
from edgeq.graph import read
from edgeq.lint import DelegateRules, Lint, Rules, as_json, as_table, lint
from edgeq.measurement import value_of
from edgeq.program import counted, ship, write_costs
from edgeq.quantization import MODEL, note

LINT = "lint.json"


@dataclass(frozen=True)
class Nnapi:
    """`api_level` is the lowest of the phones' Android; `operators` are the delegate's rules.

    A phone that tells NNAPI's feature level 6 or later may be given as 1000006 and so on.
    """

    packages: ClassVar = ("ai-edge-litert",)
    api_level: int
    operators: Rules | DelegateRules = field(default_factory=Rules)

    @property
    def rules(self) -> DelegateRules:
        """The rules as they hold at this API level; ConfigError where the target names no such rules."""
        if not isinstance(self.operators, DelegateRules):
            raise ConfigError("the target has no rules for what NNAPI takes",
                              "say `operators: operators.yaml` in its target.yaml, a file with `delegate:`")
        return replace(self.operators, api_level=self.api_level)

    def compile(self, out: Path, quantized: Path) -> None:
        """Ship the model as it is, with what share of its operators NNAPI takes by the rules."""
        model, rules = quantized / MODEL, self.rules
        found = lint(read(model), rules)
        (out / LINT).write_text(json.dumps(as_json(found, MODEL, "nnapi"), indent=1), encoding="utf-8")
        note(out, *_sentences(found, rules))
        ratio = value_of("mapped_ops_ratio", found.mapped / max(1, found.total), "estimated")
        write_costs(out, ship(out, model, MODEL) | counted(model) | {"mapped_ops_ratio": ratio})


def _sentences(found: Lint, rules: DelegateRules) -> list[str]:
    """What is told of the lint with the rung: the table, and then what is to be said of the whole."""
    takes = f"{rules.name} at API level {rules.api_level} takes {found.mapped} of {found.total} operators"
    return [f"{takes} (estimated):\n{as_table(found)}",
            *(f"{each.level}: {each.message}; {each.hint}" for each in found.findings)]
