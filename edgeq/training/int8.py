"""What the recipes that train have in common: their fields, their model, and how they end.

A recipe that trains starts from the Keras source, for a .tflite cannot be trained, and ends either
in quantization-aware training or in quantization by calibration samples. What TF-MOT cannot do is
refused before the training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from edgeq import converter
from edgeq.arrays import Array
from edgeq.quantization import BorderType, Granularity, Static, Weighted, note, write_static
from edgeq.samples import choose, samples_in
from edgeq.training.aware import SAMPLES, Preserved, aware
from edgeq.training.fitting import Lessons, Schedule, Stage, lessons, train
from edgeq.training.keras_graph import frozen, legacy

AtLeastOne = Annotated[int, msgspec.Meta(ge=1)]
NotNegative = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
Share = Annotated[float, msgspec.Meta(ge=0, lt=1)]
PER_TENSOR: Mapping[Weighted, Granularity] = {"FULLY_CONNECTED": "per_tensor"}


@dataclass(frozen=True)
class Trained:
    """How long and how fast it is trained, and what the integer model shall be.

    Convolutions have a scale a channel, dense layers one alone: TF-MOT simulates no other.
    """

    precision: ClassVar = "int8"
    sources: ClassVar = ("keras", "h5")
    packages: ClassVar = ("tensorflow", "keras", "tf-keras", "tensorflow-model-optimization", "h5py")
    native: ClassVar = True
    resumable: ClassVar = True
    granularity: ClassVar[Granularity] = "per_channel"

    epochs: AtLeastOne | None = None
    learning_rate: Positive = 1e-4
    batch_size: AtLeastOne = 64
    seed: NotNegative = 0
    validation_split: Share = 0.1
    patience: AtLeastOne = 3
    granularity_by_operator: Mapping[Weighted, Granularity] = field(default_factory=lambda: {**PER_TENSOR})
    inference_input_type: BorderType = "int8"
    inference_output_type: BorderType = "int8"

    def schedule(self) -> Schedule:
        """How the model is trained; an epoch, where nobody says how many."""
        return Schedule(self.epochs or 1, self.learning_rate, self.batch_size, self.seed,
                        self.validation_split, self.patience)

    def wanted(self) -> Static:
        """The integer graph that it shall end in."""
        return Static(8, self.granularity, self.granularity_by_operator,
                      (self.inference_input_type, self.inference_output_type))


@dataclass(frozen=True)
class School:
    """Where a model is trained: the model as tf_keras has it, what it learns, how and where."""

    model: Any
    taught: Lessons
    how: Schedule
    partial: Path | None

    def some(self) -> Array:
        """Some of the samples, by the seed."""
        count = len(self.taught.x)
        return self.taught.x[choose(count, min(count, SAMPLES), None, self.how.seed)]

    def see(self, out: Path, wanted: Static) -> None:
        """See that what is `wanted` can be had, before hours are spent on it; Refused where it cannot."""
        if not (self.partial and any(self.partial.iterdir())):  # else it was seen the time before
            aware(self.model, self.some()).write(out, wanted)

    def learn(self, model: Any, called: str, *callbacks: Any) -> None:
        """Train `model`, in epochs that are `called` so."""
        train(model, self.taught, self.how, Stage(self.partial, called, callbacks))


def school(out: Path, source: Path, training: Path, recipe: Trained, partial: Path | None) -> School:
    """The model in `source` as tf_keras has it, with the lessons in `training`.

    It makes all that draws at random go by the seed, in this process, from here on.
    Raises Refused where the model cannot be carried over.
    """
    import tensorflow as tf
    import tf_keras

    tf.config.experimental.enable_op_determinism()
    tf_keras.backend.clear_session()
    tf_keras.utils.set_random_seed(recipe.seed)
    model = converter.loaded(source)
    if names := frozen(model):
        note(out, f"frozen layers were trained as well: {', '.join(names[:3])}"
                  f"{f' and {len(names) - 3} more' if len(names) > 3 else ''}")
    twin = legacy(model)
    return School(twin, lessons(training, twin), recipe.schedule(), partial)


Compress = Callable[[School], Any]  # trains a model of the school's to be small in some way, and gives it


@dataclass(frozen=True)
class Compressed(Trained):
    """A recipe whose `epochs` of training make the weights small in some way, before they are quantized.

    Where `qat` is true, as many more train the model with its quantization simulated, and else
    calibration samples give the ranges.
    """

    qat: bool = True

    @property
    def inputs(self) -> tuple[Literal["source", "training", "calibration"], ...]:
        """The source, training samples, and calibration samples where they give the ranges."""
        return ("source", "training") if self.qat else ("source", "training", "calibration")

    def write(
        self, out: Path, given: School, compress: tuple[Compress, Preserved], calibration: tuple[Path, ...],
    ) -> None:
        """Write `out/model.tflite` of a compressed model; what compressing won is preserved."""
        if self.qat:
            given.see(out, self.wanted())
        model = compress[0](given)
        if self.qat:
            quantize_aware(out, given, model, self.wanted(), compress[1])
        for samples in calibration:
            quantize_calibrated(out, model, samples, self.wanted())


def quantize_aware(out: Path, given: School, model: Any, wanted: Static, preserved: Preserved = "") -> None:
    """Train `model`, which may be another than the school's own, quantization-aware; write it."""
    made = aware(model, given.some(), preserved)
    if made.unknown:
        note(out, f"not simulated in the training, or in their outputs alone: {made.named()}")
    given.learn(made.model, "epoch")
    made.write(out, wanted)


def quantize_calibrated(out: Path, model: Any, calibration: Path, wanted: Static) -> None:
    """Quantize the trained tf_keras `model` with ranges over the calibration samples; write it."""
    content = converter.static(converter.converter_for(model), samples_in(calibration), wanted)
    write_static(out, content, wanted, converter.NAME)
