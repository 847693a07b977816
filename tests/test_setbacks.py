"""A rung that does worse than plain static-int8 says so; one that does not is left alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from edgeq.judging.paired import Loss
from edgeq.measurement import value_of
from edgeq.report import Climbed
from edgeq.setbacks import compared, fewer_right, loss, noisier
from edgeq.store import Store, fill


def test_a_loss_is_counted_sample_by_sample():
    plain, other = (np.array(each, bool) for each in ([1, 1, 1, 0, 0], [1, 0, 0, 1, 0]))
    assert loss(plain, other) == Loss(2, 1, 5)


def test_a_loss_beyond_chance_is_told_with_its_figures():
    assert fewer_right(Loss(31, 9, 2000)) == (
        "worse than static-int8: of 2,000 samples 31 are right there and wrong here, 9 the other way round "
        "(McNemar's p 0.00043)")


@pytest.mark.parametrize("found", [Loss(9, 31, 2000), Loss(12, 9, 2000), Loss(5, 0, 2000), Loss(0, 0, 2000)])
def test_what_chance_explains_is_no_loss(found):
    assert fewer_right(found) == ""


@pytest.mark.parametrize(("other", "told"), [(30.0, False), (35.0, False), (29.6, False), (29.5, True)])
def test_half_a_decibel_is_a_loss(other, told):
    assert bool(noisier(30.0, other)) is told
    assert noisier(30, 28) == "worse than static-int8: sqnr_db 28.0 dB here, 30.0 dB there"


@dataclass(frozen=True)
class Scores:
    """Leaves which samples are right, where that is known."""

    right: tuple[bool, ...] = ()

    def write(self, out: Path) -> None:
        (out / "measurement.json").write_text("{}")
        if self.right:
            np.save(out / "correct.npy", np.array(self.right))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path, partial(fill, tmp_path))


@pytest.fixture
def rung(store: Store) -> Callable[..., Climbed]:
    """A judged rung with so many of 100 samples right, the first ones, and so much noise."""
    def climbed(recipe: str, *, right: int | None = None, db: float = 30, **fields: object) -> Climbed:
        scores = Scores(() if right is None else tuple(place < right for place in range(100)))
        metrics: Mapping = {"sqnr_db": value_of("sqnr_db", db, "simulated")}
        given = {"state": "failed", "metrics": metrics, "made": {"scores": store.make(scores.write)}} | fields
        return Climbed(recipe, {}, **given)

    return climbed


def noted(rungs: tuple[Climbed, ...], store: Store) -> list[bool]:
    return [bool(each.notes) for each in compared(rungs, store)]


def test_each_rung_is_held_against_the_first_plain_one_before_it(rung, store):
    rungs = (rung("float32", right=20), rung("static-int8", right=90), rung("a", right=70),
             rung("b", right=89), rung("static-int8", right=60), rung("c", right=99))
    assert noted(rungs, store) == [False, False, True, False, True, False]


def test_without_labels_the_noise_decides(rung, store):
    rungs = rung("static-int8", db=30), rung("a", db=29.4), rung("b", db=29.6), rung("c", db=40)
    assert noted(rungs, store) == [False, True, False, False]


def test_with_labels_the_noise_does_not(rung, store):
    assert noted((rung("static-int8", right=90), rung("a", right=90, db=3)), store) == [False, False]


def test_rungs_that_were_not_judged_are_left_alone(rung, store):
    rungs = (Climbed("static-int8", {}, "refused"), rung("a", db=10), rung("static-int8"),
             Climbed("b", {}, "skipped"), Climbed("c", {}, "error"), rung("d", db=10))
    assert noted(rungs, store) == [False] * 5 + [True]


def test_a_ladder_without_a_plain_rung_has_nothing_to_compare_with(rung, store):
    assert noted((rung("a"), rung("b", db=1)), store) == [False, False]
    assert compared((), store) == ()


def test_a_note_joins_what_the_recipe_said(rung, store):
    _, found = compared((rung("static-int8"), rung("a", db=1, notes=("two chains equalized",))), store)
    assert found.notes[0] == "two chains equalized"
    assert found.notes[1].startswith("worse than static-int8")
