"""`python -m edgeq.firmware ORDER QUANTIZED`: makes firmware in the folder that it runs in.

A program of its own, as other compilers are: a build with nothing to make never loads it. What is
wrong with the order or the model is left in error.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import msgspec

from edgeq.errors import EdgeqError
from edgeq.firmware.building import build
from edgeq.firmware.order import ERROR, Order


def main(order: Path, quantized: Path) -> None:
    """Make what `order` says of the model in `quantized`."""
    try:
        build(msgspec.json.decode(order.read_bytes(), type=Order), quantized, Path())
    except EdgeqError as error:
        told = (type(error).__name__, error.message, error.hint)
        Path(ERROR).write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
