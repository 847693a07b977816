"""The rungs that are climbed, and what each came to: a ladder is one network with one granularity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from edgeq.arrays import Array
from edgeq.judging.paired import Loss
from edgeq.measurement import Measurement
from edgeq.recipes import RECIPES
from edgeq.setbacks import fewer_right, loss

GRANULARITIES = ("per_channel", "per_tensor")


@dataclass(frozen=True)
class Rung:
    """A recipe with its options, granularity apart."""

    recipe: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return " ".join([self.recipe, *(value if isinstance(value, str) else f"{key} {value}"
                                        for key, value in self.options.items())])

    @property
    def graded(self) -> bool:
        """Whether its weights come with one scale a channel or one a tensor, as asked."""
        return "granularity" in {each.name for each in fields(RECIPES["tflite", self.recipe])}


PLAIN = Rung("static-int8", {"range": "minmax"})
AUTO = Rung("static-int8")
AVERAGE = Rung("static-int8", {"range": "average"})
LISTED = (
    Rung("float32"), PLAIN, AUTO, AVERAGE, Rung("equalized-int8"), Rung("smooth-int8"),
    Rung("gptq-int8"), Rung("adaround-int8"), Rung("adaquant-int8"), Rung("selective-int8", {"keep": 1}),
    Rung("selective-int8", {"keep": 2}), Rung("qat-int8"), Rung("static-int4"), Rung("gptq-int4"),
    Rung("adaround-int4"),
)
RUNGS = tuple(rung for rung in LISTED if ("tflite", rung.recipe) in RECIPES)
COMPARED = (PLAIN, AVERAGE)  # what others do, and what the ladder is held against


@dataclass(frozen=True, eq=False)
class Row:
    """What a rung came to; `right` (n,) says which samples are right, where there are labels.

    `seconds`, `cpu_s` and `peak_mb` are those of its quantize step and the process that did it, `digest`
    the sha256 of its model.
    """

    rung: Rung
    state: str
    reason: str = ""
    metrics: Measurement = field(default_factory=dict)
    seconds: float = 0.0
    cpu_s: float = 0.0
    peak_mb: float = 0.0
    right: Array | None = None
    digest: str = ""

    @property
    def judged(self) -> bool:
        """Whether there is a model that was scored."""
        return self.state in ("passed", "failed")

    def value(self, metric: str) -> float | None:
        """The figure for `metric`, or None."""
        return self.metrics[metric].value if metric in self.metrics else None

    @property
    def db(self) -> float:
        """Its sqnr_db; every rung that was scored has one."""
        return self.value("sqnr_db") or 0.0

    @property
    def lost(self) -> float:
        """Its accuracy_drop in points; 0 where there are no labels."""
        return 100 * (self.value("accuracy_drop") or 0.0)


@dataclass(frozen=True)
class Ladder:
    """All rows of one network with one granularity."""

    model: str
    granularity: str
    rows: tuple[Row, ...]

    def __str__(self) -> str:
        return f"{self.model} {self.granularity}"

    def row(self, rung: Rung) -> Row | None:
        """The row of `rung`, if it was climbed and scored."""
        return next((row for row in self.rows if row.rung == rung and row.judged), None)

    @property
    def plain(self) -> Row | None:
        """Plain static-int8."""
        return self.row(PLAIN)

    @property
    def own(self) -> tuple[Row, ...]:
        """The rungs to int8 that are no plain method."""
        return tuple(row for row in self.rows if row.judged and row.rung.recipe.endswith("-int8")
                     and row.rung not in COMPARED)

    @property
    def whole(self) -> tuple[Row, ...]:
        """Those of them that keep no layer more precise."""
        return tuple(row for row in self.own if row.rung.recipe != "selective-int8")

    @property
    def labelled(self) -> bool:
        """Whether its accuracy is known."""
        return any(row.right is not None for row in self.rows)

    def twin(self, row: Row) -> Row | None:
        """The first row before `row` whose model has the same bytes; None where it has no model."""
        before = self.rows[:self.rows.index(row)] if row.judged else ()
        return next((each for each in before if each.judged and each.digest == row.digest), None)

    def worse(self, row: Row) -> str:
        """That `row` lost more than plain did, beyond chance; empty where it did not."""
        against = self.against_plain(row)
        return fewer_right(against) if against else ""

    def against_plain(self, row: Row) -> Loss | None:
        """What `row` lost and gained against plain static-int8; None without labels."""
        if self.plain is None or self.plain.right is None or row.right is None:
            return None
        return loss(self.plain.right, row.right)


def rungs_for(granularity: str) -> tuple[Rung, ...]:
    """The rungs of a ladder with `granularity`; those that have none are climbed once."""
    return tuple(rung for rung in RUNGS if rung.graded or granularity == GRANULARITIES[0])
