"""Data sets: .npz files, image folders and the user's own functions, brought to one form.

In the store a data set is a folder of plain arrays: x.npy (n, *shape) in the type of the model's
input, and where there are any, y.npy (n,) and, as text, group.npy (n,). Which samples are taken of a
larger set is chosen by a seed, evenly over the classes, so that both sides of a comparison see the
same ones.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from edgeq.arrays import Array, Integers
from edgeq.baseline import End, ends_in
from edgeq.errors import ConfigError
from edgeq.user_code import imported

Labels = Literal["class", "anomaly", "any"]
IMAGES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"})


@dataclass(frozen=True)
class Samples:
    """How one data set of a model is read.

    `count` samples are taken, all where it is None, and never more than `at_most`;
    (x - mean) / std is what the model is fed, as in TFLite's metadata; `labels` says what y must
    be; `function` is the user's own reader, which returns a mapping with x and, where there are
    any, y and group.
    """

    packages: ClassVar = ("numpy", "pillow", "ai-edge-litert")

    role: Literal["calibration", "evaluation", "training"]
    count: int | None = None
    at_most: int | None = None
    seed: int = 0
    mean: float = 0.0
    std: float = 1.0
    labels: Labels = "any"
    function: str = ""

    def load(self, out: Path, data: Path, baseline: Path) -> None:
        """Write x.npy, y.npy and group.npy into `out` from what lies at `data`.

        Raises ConfigError where `data` is damaged, does not fit the input of `baseline`, holds NaN
        or infinity, or labels that the model has no outputs for.
        """
        entry, exit_ = ends_in(baseline)
        origin = f"{self.role} data {self.function or data.name}"
        arrays = self._read(data, entry, origin)
        x = self._fitted(arrays["x"], entry, origin)
        beside = _beside(arrays, len(x), origin)
        if self.labels != "any":
            beside["y"] = _checked_labels(beside.get("y"), self.labels, exit_.shape[-1], origin)
        chosen = self._chosen(len(x), beside.get("y"), origin)
        for name, values in {"x": x, **beside}.items():
            np.save(out / f"{name}.npy", values[chosen], allow_pickle=False)

    def _read(self, data: Path, entry: End, origin: str) -> Mapping[str, Array]:
        if self.function:
            return _mapping(imported(data, self.function, self.role)(), origin)
        return _images(data, entry, origin) if data.is_dir() else _npz(data, origin)

    def _fitted(self, x: Array, entry: End, origin: str) -> Array:
        """`x` as the model wants it: (n, *shape), in its type, scaled, and finite."""
        wanted = entry.shape[1:]
        if _solid(x.shape[1:]) != _solid(wanted):
            raise ConfigError(
                f"{origin}: x has the shape {list(x.shape)}, the model wants {['n', *wanted]}",
                "reshape the samples, or give the model that was trained on them")
        kind = np.dtype(entry.dtype.lower())
        if not (np.issubdtype(x.dtype, np.number) and np.can_cast(x.dtype, kind, "same_kind")):
            raise ConfigError(f"{origin}: x is {x.dtype}, the model wants {kind}",
                              f"save the samples as {kind}")
        values = x.reshape(len(x), *wanted).astype(kind)
        if (self.mean, self.std) != (0.0, 1.0):
            values = ((values - self.mean) / self.std).astype(kind)
        if not np.isfinite(values).all():
            bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
            raise ConfigError(f"{origin}: {int(bad.sum())} samples hold NaN or infinity, the first "
                              f"at index {int(np.argmax(bad))}", "leave them out, or mend them")
        return values

    def _chosen(self, found: int, labels: Array | None, origin: str) -> Integers:
        count = found if self.count is None else self.count
        if not found or count > found:
            raise ConfigError(f"{origin}: {count or 'some'} samples were asked for, {found} are there",
                              "give more data, or ask for fewer with `samples:`")
        return choose(found, min(count, self.at_most or count), labels, self.seed)


@dataclass(frozen=True)
class Overlap:
    """How many samples of the evaluation set lie in other sets too, by their exact content."""

    packages: ClassVar = ("numpy",)

    def count(self, out: Path, evaluation: Path, other: Path) -> None:
        """Write `out/overlap.json`: how many evaluation samples `other` holds as well."""
        (out / "overlap.json").write_text(json.dumps(shared_by(evaluation, other)), encoding="utf-8")


def samples_in(folder: Path) -> Array:
    """The samples (n, *shape) of a data set that `Samples.load` wrote."""
    loaded: Array = np.load(folder / "x.npy", mmap_mode="r", allow_pickle=False)
    return loaded


def labels_in(folder: Path) -> Array | None:
    """Its labels (n,), or None."""
    path = folder / "y.npy"
    return np.load(path, allow_pickle=False) if path.exists() else None


def groups_in(folder: Path) -> Array | None:
    """The name of each sample's group (n,), or None."""
    path = folder / "group.npy"
    return np.load(path, allow_pickle=False) if path.exists() else None


