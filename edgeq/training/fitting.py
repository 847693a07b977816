"""Training of a tf_keras model on a data set: an epoch at a time, by the seed alone, to be gone on with.

Which samples an epoch takes, and in what order, follows from the seed and its number, never from the
epochs before it; so a training that was stopped goes on after its last whole epoch to the very same
weights. Of all epochs the one with the least loss on held-back samples is kept.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from edgeq import progress
from edgeq.arrays import Array, Integers
from edgeq.errors import ConfigError, Refused
from edgeq.samples import choose, labels_in, samples_in

SQUASHED = frozenset({"softmax", "sigmoid"})
PASSING_ON = frozenset({"Activation", "Dropout", "Flatten", "Permute", "Reshape"})
KEPT = "last-good.weights.h5"
HINT = "give a class number a sample, as integers, or floats of the output's shape"

Weights = list[Array]


@dataclass(frozen=True)
class Schedule:
    """How a model is trained, by Adam: `epochs` at most, stopped early after `patience` in vain.

    `validation_split` of the samples are held back to see by which epoch is best; where it is 0,
    the last one is taken.
    """

    epochs: int
    learning_rate: float
    batch_size: int
    seed: int
    validation_split: float
    patience: int


@dataclass(frozen=True)
class Stage:
    """One of the trainings that a recipe is made of: what its epochs are called, where it is kept.

    What an epoch ends with goes into the folder `partial`, where there is one. `callbacks` are
    Keras's; they hear of the beginning and of the end of each epoch.
    """

    partial: Path | None = None
    called: str = "epoch"
    callbacks: tuple[Any, ...] = ()

    @property
    def file(self) -> Path | None:
        """Where the training is kept, to be gone on with."""
        return self.partial and self.partial / f"{self.called.replace(' ', '-')}.npz"


@dataclass(frozen=True)
class Lessons:
    """Samples x (n, *shape), what the model shall give for each of them, y, and the loss between."""

    x: Array
    y: Array
    loss: Any


@dataclass(frozen=True)
class Standing:
    """How far a training has come: epochs done, which was the best of them, and the loss of that."""

    epoch: int = 0
    best: int = 0
    loss: float = float("inf")

    def after(self, loss: float) -> Standing:
        """One epoch later, which ended with this loss on the samples held back."""
        done = self.epoch + 1
        return Standing(done, done, loss) if loss < self.loss else replace(self, epoch=done)

    def ended(self, how: Schedule) -> bool:
        """Whether there is no epoch to come."""
        return self.epoch >= how.epochs or self.epoch - self.best >= how.patience


def lessons(training: Path, model: Any) -> Lessons:
    """What the data set in the folder `training` has to teach the tf_keras `model`.

    Class numbers are learned by cross entropy, values of the output's shape by the mean squared
    error; a model that gives back its input's shape learns its input.
    Raises ConfigError where the data set has nothing for the model to learn.
    """
    given, wanted = (tuple(ends[0].shape[1:]) for ends in (model.inputs, model.outputs))
    x, y = _of_shape(samples_in(training), given), labels_in(training)
    if y is not None and _are(y, np.floating, len(x) * prod(wanted)):
        return _of_values(x, y.reshape(len(x), *wanted))
    if given == wanted and ends_in(model) != "softmax":
        return Lessons(x, x, "mean_squared_error")
    if y is None:
        raise ConfigError("training data has no labels y, and the model does not give back its input", HINT)
    if len(wanted) == 1 and _are(y, np.integer, len(x)):
        return _of_classes(x, y.reshape(len(x)), model)
    raise ConfigError(f"training data: y is {y.dtype} of the shape {['n', *y.shape[1:]]}, the model gives "
                      f"{['n', *wanted]}", HINT)


def _are(y: Array, kind: type, size: int) -> bool:
    """Whether `y` holds so many numbers of a kind."""
    return y.size == size and bool(np.issubdtype(y.dtype, kind))


def ends_in(model: Any) -> str:
    """The name of the function that the tf_keras `model` ends in, such as `softmax` or `linear`."""
    layer = model.outputs[0].node.layer
    while _function(layer) == "linear" and type(layer).__name__ in PASSING_ON:
        layer = layer.inbound_nodes[0].parent_nodes[0].layer
    return _function(layer)


def held_back(y: Array, how: Schedule) -> Integers:
    """Which samples are held back, by the seed, and evenly over the classes, where y (n,) has any.

    At least one is left to learn from.
    """
    count = min(round(len(y) * how.validation_split), len(y) - 1)
    classes = y.reshape(-1) if y.size == len(y) and np.issubdtype(y.dtype, np.integer) else None
    return choose(len(y), count, classes, how.seed) if count else np.arange(0)


def train(model: Any, taught: Lessons, how: Schedule, stage: Stage) -> None:
    """Train the tf_keras `model` in place; it ends with the weights of the best epoch.

    A training that was stopped goes on after its last whole epoch. Raises Refused where the loss
    is no number any more; the last good weights are then kept in `stage.partial`, as `KEPT`.
    """
    import tf_keras

    model.compile(tf_keras.optimizers.Adam(how.learning_rate), taught.loss)
    model.optimizer.build(model.trainable_variables)
    course = _Course(model, taught, how, stage)
    held = held_back(taught.y, how)
    learned = np.setdiff1d(np.arange(len(taught.x)), held)
    standing, best = course.resumed()
    while not standing.ended(how):
        number = standing.epoch + 1
        loss = course.epoch(number, learned)
        validated = course.loss_on(held) if len(held) else -float(number)  # without any, the last is best
        weights = [variable.numpy() for variable in model.variables]
        if not all(np.isfinite(each).all() for each in (loss, validated, *weights)):
            raise course.diverged(number, best)
        standing = standing.after(validated)
        best = weights if standing.best == number else best
        course.keep(standing, best)
    _assign(model.variables, best)


@dataclass(frozen=True)
class _Course:
    """A training under way."""

    model: Any
    taught: Lessons
    how: Schedule
    stage: Stage

    def epoch(self, number: int, learned: Integers) -> float:
        """Train on the samples `learned` once; the last loss, or the first that is not finite.

        A batch is never smaller than the others: what is left over has its turn in other epochs.
        """
        generator = np.random.default_rng((self.how.seed, number))
        for random in _random(self.model):
            random.reset_from_seed(int(generator.integers(1 << 31)))
        order = generator.permutation(learned)
        size = min(self.how.batch_size, len(order))
        steps = len(order) // size
        for step in range(steps):
            chosen = np.sort(order[step * size:(step + 1) * size])
            loss = float(self.model.train_on_batch(self.taught.x[chosen], self.taught.y[chosen]))
            if not np.isfinite(loss):
                break
            progress.tell((number - 1 + (step + 1) / steps) / self.how.epochs,
                          f"{self.stage.called} {number}/{self.how.epochs}")
        for callback in self.stage.callbacks:
            callback.on_epoch_end(number - 1)
        return loss

    def loss_on(self, held: Integers) -> float:
        """The mean loss on the samples `held`."""
        total = 0.0
        for chosen in _slices(held, self.how.batch_size):
            total += len(chosen) * self.model.test_on_batch(self.taught.x[chosen], self.taught.y[chosen])
        return float(total / len(held))

    def resumed(self) -> tuple[Standing, Weights]:
        """How far the training came before it was stopped, with all of it as it was then."""
        kept = _read(self.stage.file)
        if kept:
            _assign([*self.model.variables, *self.model.optimizer.variables], _numbered(kept, "now"))
        for callback in self.stage.callbacks:
            callback.set_model(self.model)
            callback.on_train_begin()
        if not kept:
            return Standing(), [each.numpy() for each in self.model.variables]
        return Standing(**json.loads(str(kept["standing"]))), _numbered(kept, "best")

    def keep(self, standing: Standing, best: Weights) -> None:
        """Write all that going on takes, whole or not at all."""
        if self.stage.file is None:
            return
        now = [each.numpy() for each in (*self.model.variables, *self.model.optimizer.variables)]
        arrays = {f"{name}{i}": each for name, values in (("now", now), ("best", best))
                  for i, each in enumerate(values)}
        draft = self.stage.file.with_suffix(".draft.npz")
        np.savez(draft, standing=json.dumps(asdict(standing)), **arrays)
        draft.replace(self.stage.file)

    def diverged(self, number: int, best: Weights) -> Refused:
        """The refusal of a training whose epoch `number` failed, once what was good before is kept."""
        what = "nothing was learned before"
        if self.stage.partial and number > 1:
            _assign(self.model.variables, best)
            for file in self.stage.partial.glob("*.npz"):
                file.unlink()
            self.model.save_weights(str(self.stage.partial / KEPT))
            what = f"the last good weights are in the store: partial/{self.stage.partial.name}/{KEPT}"
        return Refused(
            f"the training diverged in {self.stage.called} {number}: at the learning rate "
            f"{self.how.learning_rate:g} its loss is no number any more",
            f"give a smaller `learning_rate`; {what}")


def _of_shape(x: Array, given: tuple[int, ...]) -> Array:
    """The samples `x`, once they are seen to be of the shape (n, *given)."""
    if x.shape[1:] != given:
        raise ConfigError(f"training data: x has the shape {['n', *x.shape[1:]]}, the model wants "
                          f"{['n', *given]}", "give the samples that the model was trained on")
    return x


def _of_values(x: Array, y: Array) -> Lessons:
    """Lessons of the values y (n, *shape) that the model shall give."""
    if not np.isfinite(y).all():
        raise ConfigError("training data: y holds NaN or infinity", "leave those samples out, or mend them")
    return Lessons(x, y, "mean_squared_error")


def _of_classes(x: Array, y: Array, model: Any) -> Lessons:
    """Lessons of class numbers y (n,): logits are told from probabilities by what the model ends in."""
    import tf_keras

    outputs, ending = model.outputs[0].shape[-1], ends_in(model)
    classes = max(2, outputs)
    if outside := int(((y < 0) | (y >= classes)).sum()):
        raise ConfigError(f"training data: {outside} labels lie outside 0..{classes - 1}",
                          "the labels are positions in the model's output")
    if outputs == 1 or ending == "sigmoid":
        each = y[:, np.newaxis] if outputs == 1 else np.eye(outputs)[y]
        loss = tf_keras.losses.BinaryCrossentropy(from_logits=ending not in SQUASHED)
        return Lessons(x, each.astype(np.float32), loss)
    return Lessons(x, y, tf_keras.losses.SparseCategoricalCrossentropy(from_logits=ending not in SQUASHED))


def _function(layer: Any) -> str:
    """The function that `layer` ends in: `linear` where it has none."""
    if type(layer).__name__ == "Softmax":
        return "softmax"
    return str(getattr(getattr(layer, "activation", None), "__name__", "linear"))


def _random(model: Any) -> Iterator[Any]:
    """What the layers of `model` draw by, such as those of Dropout."""
    for layer in model.submodules:
        if generator := getattr(getattr(layer, "_random_generator", None), "_generator", None):
            yield generator


def _slices(indices: Integers, size: int) -> Iterator[Integers]:
    return (indices[start:start + size] for start in range(0, len(indices), size))


def _assign(variables: Iterable[Any], values: Weights) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _read(file: Path | None) -> dict[str, Array] | None:
    """The arrays in `file`; None where it is not there, or not whole."""
    try:
        with np.load(file or "", allow_pickle=False) as kept:
            return dict(kept)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None


def _numbered(arrays: dict[str, Array], name: str) -> Weights:
    """The arrays NAME0, NAME1, … in their order."""
    count = sum(key.startswith(name) for key in arrays)
    return [arrays[f"{name}{i}"] for i in range(count)]
