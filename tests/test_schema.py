"""The JSON Schema of pipeline.yaml: editors and edgeq itself shall agree on what may stand there."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from edgeq.errors import ConfigError
from edgeq.pipeline import load
from edgeq.schema import schema

ROOT = Path(__file__).parents[1]
EXAMPLE = """\
version: 1
models:
  fashion:
    source: models/fashion/model.keras
    calibration: {data: models/fashion/calibration.npz, samples: 200}
    evaluation: {data: models/fashion/evaluation.npz, metric: top1}
    training: {data: models/fashion/training.npz}
    trust: true
targets: [host, {target: tflm, ladder: [static-int16x8]}]
ladder:
  - static-int8
  - {recipe: static-int8, granularity: per_tensor, inference_input_type: uint8, engine: tflite-converter}
  - {recipe: static-int16x8, granularity_by_operator: {FULLY_CONNECTED: per_tensor}}
gates:
  - {metric: accuracy_drop, max: 0.01}
  - {metric: model_bytes, max: 128KiB, targets: [tflm], models: [fashion]}
  - {metric: mapped_ops_ratio, min: 100 %, allow: [simulated, estimated]}
timeout_s: 600
"""
Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    return Draft202012Validator(schema())


@pytest.fixture
def example() -> dict[str, Any]:
    return copy.deepcopy(yaml.safe_load(EXAMPLE))


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(schema())


def test_the_pipeline_of_the_repository_is_valid(validator):
    validator.validate(yaml.safe_load((ROOT / "pipeline.yaml").read_text(encoding="utf-8")))


def test_an_example_that_uses_every_key_is_valid(validator, example):
    validator.validate(example)


@pytest.fixture
def loaded(project: Path) -> Callable[[dict[str, Any]], object]:
    """Read a pipeline, given as data, as edgeq does."""
    def load_it(content: dict[str, Any]) -> object:
        (project / "pipeline.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        return load(project / "pipeline.yaml")

    return load_it


def test_edgeq_reads_that_example_too(loaded, example):
    loaded(example)


def test_the_ladder_may_be_left_out(validator, loaded, example):
    example.pop("ladder")
    validator.validate(example)
    loaded(example)


def test_every_key_that_the_decoder_knows_is_described() -> None:
    described = schema()["properties"]
    model = described["models"]["additionalProperties"]
    assert described.keys() == {"version", "models", "targets", "ladder", "gates", "timeout_s"}
    assert model["properties"].keys() == {
        "source", "calibration", "evaluation", "training", "trust", "signature", "weights"}
    assert {"data", "samples", "metric"} <= model["properties"]["evaluation"]["properties"].keys()


WRONG: dict[str, Change] = {
    "unknown key": lambda p: p.update(modles={}),
    "unknown key in a model": lambda p: p["models"]["fashion"].update(sauce="x"),
    "unknown key in data": lambda p: p["models"]["fashion"]["evaluation"].update(sample=3),
    "unknown key in a gate": lambda p: p["gates"][0].update(maximum=1),
    "unknown key in a target": lambda p: p["targets"][1].update(ladders=[]),
    "unknown option of a recipe": lambda p: p["ladder"][1].update(granulaity="per_tensor"),
    "unknown recipe": lambda p: p["ladder"].append("static-int7"),
    "unknown value of an option": lambda p: p["ladder"][1].update(granularity="per_row"),
    "unknown metric": lambda p: p["gates"].append({"metric": "beauty", "min": 1}),
    "unknown source": lambda p: p["gates"][0].update(allow=["guessed"]),
    "another version": lambda p: p.update(version=2),
    "no models": lambda p: p.update(models={}),
    "no targets": lambda p: p.update(targets=[]),
    "no ladder": lambda p: p.update(ladder=[]),
    "an empty ladder of a target": lambda p: p["targets"][1].update(ladder=[]),
    "models missing": lambda p: p.pop("models"),
    "gates missing": lambda p: p.pop("gates"),
    "source missing": lambda p: p["models"]["fashion"].pop("source"),
    "evaluation missing": lambda p: p["models"]["fashion"].pop("evaluation"),
    "evaluation empty": lambda p: p["models"]["fashion"].update(evaluation=None),
    "data missing": lambda p: p["models"]["fashion"]["evaluation"].pop("data"),
    "recipe missing": lambda p: p["ladder"][1].pop("recipe"),
    "metric missing": lambda p: p["gates"][0].pop("metric"),
    "a list of models": lambda p: p.update(models=[]),
    "a word for a number": lambda p: p.update(timeout_s="long"),
    "a word for a switch": lambda p: p["models"]["fashion"].update(trust="yes"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_the_schema_and_edgeq_reject_the_same_mistakes(validator, loaded, example, mistake):
    WRONG[mistake](example)
    assert not validator.is_valid(example)
    with pytest.raises(ConfigError):
        loaded(example)


def test_the_command_prints_it(edgeq):
    printed = edgeq("schema")
    assert printed.returncode == 0
    assert json.loads(printed.stdout) == json.loads(json.dumps(schema()))
