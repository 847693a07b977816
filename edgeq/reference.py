"""The reference of pipeline.yaml in Markdown, made from its JSON Schema: what it says is what is read."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from typing import Any

from edgeq.measurement import METRICS

Schema = Mapping[str, Any]
HEAD = """# Reference of pipeline.yaml

What may stand where, made by `edgeq schema --markdown` from the schema that pipeline.yaml is read by.
What it means, with examples: [pipeline.yaml](pipeline.md). An editor takes the schema itself:

```sh
edgeq schema > pipeline.schema.json
```
"""

RECIPES = """## Recipes

An entry of a `ladder` is a name, or a mapping with `recipe` and its options.
"""


def markdown(schema: Schema) -> str:
    """The reference as a page, of the `schema` that schema.schema() gives."""
    parts = schema["properties"]
    model = parts["models"]["additionalProperties"]
    data, entry = model["properties"]["evaluation"], parts["targets"]["items"]["oneOf"][1]
    records = (("The file", schema), ("`models.NAME`", model),
               ("`calibration`, `evaluation`, `training`", data), ("An entry of `targets`", entry),
               ("An entry of `gates`", parts["gates"]["items"]))
    told = [HEAD, *(_section(f"## {title}", record) for title, record in records)]
    told.append(RECIPES)
    told += [_section(f"### `{_name(record)}`", record) for record in parts["ladder"]["items"]["oneOf"][1:]]
    return "\n".join([*told, _metrics()])


def _section(title: str, record: Schema) -> str:
    """A heading, what the record is, and a row a key."""
    said = inspect.cleandoc(record.get("description", ""))
    fields = {key: each for key, each in record["properties"].items() if key != "recipe"}
    rows = [*_table(("key", "type", "default", ""), _rows(fields, record.get("required", ())))]
    return "\n".join([title, "", said, "", *(rows if fields else ["No options."]), ""])


def _rows(fields: Mapping[str, Schema], required: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for key, field in fields.items():
        default = "required" if key in required else f"`{json.dumps(field.get('default'))}`"
        yield f"`{key}`", _type(field), default, field.get("description", "")


def _type(field: Schema) -> str:
    """The type of a value in words: `integer ≥ 1`, `string or list`, the words that may stand."""
    if words := field.get("enum"):
        return ", ".join(f"`{word}`" for word in words)
    if choices := field.get("anyOf", field.get("oneOf")):
        named = dict.fromkeys(_type(each) for each in choices if each.get("type") != "null")
        return " or ".join(named)
    bounds = [f" {sign} {field[key]}" for key, sign in (
        ("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
        if key in field]
    kind: str = field.get("type", "anything")
    return {"array": "list", "object": "mapping"}.get(kind, kind) + ",".join(bounds)


def _name(record: Schema) -> str:
    name: str = record["properties"]["recipe"]["const"]
    return name


def _metrics() -> str:
    rows = ((f"`{name}`", metric.unit, metric.meaning) for name, metric in METRICS.items())
    return "\n".join(["## Metrics", "", *_table(("metric", "unit", ""), rows), ""])


def _table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
