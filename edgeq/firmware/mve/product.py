"""The shapes of a product of pixels and weights, and how its weights lie in flash.

The one rule: weights are padded with zeros to vectors of 16, so what is read behind a row of a window
may be anything.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeq.arrays import Array, Integers
from edgeq.firmware.mve.requantize import Form, Requantization

VECTOR = 16
BYTE_REACH, WORD_REACH = 127, 508  # what VLDRB and VLDRW may add to an address


@dataclass(frozen=True)
class Product:
    """Shapes of a product: windows of `segments` rows of `length` bytes, `step` bytes apart, to `channels`.

    `aligned` says that all addresses are multiples of four, `pairs` that there may be two pixels or more,
    `single` that they may be odd in number.
    """

    segments: int
    length: int
    step: int
    channels: int
    aligned: bool
    pairs: bool
    single: bool
    form: Form

    @property
    def gathered(self) -> bool:
        """Whether the rows of a window are put side by side first, since they are short."""
        together = -(-self.segments * self.length // VECTOR)
        return (self.length <= VECTOR and together < self.segments
                and (self.segments - 1) * self.length <= BYTE_REACH)

    @property
    def vectors(self) -> int:
        """The vectors of a row."""
        return -(-self._row // VECTOR)

    @property
    def rows(self) -> int:
        """The rows of a window as they are multiplied."""
        return 1 if self.gathered else self.segments

    @property
    def pointers(self) -> int:
        """The entries that the table of rows has room for."""
        return -(-self.segments // 4) * 4

    @property
    def over_read(self) -> int:
        """How many bytes behind a row of a window are read."""
        return VECTOR - self.length if self.gathered else self.vectors * VECTOR - self.length

    @property
    def blocks(self) -> int:
        """The blocks of four channels."""
        return -(-self.channels // 4)

    @property
    def patch(self) -> int:
        """The bytes in which a pixel's rows are gathered, vector by vector; 0 where they are not."""
        behind = (self.segments - 1) * self.length + VECTOR
        return -(-behind // VECTOR) * VECTOR if self.gathered else 0

    @property
    def distance(self) -> int:
        """The bytes from a pixel to the one beside it, as they are multiplied."""
        return self.patch if self.gathered else self.step

    @property
    def _row(self) -> int:
        return self.segments * self.length if self.gathered else self.length


def packed(product: Product, weights: Integers, requantization: Requantization) -> Array:
    """The constants: the unit, then blocks of four channels: their weights 16 by 16, then the rows.

    `weights` are (channels, segments * length).
    """
    blocks = product.blocks
    rows = weights.reshape(len(weights), product.rows, -1)
    missing = product.vectors * VECTOR - rows.shape[2]
    padded = np.pad(rows, ((0, blocks * 4 - len(rows)), (0, 0), (0, missing)))
    vectors = padded.reshape(blocks, 4, -1, VECTOR).transpose(0, 2, 1, 3)
    bytes_ = np.ascontiguousarray(vectors, np.int8).view(np.uint32).reshape(blocks, -1)
    requantized = requantization.padded(blocks * 4).reshape(-1, blocks, 4).transpose(1, 0, 2)
    blocks_ = np.concatenate([bytes_, requantized.reshape(blocks, -1)], 1)
    return np.concatenate([np.array([requantization.unit], np.uint32), blocks_.reshape(-1)])
