"""RESIZE_NEAREST_NEIGHBOR and RESIZE_BILINEAR: where each output row and column comes from is a table.

The one rule: tables are made by TFLite's own arithmetic, in float32 for the nearest and in 1024ths for
bilinear; the C has no division.
"""

from __future__ import annotations

import math

import numpy as np

from edgeq.arrays import Array, Integers
from edgeq.firmware.kernel import Constant, Input, Kernel, Operation, Output
from edgeq.firmware.portable.text import RUN, TYPES, Lines, c_type, function, loop, require_integers, shaped

UNIT = 1 << 10


def nearest(operation: Operation) -> Kernel:
    """RESIZE_NEAREST_NEIGHBOR of any type."""
    source, sink = operation.source, operation.sink
    kind, depth, (rows, columns) = c_type(source), source.shape[3], sink.shape[1:3]
    found = [nearest_places(source.shape[axis], sink.shape[axis], **_centres(operation)) for axis in (1, 2)]
    pixel = ([f"memcpy(y, pixel, {depth}u * sizeof({kind}));"] if depth >= RUN
             else loop("c", depth, ["y[c] = pixel[c];"]))
    lines = loop("oy", rows, [
        f"const {kind} *row = x + rows[oy] * {source.shape[2] * depth};",
        *loop("ox", columns, [
            f"const {kind} *pixel = row + columns[ox] * {depth};", *pixel, f"y += {depth};"])])
    what = f"Nearest neighbours: {shaped(source)} -> {shaped(sink)}."
    parameters = f"const {kind} *x, {kind} *y, const uint16_t *rows, const uint16_t *columns"
    routine = function(f"nearest_{source.dtype.lower()}", what, parameters, _images(source.shape, lines))
    return Kernel(routine, (Input(), Output(), *_tables(found, "uint16")))


def bilinear(operation: Operation) -> Kernel:
    """RESIZE_BILINEAR of int8."""
    source, sink = operation.source, operation.sink
    kind = TYPES[require_integers(source, sink, among=("INT8",))]
    depth, width = source.shape[3], source.shape[2]
    found = [bilinear_places(source.shape[axis], sink.shape[axis], **_centres(operation)) for axis in (1, 2)]
    lines = loop("oy", sink.shape[1], [
        f"const {kind} *upper = x + rows[0] * {width * depth};",
        f"const {kind} *lower = x + rows[1] * {width * depth};",
        "const int32_t down = rows[2];",
        "const int16_t *column = columns;",
        *loop("ox", sink.shape[2], [
            f"const int32_t left = column[0] * {depth}, right = column[1] * {depth}, across = column[2];",
            *loop("c", depth, _mixed(kind)), "column += 3;"]),
        "rows += 3;"])
    body = _images(source.shape, lines if source.shape[0] == 1 else ["const int16_t *first = rows;", *lines,
                                                                    "rows = first;"])
    routine = function("bilinear_int8", f"Bilinear: {shaped(source)} -> {shaped(sink)}.",
                       f"const {kind} *x, {kind} *y, const int16_t *rows, const int16_t *columns", body)
    return Kernel(routine, (Input(), Output(), *_tables(found, "int16")))


def nearest_places(size: int, outputs: int, *, align: bool, half: bool) -> Integers:
    """From which of `size` inputs each of the outputs along an axis comes (GetNearestNeighbor)."""
    aligned = align and outputs > 1
    scale = np.float32(size - aligned) / np.float32(outputs - aligned)
    at = (np.arange(outputs, dtype=np.float32) + np.float32(0.5 if half else 0)) * scale
    places = np.floor(at.astype(np.float64) + 0.5) if align else np.floor(at)
    return np.clip(places.astype(np.int64), 0 if half else None, size - 1)


def bilinear_places(size: int, outputs: int, *, align: bool, half: bool) -> Array:
    """The two inputs that each output lies between, and how far beyond the first, in 1024ths."""
    aligned = align and outputs > 1
    scale = (UNIT * (size - aligned) + (outputs - aligned) // 2) // (outputs - aligned)
    at = np.arange(outputs, dtype=np.int64) * scale + (scale // 2 - UNIT // 2 if half else 0)
    low = np.maximum(np.fix(at / UNIT).astype(np.int64), 0)
    high = np.minimum(np.fix((at + UNIT - 1) / UNIT).astype(np.int64), size - 1)
    return np.stack([low, high, at - UNIT * low], axis=-1)


def _tables(found: list[Array], kind: str) -> list[Constant]:
    return [Constant(name, each.astype(kind)) for name, each in zip(("rows", "columns"), found, strict=True)]


def _mixed(kind: str) -> Lines:
    half = UNIT * UNIT // 2
    return [f"const int32_t top = upper[left + c] * ({UNIT} - across) + upper[right + c] * across;",
            f"const int32_t bottom = lower[left + c] * ({UNIT} - across) + lower[right + c] * across;",
            f"const int32_t value = top * ({UNIT} - down) + bottom * down;",
            f"*y++ = ({kind})((value + (value > 0 ? {half} : -{half})) / {UNIT * UNIT});"]


def _images(shape: tuple[int, ...], lines: Lines) -> Lines:
    """`lines` for every image of the batch."""
    size = math.prod(shape[1:])
    return lines if shape[0] == 1 else loop("image", shape[0], [*lines, f"x += {size};"])


def _centres(operation: Operation) -> dict[str, bool]:
    return {"align": bool(operation.option("alignCorners")),
            "half": bool(operation.option("halfPixelCenters"))}