def shared_by(evaluation: Path, other: Path) -> int:
    """How many samples of the set in `evaluation` lie in `other` too, by their exact content."""
    theirs = set(contents(samples_in(other)))
    return sum(content in theirs for content in contents(samples_in(evaluation)))


def contents(samples: Array) -> Iterator[bytes]:
    """A digest of what each of `samples` (n, *shape) holds, to be told from the others by."""
    return (hashlib.sha256(np.ascontiguousarray(sample).data).digest() for sample in samples)


def choose(found: int, count: int, labels: Array | None, seed: int) -> Integers:
    """`count` of `found` indices, ascending: by `seed`, and in the proportions of the classes.

    Each class gets its share rounded down, and the largest remainders one more, as in the
    Hamilton method.
    """
    if count == found:
        return np.arange(found)
    shuffled = np.random.default_rng(seed).permutation(found)
    if labels is None or labels.ndim != 1:
        return np.sort(shuffled[:count])
    classes, sizes = np.unique(labels, return_counts=True)
    shares = sizes * count / found
    quotas = np.floor(shares).astype(int)
    order = np.argsort(-(shares - quotas), kind="stable")
    quotas[order[: count - quotas.sum()]] += 1
    taken = [shuffled[labels[shuffled] == label][:quota]
             for label, quota in zip(classes, quotas, strict=True)]
    return np.sort(np.concatenate(taken))


def _solid(shape: tuple[int, ...]) -> tuple[int, ...]:
    """`shape` without its dimensions of 1, which frameworks place differently."""
    return tuple(size for size in shape if size != 1)


def _mapping(returned: object, origin: str) -> Mapping[str, Array]:
    if not isinstance(returned, Mapping) or "x" not in returned:
        raise ConfigError(f"{origin} returned {type(returned).__name__}, not a mapping with x",
                          "return {'x': …, 'y': …}, arrays with a sample a row")
    try:
        arrays = {name: np.asarray(values) for name, values in returned.items()}
    except ValueError as error:
        raise ConfigError(f"{origin} returned what makes no array: {error}",
                          "give all samples one shape") from error
    if odd := [name for name, values in arrays.items() if values.dtype.hasobject]:
        raise ConfigError(f"{origin} returned Python objects in {', '.join(odd)}",
                          "return arrays of numbers")
    return arrays


def _npz(path: Path, origin: str) -> Mapping[str, Array]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, RuntimeError, AttributeError, TypeError,
            zipfile.BadZipFile, zlib.error) as error:
        raise ConfigError(f"{origin} is no .npz file of plain arrays, or is damaged: {error}",
                          "save it with numpy.savez_compressed(path, x=…, y=…)") from error
    if "x" not in arrays:
        raise ConfigError(f"{origin} has no array x, only {', '.join(arrays) or 'nothing'}",
                          "name the samples x, the labels y, and the subgroups group")
    return arrays


