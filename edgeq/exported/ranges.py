"""Where the grids of activations begin and end: for each tensor the better of two, by calibration samples.

One is from the smallest to the largest value seen, the other has the least mean squared error over the
values (torchao's HistogramObserver, after NVIDIA's and ATen's search over histograms). Neither wins
everywhere: the one wastes steps on outliers, the other clips what may matter. So all tensors take the
first, or the second where that comes much closer to the float model's scores, and then single tensors the
other one where that comes closer yet. Much closer, because the scores are a simulation's: XNNPACK's kernels
were seen to lose more by the second than it says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

from edgeq.arrays import Array
from edgeq.exported.opening import Module

Range = Literal["auto", "min-max", "least-squares"]
Pair = tuple[float, float]
Assigned = Mapping[int, Pair]  # by the number of the observer
BETTER, MUCH_BETTER = 0.98, 0.8  # of the error before, for one tensor and for all, or a choice is noise
ALIKE = 0.02  # of a range: two that differ by less are one
TRIED = 24  # tensors at most, those first whose two ranges differ most
SAMPLES = 128


@dataclass(frozen=True, eq=False)
class Observed:
    """What one observer saw: its candidates for a range, by their names."""

    observer: Any
    candidates: Mapping[str, Pair]

    @property
    def difference(self) -> float:
        """How far the candidates are from each other, as a share of the wider one."""
        (low, high), (narrow_low, narrow_high) = self.candidates["min-max"], self.candidates["least-squares"]
        return (abs(low - narrow_low) + abs(high - narrow_high)) / max(high - low, 1e-12)

    def fix(self, pair: Pair) -> None:
        """Let it stand for this range from now on, in a run of the graph and when that is converted."""
        import torch

        low, high = (torch.tensor(each) for each in pair)
        scale, point = self.observer._calculate_qparams(low, high)
        limits = (self.observer.quant_min, self.observer.quant_max)
        self.observer.calculate_qparams = lambda: (scale, point)
        self.observer.forward = lambda x: torch.fake_quantize_per_tensor_affine(
            x, float(scale), int(point), *limits)


def fix_ranges(prepared: Any, float_module: Module, calibration: Array, asked: Range) -> None:
    """Observe `calibration` (n, …) in the `prepared` graph, and fix the range of each activation in it."""
    import torch

    watched = Module(prepared, float_module.example, float_module.batch)
    with torch.no_grad():
        for batch in watched.batches(calibration):
            prepared(batch)
    observed = tuple(_observed(prepared))
    _fix_weights(prepared)
    choices = ("min-max", "least-squares") if asked == "auto" else (asked,)
    samples = calibration[:SAMPLES]
    error = _distance(float_module, samples)

    def tried(assigned: Assigned) -> float:
        for number, each in enumerate(observed):
            each.fix(assigned[number])
        return error(watched)

    uniform = [{number: each.candidates[name] for number, each in enumerate(observed)} for name in choices]
    if len(uniform) == 1:
        tried(uniform[0])
        return
    widest, closest = (tried(each) for each in uniform)
    start = (uniform[1], closest) if closest < MUCH_BETTER * widest else (uniform[0], widest)
    tried(_improved(observed, *start, tried))


def _improved(observed: tuple[Observed, ...], start: Assigned, error: float,
              tried: Callable[[Assigned], float]) -> Assigned:
    """`start` with the other range for each tensor where that comes closer to the float model."""
    order = sorted(range(len(observed)), key=lambda number: (-observed[number].difference, number))
    for number in order[:TRIED]:
        if observed[number].difference < ALIKE:
            break
        other = next(pair for pair in observed[number].candidates.values() if pair != start[number])
        if (found := tried({**start, number: other})) < BETTER * error:
            start, error = {**start, number: other}, found
    return start


def _observed(prepared: Any) -> Iterator[Observed]:
    """The observers of activations that saw anything, each once, in the order of the graph."""
    from torchao.quantization.pt2e import HistogramObserver

    for module in prepared.modules():
        if isinstance(module, HistogramObserver) and module.histogram.sum() > 0:
            low, high = (float(each) for each in module._non_linear_param_search())
            yield Observed(module, {"min-max": (float(module.min_val), float(module.max_val)),
                                    "least-squares": (low, high)})


def _fix_weights(prepared: Any) -> None:
    """Let the observers of weights put them on their grids, too, when the graph is run."""
    import torch
    from torchao.quantization.pt2e import MinMaxObserver, PerChannelMinMaxObserver

    for module in prepared.modules():
        if isinstance(module, (MinMaxObserver, PerChannelMinMaxObserver)):
            scale, point = module.calculate_qparams()
            limits = (module.quant_min, module.quant_max)
            if isinstance(module, PerChannelMinMaxObserver):
                module.forward = _on_channels(scale, point.to(torch.int32), module.ch_axis, limits)
            else:
                module.forward = _on_one(float(scale), int(point), limits)


def _on_channels(scale: Any, point: Any, axis: int, limits: tuple[int, int]) -> Callable[[Any], Any]:
    import torch

    return lambda x: torch.fake_quantize_per_channel_affine(x, scale, point, axis, *limits)


def _on_one(scale: float, point: int, limits: tuple[int, int]) -> Callable[[Any], Any]:
    import torch

    return lambda x: torch.fake_quantize_per_tensor_affine(x, scale, point, *limits)


def _distance(float_module: Module, samples: Array) -> Callable[[Module], float]:
    """The mean squared difference of a module's outputs for `samples` from the float module's.

    Where those are shares, by a last softmax, their logarithms are compared, flattened to a spread of
    1: see ptq/aims.py.
    """
    wanted = _flattened(float_module.outputs(samples))
    spread = wanted[1]

    def distance(module: Module) -> float:
        found = float(((_flattened(module.outputs(samples), spread)[0] - wanted[0]) ** 2).mean())
        return found if isfinite(found) else float("inf")

    return distance


def _flattened(outputs: Any, spread: float | None = None) -> tuple[Any, float]:
    """Shares (n, classes) as those of a softmax at the temperature at which they spread by 1."""
    import torch

    shares = outputs.ndim == 2 and outputs.shape[1] > 1 and bool((outputs >= 0).all()) and bool(
        ((outputs.sum(1) - 1).abs() < 0.02).all())
    if not shares:
        return outputs.double(), 0.0
    scores = outputs.double().clamp_min(1e-12).log()
    spread = spread or max(1e-6, float(scores.std(dim=1).median()))
    return torch.softmax(scores / spread, 1), spread
