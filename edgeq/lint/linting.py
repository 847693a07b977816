"""The linter: every operator of a graph with its place, and what else the compiler will say.

All of it is a prediction from rules, so its source is always `estimated`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from edgeq.graph import Graph, Operator
from edgeq.lint.advice import ADVICE
from edgeq.lint.checks import Violation, violation
from edgeq.lint.delegate import largest, taken
from edgeq.lint.delegate_rules import DelegateRules
from edgeq.lint.findings import Finding, findings, of_delegate, uncertain_memory
from edgeq.lint.parameters import cached_and_streamed, parameter_bytes
from edgeq.lint.placement import blocked_by, mapped, pieces
from edgeq.lint.rules import Rules


@dataclass(frozen=True)
class Placed:
    """One operator; `rule`, `reason` and `hint` say why it is not mapped, and are empty where it is.

    `follows` is the unmapped operator that keeps it on the CPU, where it breaks no rule itself;
    `confidence` how sure the rules of its kind are.
    """

    index: int
    name: str
    confidence: str
    rule: str = ""
    reason: str = ""
    hint: str = ""
    follows: int | None = None

    @property
    def mapped(self) -> bool:
        """Whether it runs on the accelerator."""
        return not self.rule


@dataclass(frozen=True)
class Lint:
    """What a compiler, or a delegate, will make of a graph: operators, the model, bytes of parameters.

    Of a delegate's parameters nothing is known: they are None.
    """

    operators: tuple[Placed, ...]
    findings: tuple[Finding, ...]
    cached_bytes: int | None = None
    streamed_bytes: int | None = None

    @property
    def total(self) -> int:
        """How many operators there are."""
        return len(self.operators)

    @property
    def mapped(self) -> int:
        """How many of them run on the accelerator."""
        return sum(operator.mapped for operator in self.operators)

    @property
    def left(self) -> tuple[Placed, ...]:
        """The operators that stay on the CPU."""
        return tuple(operator for operator in self.operators if not operator.mapped)

    @property
    def left_by_type(self) -> Mapping[str, int]:
        """How many of each kind stay on the CPU, by name."""
        return dict(sorted(Counter(operator.name for operator in self.left).items()))

    @property
    def refusals(self) -> tuple[Finding, ...]:
        """Why the compiler refuses the file; empty where it does not."""
        return tuple(finding for finding in self.findings if finding.level == "error")


def lint(graph: Graph, rules: Rules | DelegateRules) -> Lint:
    """Where each operator of `graph` runs by `rules`, and why."""
    return _delegated(graph, rules) if isinstance(rules, DelegateRules) else _compiled(graph, rules)


def _compiled(graph: Graph, rules: Rules) -> Lint:
    """What a compiler makes of `graph`: one piece for its chip, and nothing where it refuses the file."""
    broken = {operator.index: found for operator in graph.operators
              if (found := violation(graph, operator, rules))}
    said = list(findings(graph, rules, broken))
    refused = any(finding.level == "error" for finding in said)
    supported = {operator.index for operator in graph.operators} - broken.keys()
    cut = pieces(graph, supported)
    on_chip = frozenset() if refused else mapped(cut)
    blame = {} if refused else blocked_by(graph, cut, supported)
    total = parameter_bytes(graph, on_chip, rules.parameters)
    said += uncertain_memory(total, rules.parameters)
    placed = (_mapped(operator, rules) for operator in graph.operators)
    return Lint(
        tuple(each if each.index in on_chip else _left(graph, each, broken.get(each.index), blame)
              for each in placed),
        tuple(said), *cached_and_streamed(total, rules.parameters.usable_bytes))


def _delegated(graph: Graph, rules: DelegateRules) -> Lint:
    """What a delegate makes of `graph`: the largest pieces of what it takes."""
    broken = {operator.index: found for operator in graph.operators
              if (found := taken(graph, operator, rules))}
    on_chip = largest(pieces(graph, {operator.index for operator in graph.operators} - broken.keys()), rules)
    everything = (Placed(operator.index, operator.name, "A") for operator in graph.operators)
    placed = (each if each.index in on_chip else _kept(each, broken.get(each.index), rules)
              for each in everything)
    return Lint(tuple(placed), tuple(of_delegate(graph, rules, on_chip)))


def _kept(placed: Placed, found: Violation | None, rules: DelegateRules) -> Placed:
    """An operator that a delegate leaves, by a rule of its own, or as one of a piece too many."""
    if found is None:
        found = Violation("small-piece", f"its piece is none of the {rules.max_pieces} largest",
                          ADVICE["small-piece"].hint)
    return replace(placed, rule=found.rule, reason=found.reason, hint=found.hint)


def _mapped(operator: Operator, rules: Rules) -> Placed:
    known = rules.operators.get(operator.name)
    return Placed(operator.index, operator.name, known.confidence if known else "")


def _left(graph: Graph, placed: Placed, found: Violation | None, blame: Mapping[int, int]) -> Placed:
    """An operator that stays, by a rule of its own, behind another one, or with all the file."""
    if found:
        return replace(placed, rule=found.rule, reason=found.reason, hint=found.hint)
    by = blame.get(placed.index)
    rule = "compilation-refused" if by is None else "follows-unmapped"
    reason = ("the compiler refuses the whole file" if by is None else
              f"it needs the result of operator {by} {graph.operators[by].name}")
    return replace(placed, rule=rule, reason=reason, hint=ADVICE[rule].hint, follows=by)
