"""Gates as users write them: groups, confidence, and what each mistake is answered with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from edgeq.decode import Document
from edgeq.errors import ConfigError
from edgeq.gates import Gate
from edgeq.limits import gate
from edgeq.pipeline import load
from edgeq.plan import Chosen, Job, plan
from edgeq.schema import schema

PIPELINE = """\
version: 1
models:
  tiny:
    source: model.tflite
    evaluation: {data: evaluation.npz, metric: METRIC}
targets: [host, tflm]
ladder: [float32, static-int8, dynamic-int8]
gates:
"""
Read = Callable[[str], tuple[Gate | None, list[str]]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """A gate as YAML has it, and what is wrong with it, a line each."""
    def gate_of(text: str) -> tuple[Gate | None, list[str]]:
        (tmp_path / "gate.yaml").write_text(f"\n\n{text}\n", encoding="utf-8")
        document = Document(tmp_path / "gate.yaml")
        found = gate(document, document.value, (), {"targets": ["host"], "models": ["tiny"]})
        return found, [problem.partition("gate.yaml:")[2] for problem in document.problems]

    return gate_of


@pytest.mark.parametrize(("text", "found"), [
    ("{metric: accuracy_drop, max: 0.01, confidence: 0.95}",
     Gate("accuracy_drop", max=0.01, confidence=0.95)),
    ("{metric: agreement, min: 99 %, confidence: 90 %}", Gate("agreement", min=0.99, confidence=0.9)),
    ("{metric: 'accuracy[night]', min: 0.9}", Gate("accuracy[night]", min=0.9)),
    ("metric: accuracy[night, outside]\nmin: 90 %", Gate("accuracy[night, outside]", min=0.9)),
    ("{metric: 'accuracy_drop[3]', max: 0.1, confidence: 0.9}",
     Gate("accuracy_drop[3]", max=0.1, confidence=0.9)),
    ("{metric: worst_group_drop, max: 0.05}", Gate("worst_group_drop", max=0.05, min_samples=30)),
    ("{metric: worst_group_drop, max: 0.05, min_samples: 100}",
     Gate("worst_group_drop", max=0.05, min_samples=100)),
])
def test_a_gate_is_read_as_it_stands(read, text, found):
    assert read(text) == (found, [])


@pytest.mark.parametrize("metric", ["model_bytes", "cycles", "sqnr_db", "mse", "latency_ms"])
def test_a_confidence_wants_a_metric_that_has_an_interval(read, metric):
    _, (told,) = read(f"metric: {metric}\nmax: 1\nconfidence: 0.95")
    assert told == (f"5: confidence: {metric} has no interval; these have: accuracy, baseline_accuracy, "
                    "accuracy_drop, agreement")


def test_a_confidence_on_the_worst_group_is_answered_with_what_to_do(read):
    _, (told,) = read("{metric: worst_group_drop, max: 0.1, confidence: 0.95}")
    assert "has no interval: gate accuracy_drop[GROUP]" in told


@pytest.mark.parametrize(("given", "told"), [
    ("1", "between 0.5 and 1, not 1"), ("0.5", "between 0.5 and 1, not 0.5"), ("95", "0.5 and 1, not 95"),
    ("0", "between 0.5 and 1, not 0"), ("-0.95", "not -0.95"), ("much", "'much' is not a number"),
    ("95 dB", "unknown unit 'dB'"), ("true", "found True"), (".nan", "'.nan' is not a number"),
    ("[0.95]", "found [0.95]"), ("1e999", "too large"),
])
def test_a_confidence_lies_between_a_half_and_one(read, given, told):
    _, (found,) = read(f"metric: accuracy\nmin: 0.5\nconfidence: {given}")
    assert found.startswith("5: confidence")
    assert told in found


@pytest.mark.parametrize(("metric", "told"), [
    ("acuracy", "nothing measures 'acuracy'; did you mean 'accuracy'?"),
    ("acuracy[a]", "nothing measures 'acuracy[a]' by groups; did you mean 'accuracy'?"),
    ("model_bytes[a]",
     "nothing measures 'model_bytes[a]' by groups; known: accuracy, baseline_accuracy, accuracy_drop"),
    ("accuracy[]", "'accuracy[]' names no group: write accuracy[GROUP]"),
    ("accuracy[a", "'accuracy[a' names no group: write accuracy[GROUP]"),
])
def test_a_metric_that_is_not_there_is_told_with_what_was_meant(read, metric, told):
    found, problems = read(f'metric: "{metric}"\nmax: 1')
    assert found is None
    assert problems == [f"3: {told}"]


@pytest.mark.parametrize(("text", "told"), [
    ("{metric: accuracy, min: 0.5, min_samples: 9}", "min_samples: it belongs to a gate on worst_group_drop"),
    ("{metric: worst_group_drop, max: 0.5, min_samples: 0}", "min_samples: at least 1, not 0"),
    ("{metric: worst_group_drop, max: 0.5, min_samples: 2.5}", "found 2.5"),
])
def test_min_samples_is_a_number_for_the_worst_group(read, text, told):
    assert told in read(text)[1][0]


@pytest.mark.parametrize(("metric", "valid"), [
    ("accuracy", True), ("worst_group_drop", True), ("accuracy[night]", True),
    ("accuracy_drop[dim\nlight]", True), ("cycles[night]", False), ("accuracy[]", False), ("acuracy", False)])
def test_the_schema_knows_what_may_be_gated(metric, valid):
    gated = {"metric": metric, "min": 0.5, "confidence": "95 %", "min_samples": 5}
    declared = {"version": 1, "models": {"m": {"source": "m", "evaluation": {"data": "d"}}},
                "targets": ["host"], "gates": [gated]}
    assert Draft202012Validator(schema()).is_valid(declared) is valid


# What a gate asks of the scoring


@pytest.fixture
def planned(tmp_path: Path) -> Callable[..., tuple[Job, ...]]:
    """The jobs of a pipeline with these gates."""
    for name in ("evaluation.npz", "model.tflite"):
        (tmp_path / name).write_bytes(b"content")
    (tmp_path / "mine.py").write_text("def score(outputs, labels): return 1\n")

    def jobs(*gates: str, metric: str = "top1") -> tuple[Job, ...]:
        text = PIPELINE.replace("METRIC", metric) + "".join(f"  - {{{each}}}\n" for each in gates)
        (tmp_path / "pipeline.yaml").write_text(text, encoding="utf-8")
        return plan(load(tmp_path / "pipeline.yaml"), Chosen())

    return jobs


def test_groups_are_off_unless_a_gate_of_the_job_asks(planned):
    host, tflm = planned("metric: accuracy, min: 0.5", "metric: 'accuracy[a]', min: 0.5, targets: [tflm]",
                         "metric: worst_group_drop, max: 0.5, targets: [tflm]")
    assert (host.model.scoring.groups, host.model.scoring.min_samples) == ((), 0)
    assert (tflm.model.scoring.groups, tflm.model.scoring.min_samples) == (("a",), 30)


def test_each_group_is_asked_for_once(planned):
    job, _ = planned("metric: 'accuracy[b]', min: 0.5", "metric: 'accuracy_drop[b]', max: 0.5",
                     "metric: 'accuracy[a]', min: 0.5")
    assert job.model.scoring.groups == ("a", "b")


def test_one_job_has_one_min_samples(planned):
    with pytest.raises(ConfigError, match="its gates on worst_group_drop name several min_samples: 30, 99"):
        planned("metric: worst_group_drop, max: 0.5", "metric: worst_group_drop, max: 0.6, min_samples: 99")


def test_of_a_metric_of_the_users_nobody_can_be_confident(planned):
    with pytest.raises(ConfigError, match="the gate on accuracy asks for confidence, and of mine:score only"):
        planned("metric: accuracy, min: 0.5, confidence: 0.95", metric="'mine:score'")
    assert planned("metric: agreement, min: 0.5, confidence: 0.95", metric="'mine:score'")
