"""What each rung would cost, by how long such steps took before: an estimate, and nothing is made.

The cost of a rung is that of its recipe alone; converting, compiling, running and scoring are not
counted.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from edgeq import timings
from edgeq.artifact import Artifact, Origin
from edgeq.errors import EdgeqError, NotMade, Refused
from edgeq.plan import Job, Rung
from edgeq.recipes import Recipe
from edgeq.store import Store
from edgeq.timings import Timing

Given = Mapping[str, Artifact]


def costs(jobs: Sequence[Job], store: Store) -> tuple[tuple[str, ...], ...]:
    """About how long each rung of each job would take, in words; `store` is a frozen one.

    "" where it would take no time: the rung is skipped, or what its recipe makes is there already.
    """
    earlier = timings.read(store.root)
    take = functools.cache(store.take)  # jobs share their data
    given = [_given(job, store, take) for job in jobs]
    return tuple(tuple(_cost(rung, found, store, earlier) for rung in job.rungs)
                 for job, found in zip(jobs, given, strict=True))


def _given(job: Job, store: Store, take: Callable[[Origin], Artifact]) -> Given:
    """What recipes may take, as far as the store has it."""
    found: dict[str, Artifact] = {}
    with suppress(EdgeqError):  # looking the job up tells of it
        found["source"] = take(job.model.source)
        found["baseline"] = store.make(job.frontend.convert, found["source"])
        for role, data in job.data.items():
            if role != "evaluation":
                with suppress(NotMade):
                    found[role] = store.make(data.samples.load, take(data.origin), found["baseline"])
    return found


def _cost(rung: Rung, given: Given, store: Store, earlier: Sequence[Timing]) -> str:
    recipe = rung.recipe
    if rung.skipped or recipe is None or "source" not in given or _is_made(recipe, given, store):
        return ""
    sources = {timings.short(given[name].digest) for name in ("source", "baseline") if name in given}
    step = f"{type(recipe).__name__}.quantize"
    return timings.estimated(earlier, step, timings.options_of(recipe), sources)


def _is_made(recipe: Recipe, given: Given, store: Store) -> bool:
    """Whether the store has what `recipe` makes, or that it refuses to."""
    if not given.keys() >= {*recipe.inputs}:
        return False
    try:
        store.make(recipe.quantize, *(given[name] for name in recipe.inputs))
    except Refused:
        return True
    except EdgeqError:
        return False
    return True
