"""The demo model's artifacts, each made once in the store that the tests share."""

from __future__ import annotations

from conftest import MODEL

from edgeq.artifact import Artifact, Origin
from edgeq.frontends import FRONTENDS
from edgeq.recipes import RECIPES, Recipe
from edgeq.recipes.static_int8 import StaticInt8
from edgeq.samples import Samples
from edgeq.store import Store


def source(store: Store) -> Artifact:
    """The Keras file."""
    return store.take(Origin(MODEL / "model.keras"))


def baseline(store: Store, form: str = "tflite") -> Artifact:
    """What the frontend for a format makes of it."""
    return store.make(FRONTENDS[form, "keras"]().convert, source(store))


def samples(
    store: Store, role: str, count: int | None = None, labels: str = "any", form: str = "tflite"
) -> Artifact:
    """`count` of the demo's samples for calibration, evaluation or training."""
    data = store.take(Origin(MODEL / f"{role}.npz"))
    return store.make(Samples(role=role, count=count, labels=labels).load, data, baseline(store, form))


def quick(kind: type[Recipe]) -> Recipe:
    """A recipe of this kind, with the plainest ranges where it learns layers, and without taking long."""
    learns = kind.__name__.startswith(("Equalized", "Gptq", "Ada"))
    return kind(**({"range": "minmax"} if learns else {}),
                **({"iterations": 100} if hasattr(kind, "iterations") else {}))


def quantized(store: Store, recipe: Recipe = StaticInt8()) -> Artifact:  # noqa: B008  # it is frozen
    """What `recipe` makes of it, by 100 calibration samples."""
    form = next(form for (form, _), kind in RECIPES.items() if kind is type(recipe))
    given = {"source": lambda: source(store), "baseline": lambda: baseline(store, form),
             "calibration": lambda: samples(store, "calibration", 100, form=form)}
    return store.make(recipe.quantize, *(given[name]() for name in recipe.inputs))
