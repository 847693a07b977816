"""Real networks up the whole ladder: what each rung scores against float and plain int8, and what it costs.

Each rung is made by the store and the recipe of a build, in a process of its own. All of it takes
half an hour on two cores; these variables of the environment, lists with commas, limit it or let it go on:

    EDGEQ_LADDER_MODELS         names in ladder_models.MODELS
    EDGEQ_LADDER_RECIPES        names of recipes; plain static-int8 is always among them
    EDGEQ_LADDER_GRANULARITIES  per_channel, per_tensor
    EDGEQ_LADDER_STORE          a folder to keep, in which what was made and timed is found again

Figures that need what was left out are left out as well.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks import ladder_figures, ladder_growth, ladder_table
from benchmarks.ladder_climb import Ground, climbed, laid_out
from benchmarks.ladder_models import MODELS, Absent
from benchmarks.ladder_rows import GRANULARITIES, PLAIN, RUNGS, Ladder, rungs_for
from benchmarks.measuring import Figure, scratch


def figures() -> Iterator[Figure]:
    """Climb, print the table of all rungs, and give the figures with limits."""
    granularities = _chosen("GRANULARITIES", GRANULARITIES)
    recipes = _chosen("RECIPES", tuple(dict.fromkeys(rung.recipe for rung in RUNGS)))
    models = _chosen("MODELS", tuple(MODELS))
    ladders: list[Ladder] = []
    with _folders() as (folder, store):
        try:
            for name in models:
                ladders += _ladders(Ground(folder / name, store), name, granularities, recipes)
            grown = _grown(folder, store, recipes) if ladder_growth.MODEL in models else []
        finally:  # all that was made is shown, whatever stopped the rest
            ladder_table.show(ladders)
    yield from ladder_figures.figures(ladders)
    yield from grown


def _ladders(
    ground: Ground, name: str, granularities: Sequence[str], recipes: Sequence[str]
) -> Iterator[Ladder]:
    try:
        models = laid_out(ground, name, MODELS[name]())
    except Absent as absent:
        sys.stdout.write(f"{name} is left out: {absent}\n")
        return
    for granularity in granularities:
        rungs = [rung for rung in rungs_for(granularity) if rung == PLAIN or rung.recipe in recipes]
        yield climbed(ground, models, granularity, rungs)


def _grown(folder: Path, store: Path, recipes: Sequence[str]) -> list[Figure]:
    try:
        return list(ladder_growth.figures(folder, store, recipes))
    except Absent as absent:
        sys.stdout.write(f"the growth with samples is left out: {absent}\n")
        return []


def _chosen(variable: str, known: Sequence[str]) -> list[str]:
    """Those of `known` that the variable of the environment names, or all; SystemExit for others."""
    asked = [name for name in os.environ.get(f"EDGEQ_LADDER_{variable}", "").split(",") if name]
    if unknown := [name for name in asked if name not in known]:
        raise SystemExit(f"EDGEQ_LADDER_{variable}: unknown {unknown[0]}; known: {', '.join(known)}")
    return [name for name in known if not asked or name in asked]


@contextmanager
def _folders() -> Iterator[tuple[Path, Path]]:
    """A folder for samples and pipelines, gone afterwards, and the store, which may stay."""
    with scratch() as folder:
        kept = os.environ.get("EDGEQ_LADDER_STORE")
        store = Path(kept).absolute() if kept else folder / "store"
        store.mkdir(parents=True, exist_ok=True)
        yield folder, store
