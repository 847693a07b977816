"""Post-training quantization as far as all recipes share it: candidates, and which of them is best.

A recipe makes several integer models of one float model and keeps the one whose scores come
closest to the float ones on the calibration samples, the plainest among them: so none does worse
there than static-int8 does. The integer models themselves are run for it, no simulation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from edgeq import baseline
from edgeq.arrays import Array
from edgeq.graph import with_integer_kernels, with_own_biases
from edgeq.ptq import quantizer
from edgeq.ptq.aims import Aim, aim
from edgeq.ptq.calibration import Ranges, ranges
from edgeq.ptq.clipping import clipped
from edgeq.ptq.equalization import absorbed, balanced, by_weights, equalized
from edgeq.ptq.layerwise import Learn, learned
from edgeq.ptq.ranges import Choice
from edgeq.quantization import UNQUANTIZED, FullInteger, Static, note, write_static
from edgeq.samples import samples_in

NONE: Ranges = {}
CLEARLY = 0.95
SOME = 32  # samples on which float models to start from are compared at first
HOPEFUL = 4  # times the least loss: 6 dB, about what ranges chosen tensor by tensor win


@dataclass(frozen=True)
class PostTraining(FullInteger):
    """What every recipe for the baseline and calibration samples may be told: the ranges' method."""

    precision: ClassVar[str] = "int8"
    inputs: ClassVar[tuple[Literal["baseline"], Literal["calibration"]]] = ("baseline", "calibration")
    packages: ClassVar = (quantizer.NAME, "ai-edge-litert")
    range: Choice = "auto"


@dataclass(frozen=True, eq=False)
class Candidate:
    """One integer model: `content`, made of the plain one by learning, that of a float `baseline`.

    `loss` is that of its scores on the calibration samples; `edits` and `learnt` say what was done.
    """

    baseline: bytes
    plain: bytes
    content: bytes
    loss: float
    edits: str
    learnt: str = ""

    @property
    def said(self) -> str:
        """What was done, in words."""
        return ", ".join(filter(None, (self.edits, self.learnt))) or "the plain model: nothing came closer"


@dataclass(frozen=True, eq=False)
class Given:
    """What a recipe starts from: the float model, calibration samples (n, *shape), what is wanted."""

    baseline: bytes
    samples: Array
    aim: Aim
    wanted: Static
    choice: Choice

    def static(self, edited: bytes, edits: str = "", narrowed: Ranges = NONE) -> Candidate:
        """The float model `edited` quantized plainly, with ranges by the choice, or `narrowed` ones."""
        def build(found: Ranges) -> bytes:
            return quantizer.static(edited, {**found, **narrowed}, self.wanted)

        made = build(ranges(edited, self.samples, self.choice, build))
        choices: tuple[Choice, ...] = ("minmax", "auto") if self.choice == "auto" else (self.choice,)
        tried = [clipped(edited, made, self.samples, choice) for choice in choices]
        return best([Candidate(edited, each, each, self.loss(each), edits) for each in tried])

    def taught(self, start: Candidate, learn: Learn | None, learnt: str) -> Candidate:
        """The plain model that `start` was made of, with its layers learnt one after the other."""
        made = learned(start.baseline, start.plain, self.samples, learn)
        return Candidate(start.baseline, start.plain, made, self.loss(made), start.edits, learnt)

    def corrected(self, start: Candidate) -> Candidate:
        """The plain model that `start` was made of, its biases corrected layer by layer."""
        return self.taught(start, None, "biases corrected")

    def loss(self, content: bytes) -> float:
        """How far the scores of an integer model are from the float ones."""
        return self.aim.loss(content, self.samples)


def given(folder: Path, calibration: Path, wanted: Static, choice: Choice) -> Given:
    """What lies in the store's folders of a baseline and of calibration samples."""
    content = with_integer_kernels(with_own_biases((folder / baseline.NAME).read_bytes()))
    samples = samples_in(calibration)
    return Given(content, samples, aim(content, samples), wanted, choice)


def foundations(start: Given) -> tuple[list[Candidate], str]:
    """The plain candidate, and the best of the float models to start from, its biases corrected.

    Those that plain ranges and some of the samples show to be hopeless are left out; where the model
    as it is is one of them, the plain candidate keeps plain ranges. In words: what there was to do.
    """
    plain = replace(start, choice="minmax").static(start.baseline)  # refuses what gives no numbers, too
    quick = replace(start, choice="minmax", samples=start.samples[:SOME], aim=start.aim.first(SOME))
    edits, said = edited(start)
    losses = [quick.corrected(quick.static(*edit)).loss for edit in edits]
    tried = [start.static(*edit) for edit, loss in zip(edits, losses, strict=True)
             if loss <= HOPEFUL * min(losses)]
    found = best(start.corrected(each) for each in tried)
    plain = plain if tried[0].edits else tried[0]
    return [plain, *(each for each in tried if each.edits == found.edits != ""), found], said


def edited(start: Given) -> tuple[list[tuple[bytes, str]], str]:
    """The float model as it is, and equalized in each way, with a word for it; and what was done."""
    balances = {"equalized by weights": by_weights,
                "equalized by weights and activations": balanced(start.wanted.granularity_of)}
    made = [(start.baseline, "")]
    done = undone = 0
    for edits, balance in balances.items():
        content, done, undone = equalized(start.baseline, start.samples, balance)
        content, high = absorbed(content, start.samples)
        if done or high:
            made.append((content, edits))
    if not done + undone:
        return made, "no two layers can be equalized: the float model is as it was"
    return made, f"{done} of {done + undone} pairs of layers equalized" + (
        f", {undone} undone because the float outputs moved" if undone else "")


def best(candidates: Iterable[Candidate]) -> Candidate:
    """The one of the least loss; a later one only where it is clearly better than those before.

    What is learnt from calibration samples does a little better on just these.
    """
    first, *others = candidates
    for other in others:
        if other.loss < CLEARLY * first.loss:
            first = other
    return first


def improved(
    out: Path, folders: tuple[Path, Path], wanted: Static, choice: Choice, lesson: tuple[Learn, str]
) -> None:
    """Write the best of plain, equalized and taught candidates as `out/model.tflite`.

    `folders` are those of the baseline and of the calibration samples; `lesson` is what to learn on
    the best foundation, and its name.
    """
    start = given(*folders, wanted, choice)
    candidates, said = foundations(start)
    write_best(out, [*candidates, start.taught(candidates[-1], *lesson)], said, wanted)


def write_best(out: Path, candidates: Sequence[Candidate], said: str, wanted: Static) -> None:
    """Write the best of `candidates` as `out/model.tflite`, and note what it is.

    Where it was made of an edited float model, that stands beside it: its layers give other values.
    """
    found = best(candidates)
    note(out, said, f"taken: {found.said}")
    if found.edits:
        (out / UNQUANTIZED).write_bytes(found.baseline)
    write_static(out, found.content, wanted, quantizer.NAME)
