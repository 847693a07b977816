"""The rungs of one ladder beside plain static-int8: a rung that is worse says so.

A dearer recipe is there to do better. Where it does worse, a gate with room to spare would hide it.
"""

from __future__ import annotations

from dataclasses import replace

from edgeq.arrays import Array
from edgeq.judging.paired import CONFIDENCE, Loss, mcnemar
from edgeq.judging.scoring import correct_in
from edgeq.report import Climbed
from edgeq.store import Store

PLAIN = "static-int8"
LOST_DB = 0.5  # of sqnr_db, where no sample is right or wrong


def compared(rungs: tuple[Climbed, ...], store: Store) -> tuple[Climbed, ...]:
    """The `rungs`, each that is worse than the first judged static-int8 before it with a note."""
    first = next((i for i, rung in enumerate(rungs) if rung.judged and rung.recipe == PLAIN), len(rungs))
    noted = [_noted(rung, rungs[first], store) for rung in rungs[first + 1:]]
    return (*rungs[:first + 1], *noted)


def loss(plain: Array, other: Array) -> Loss:
    """What `other` lost and gained against `plain`, both (n,): whether each sample is right."""
    return Loss(int((plain & ~other).sum()), int((other & ~plain).sum()), len(plain))


def fewer_right(found: Loss) -> str:
    """That more was lost than chance would have it (McNemar's test, 5 %); empty where it was not."""
    p = mcnemar(found.lost, found.gained)
    if found.estimate <= 0 or p >= 1 - CONFIDENCE:
        return ""
    return (f"worse than {PLAIN}: of {found.n:,} samples {found.lost} are right there and wrong here, "
            f"{found.gained} the other way round (McNemar's p {p:.2g})")


def noisier(plain_db: float, other_db: float) -> str:
    """That the outputs are at least 0.5 dB further from the baseline's; empty where they are not."""
    if plain_db - other_db < LOST_DB:
        return ""
    return f"worse than {PLAIN}: sqnr_db {other_db:.1f} dB here, {plain_db:.1f} dB there"


def _noted(rung: Climbed, plain: Climbed, store: Store) -> Climbed:
    note = _worse(rung, plain, store) if rung.judged else ""
    return replace(rung, notes=(*rung.notes, note)) if note else rung


def _worse(rung: Climbed, plain: Climbed, store: Store) -> str:
    right = [correct_in(store.path(each.made["scores"])) for each in (plain, rung)]
    if right[0] is not None and right[1] is not None:
        return fewer_right(loss(right[0], right[1]))
    levels = [each.metrics["sqnr_db"].value for each in (plain, rung)]
    return noisier(levels[0], levels[1]) if levels[0] is not None and levels[1] is not None else ""
