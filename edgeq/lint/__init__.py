"""Linting: what a target's compiler, or a phone's delegate, will make of a graph, said before it is tried.

The rules are data of the target (operators.yaml); pure functions apply them to a graph.
"""

from edgeq.lint.advice import ADVICE, Advice
from edgeq.lint.delegate_rules import DelegateRules
from edgeq.lint.findings import Finding
from edgeq.lint.linting import Lint, Placed, lint
from edgeq.lint.present import as_json, as_sarif, as_table, as_text
from edgeq.lint.rules import Rules, read_rules

__all__ = [
    "ADVICE", "Advice", "DelegateRules", "Finding", "Lint", "Placed", "Rules",
    "as_json", "as_sarif", "as_table", "as_text", "lint", "read_rules",
]
