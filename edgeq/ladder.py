"""The ladder of a target: what its file lists, or the default one, as an entry a rung.

A list in a field that its recipe expands (`keep: [1, 2, 4]`) stands for a rung each, in that order.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeq.decode import Document, Place, meant
from edgeq.recipes import DEFAULT_LADDER, RECIPES, Recipe, expands


@dataclass(frozen=True)
class Entry:
    """A rung as the ladder has it; `recipe` is None where the target's format lacks it."""

    name: str
    options: Mapping[str, Any]
    recipe: Recipe | None


def default(model_format: str) -> list[dict[str, Any]]:
    """The default ladder as a file would have it, as far as there are recipes for `model_format`."""
    return [{"recipe": name, **options} for name, options in DEFAULT_LADDER
            if (model_format, name) in RECIPES]


def entries(
    document: Document, model_format: str, values: Sequence[Any], at: Place
) -> Iterator[Entry]:
    """The rungs that `values`, which stand at `at`, mean; what is wrong goes to the `document`."""
    names = {name for _, name in RECIPES}
    for index, value in enumerate(values):
        options = dict(value) if isinstance(value, dict) else {"recipe": value}
        name = options.pop("recipe", None)
        if str(name) not in names:
            document.complain((*at, index), f"unknown recipe {name!r}{meant(str(name), sorted(names))}")
        elif (model_format, name) not in RECIPES:
            yield Entry(name, options, None)
        else:
            for given, places in _expanded(document, RECIPES[model_format, name], options, (*at, index)):
                if recipe := document.read(RECIPES[model_format, name], given, (*at, index), places):
                    yield Entry(name, given, recipe)


def _expanded(
    document: Document, kind: type[Recipe], options: Mapping[str, Any], at: Place
) -> Iterator[tuple[dict[str, Any], dict[str, Place]]]:
    """The options of each rung that one entry means, and the places of those that stood in lists."""
    lists = {key: _elements(document, options[key], (*at, key)) for key in expands(kind)
             if isinstance(options.get(key), (list, tuple))}
    once = {key: given for key, given in options.items() if key not in lists}
    filled = {key: elements for key, elements in lists.items() if elements}
    for chosen in itertools.product(*filled.values()):
        picked = dict(zip(filled, chosen, strict=True))
        yield ({**once, **{key: element for key, (_, element) in picked.items()}},
               {key: (*at, key, index) for key, (index, _) in picked.items()})


def _elements(document: Document, values: Sequence[Any], at: Place) -> list[tuple[int, Any]]:
    """Each of `values` with its index; one that is there already is a mistake, as is an empty list."""
    if not values:
        document.complain(at, f"{at[-1]} is empty: give a value, or one for each rung")
    for index, value in enumerate(values):
        if value in values[:index]:
            document.complain((*at, index), f"{at[-1]}: {value!r} stands here twice")
    return [*enumerate(values)]
