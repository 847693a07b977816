"""A stand-in for Jetperch's driver (pyjoulescope_driver.Driver): what it publishes, without USB underneath.

The one rule: its serial number says what it is. Nothing emulates the instrument's own USB protocol here: this
begins at the driver's topics, which are the same for JS110 and JS220.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from edgeq.power.rig import STAND_IN

# Watts and the trigger's level at times (s, since the sampling began).
Load = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
PATH = f"u/js220/{STAND_IN}"
NATIVE, TICK_S, EIGHT = 1_000_000, 0.02, 8


class Driver:
    """The part of the driver's interface that a recording uses; `load` is what its one instrument measures.

    It is `gone_after_s` seconds after it was opened, and loses the samples that `lost` names by number.
    """

    def __init__(
        self, load: Load, gone_after_s: float = float("inf"), lost: tuple[range, ...] = (),
        paths: tuple[str, ...] = (PATH,),
    ) -> None:
        self.published: list[tuple[str, object]] = []
        self._load, self._gone_after_s, self._lost, self._paths = load, gone_after_s, lost, paths
        self._heard: dict[str, Callable[[str, Mapping[str, Any]], None]] = {}
        self._rate = NATIVE
        self._on: set[str] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *_: object) -> None:
        self.finalize()

    def device_paths(self) -> list[str]:
        """The instruments that are attached."""
        return list(self._paths)

    def open(self, path: str) -> None:
        """Open the instrument; RuntimeError where it is not there."""
        if path not in self._paths:
            raise RuntimeError(f"open {path} failed")
        self._thread.start()

    def close(self, path: str) -> None:
        """Let go of the instrument."""
        self.published.append((path, "closed"))
        self._ended.set()

    def finalize(self) -> None:
        """End."""
        self._ended.set()
        if self._thread.ident:
            self._thread.join()

    def publish(self, topic: str, value: Any) -> None:
        """Set what `topic` names."""
        self.published.append((topic, value))
        if topic.endswith("/h/fs"):
            self._rate = int(value)
        if topic.endswith("/ctrl") and value:
            self._on.add(topic.replace("/ctrl", "/!data"))

    def subscribe(
        self, topic: str, _flags: list[str], function: Callable[[str, Mapping[str, Any]], None]
    ) -> None:
        """Let `function` hear what is published as `topic`."""
        self._heard[topic] = function

    def _sample(self) -> None:
        begun, sent = time.monotonic(), 0
        while not self._ended.wait(TICK_S) and time.monotonic() - begun < self._gone_after_s:
            due = int((time.monotonic() - begun) * self._rate) // EIGHT * EIGHT
            if due > sent and self._on:
                self._send(sent, due)
                sent = due

    def _send(self, first: int, last: int) -> None:
        """What is published of the samples from the one number to the other."""
        numbers = np.arange(first, last)
        power, high = self._load(numbers / self._rate)
        lost = np.zeros(numbers.size, bool)
        for each in self._lost:
            lost |= (numbers >= each.start) & (numbers < each.stop)
        values: dict[str, np.ndarray] = {
            "/s/p/!data": np.where(lost, np.nan, power).astype(np.float32),
            "/s/gpi/": np.packbits(high.astype(np.uint8), bitorder="little")}
        for topic, data in self._published(values):
            factor = NATIVE // self._rate
            self._heard[topic](topic, {"sample_id": first * factor, "decimate_factor": factor,
                                       "sample_rate": NATIVE, "data": data})

    def _published(self, values: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
        """The topics that are on, with their values."""
        for part, data in values.items():
            yield from ((topic, data) for topic in sorted(self._on) if part in topic)