def _beside(arrays: Mapping[str, Array], count: int, origin: str) -> dict[str, Array]:
    """What goes with `count` samples: the labels and groups that there are, an entry a sample."""
    beside = {name: arrays[name] for name in ("y", "group") if name in arrays}
    for name, values in beside.items():
        if values.shape[:1] != (count,):
            raise ConfigError(f"{origin}: {count} samples in x, but {name} has the shape "
                              f"{list(values.shape)}", f"give one {name} a sample")
    if "group" in beside:
        beside["group"] = _names(beside["group"], origin)
    return beside


def _names(groups: Array, origin: str) -> Array:
    """`groups` (n,) as text: names as they are, whole numbers, or `true` and `false`."""
    kind = groups.dtype.kind
    if groups.ndim != 1 or kind not in "USiub":
        raise ConfigError(f"{origin}: group is {groups.dtype} of shape {list(groups.shape)}",
                          "give one name a sample, as text, whole numbers or booleans")
    named = np.char.decode(groups, "utf-8", "replace") if kind == "S" else groups.astype(str)
    if (named == "").any():
        raise ConfigError(f"{origin}: {int((named == '').sum())} samples have an empty group",
                          "give every sample a name, `none` if need be")
    return np.char.lower(named) if kind == "b" else named


def _images(folder: Path, entry: End, origin: str) -> Mapping[str, Array]:
    """The images below `folder`, a class a subfolder in alphabetical order, at the model's size."""
    classes = sorted(child for child in folder.iterdir() if child.is_dir() and child.name[0] != ".")
    found = [(file, label) for label, child in enumerate(classes)
             for file in sorted(child.rglob("*")) if file.suffix.lower() in IMAGES]
    if not found:
        raise ConfigError(f"{origin} has no images in subfolders",
                          "put the images of each class into a subfolder of its name")
    pixels = np.stack([_image(file, entry.shape[1:], origin) for file, _ in found])
    return {"x": pixels, "y": np.array([label for _, label in found], np.int64)}


def _image(file: Path, shape: tuple[int, ...], origin: str) -> Array:
    from PIL import Image

    first = len(shape) == 3 and shape[0] in (1, 3) and shape[2] not in (1, 3)  # channels first, as in PyTorch
    height, width, channels = (*shape[1:], shape[0]) if first else (*shape, *(0, 0, 0))[:3]
    if len(shape) != 3 or channels not in (1, 3):
        raise ConfigError(f"{origin}: images do not fit an input of shape {['n', *shape]}",
                          "give the samples as .npz")
    try:
        with Image.open(file) as image:
            sized = image.convert("L" if channels == 1 else "RGB").resize(
                (width, height), Image.Resampling.BILINEAR)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ConfigError(f"{origin}: {file.parent.name}/{file.name} is no image, or is damaged",
                          "leave it out, or mend it") from error
    pixels = np.asarray(sized, np.uint8).reshape(height, width, channels)
    return pixels.transpose(2, 0, 1) if first else pixels


def _checked_labels(labels: Array | None, kind: Labels, outputs: int, origin: str) -> Array:
    if labels is None:
        raise ConfigError(f"{origin} has no labels y, and its metric needs them",
                          "add the array y, or leave out `metric:` and gate agreement or sqnr_db")
    classes = 2 if kind == "anomaly" else outputs
    flat = labels.reshape(len(labels), -1)
    if flat.shape[1] != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ConfigError(f"{origin}: y is {labels.dtype} of shape {list(labels.shape)}",
                          "give one class number a sample, as integers")
    outside = (flat < 0) | (flat >= classes)
    if outside.any():
        raise ConfigError(
            f"{origin}: {int(outside.sum())} labels lie outside 0..{classes - 1}, the first is "
            f"{int(flat[outside][0])}", "the labels are positions in the model's output")
    return flat[:, 0].astype(np.int64)
