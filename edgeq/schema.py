"""The JSON Schema of pipeline.yaml, from the same dataclasses that read it."""

from __future__ import annotations

from typing import Any

import msgspec

from edgeq.limits import GateFile
from edgeq.measurement import GROUPED, METRICS
from edgeq.pipeline import DataFile, ModelFile, PipelineFile, TargetEntry
from edgeq.recipes import RECIPES, expands

DRAFT = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """What may stand in pipeline.yaml, for editors: JSON Schema 2020-12."""
    rung = {"oneOf": [
        {"enum": sorted(name for _, name in RECIPES)},
        *(_recipe(name, form, kind) for (form, name), kind in sorted(RECIPES.items(), key=_by_name)),
    ]}
    ladder = {"type": "array", "items": rung, "minItems": 1}
    data = _record(DataFile)
    model = _record(ModelFile, calibration=data, evaluation=data, training=data)
    of_group = {"type": "string", "pattern": rf"^({'|'.join(GROUPED)})\[[\s\S]+\]$"}
    gate = _record(GateFile, metric={"anyOf": [{"enum": sorted(METRICS)}, of_group]})
    entry = _record(TargetEntry, ladder=ladder)
    described = _record(
        PipelineFile,
        models={"type": "object", "additionalProperties": model, "minProperties": 1},
        targets={"type": "array", "items": {"oneOf": [{"type": "string"}, entry]}, "minItems": 1},
        ladder=ladder,
        gates={"type": "array", "items": gate},
    )
    return {"$schema": DRAFT, **described, "title": "edgeq pipeline"}


def _by_name(entry: tuple[tuple[str, str], Any]) -> tuple[str, str]:
    form, name = entry[0]
    return name, form


def _recipe(name: str, form: str, kind: Any) -> dict[str, Any]:
    described = _record(kind)
    described["description"] = f"For the format {form}. {described.get('description', '')}"
    described["properties"]["recipe"] = {"const": name}
    described["required"] = ["recipe", *described.get("required", [])]
    for field in expands(kind):
        one = described["properties"][field]
        described["properties"][field] = {"anyOf": [one, _list_of(one)]}
    return described


def _list_of(one: dict[str, Any]) -> dict[str, Any]:
    """A list that stands for a rung each."""
    element = {key: value for key, value in one.items() if key != "default"}
    return {"type": "array", "items": element, "minItems": 1, "uniqueItems": True}


def _record(kind: Any, **parts: Any) -> dict[str, Any]:
    """The schema of a dataclass, closed to other keys, with `parts` for what it reads by itself."""
    components = msgspec.json.schema(kind)["$defs"]
    schema = components[kind.__name__]
    properties = schema["properties"]
    told = {key: {**part, **_description(properties.get(key, {}))} for key, part in parts.items()}
    return {**schema, "properties": properties | told, "additionalProperties": False}


def _description(field: dict[str, Any]) -> dict[str, Any]:
    return {"description": field["description"]} if "description" in field else {}
