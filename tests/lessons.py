"""Layers to be learnt, small enough that every rounding of their weights can be tried."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from graphs import Net

from edgeq.graph import layers, parse
from edgeq.ptq.layerwise import Lesson
from edgeq.ptq.rounding import Means, Moments, Rounded, error, nearest, scales

STEP = 0.05  # that of the grid which the quantized inputs stand on


def inputs(width: int, seed: int, count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Float inputs (count, width) that hang together, and quantized ones."""
    chance = np.random.default_rng(seed)
    mixed = chance.normal(size=(width, width)) + np.ones((width, width))
    x = (chance.normal(size=(count, width)) @ mixed / width + 0.3).astype(np.float32)
    return x, np.round(x / STEP).astype(np.float32) * np.float32(STEP)


def moments(x: np.ndarray, z: np.ndarray) -> Moments:
    """Those of inputs (count, width), of one group."""
    count = len(x)
    quantized, crossed, *both = (np.asarray(each, np.float32)[None] for each in (
        z.T @ z / count, z.T @ x / count, z.mean(axis=0, keepdims=True), x.mean(axis=0, keepdims=True)))
    return Moments(quantized, crossed, Means(*both))


def lesson(matrix, x, z, bits: int = 4, granularity="per_channel") -> Lesson:
    """A dense layer with weights `matrix` (width, channels), rounded to the nearest."""
    matrix = np.asarray(matrix, np.float32)[None]
    net = Net((1, matrix.shape[1]))
    net.dense("in", matrix[0].T)
    (layer,) = layers(parse(net.file(), "x"))
    start = nearest(matrix, scales(matrix, granularity, bits), bits)
    return Lesson(layer, matrix, start, moments(x, z), bits)


def lost(rounded: Rounded, task: Lesson) -> np.ndarray:
    """The error of each output (channels,), up to a constant."""
    return error(rounded.real, task.matrix, task.moments).reshape(-1)


def up_or_down(task: Lesson) -> Iterator[Rounded]:
    """Every way to round each weight down or up, of a task with one channel."""
    floor = np.floor(task.matrix / task.start.scales)
    most = 2 ** (task.bits - 1) - 1
    for ups in itertools.product((0, 1), repeat=task.matrix.shape[1]):
        integers = np.clip(floor + np.float32(ups).reshape(floor.shape), -most, most)
        yield Rounded(integers.astype(np.int8), task.start.scales)


def near(task: Lesson, reach: int = 2) -> Iterator[Rounded]:
    """Every rounding whose integers are at most `reach` from the nearest, of a task with one channel."""
    most = 2 ** (task.bits - 1) - 1
    for moves in itertools.product(range(-reach, reach + 1), repeat=task.matrix.shape[1]):
        integers = task.start.integers + np.int8(moves).reshape(task.matrix.shape)
        yield Rounded(np.clip(integers, -most, most), task.start.scales)
