"""Linting: what a target's compiler will make of a graph, said before there is a compiler.

The rules are data of the target (operators.yaml); pure functions apply them to a graph.
"""

from edgeq.lint.advice import ADVICE, Advice
from edgeq.lint.findings import Finding
from edgeq.lint.linting import Lint, Placed, lint
from edgeq.lint.present import as_json, as_sarif, as_text
from edgeq.lint.rules import Rules, read_rules

__all__ = [
    "ADVICE", "Advice", "Finding", "Lint", "Placed", "Rules",
    "as_json", "as_sarif", "as_text", "lint", "read_rules",
]
