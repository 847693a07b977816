"""What is made integer, and on which grids: by the quantizer that comes with a delegate.

XNNPACK's own quantizer puts a grid between a convolution and the clamp (ReLU6) behind it, half of which
the clamp then throws away, though the kernels clamp for nothing. Here the two share the grid of the
clamp's output, as they do in TFLite.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from edgeq.quantization import Granularity

Scheme = Literal["xnnpack", "ethos-u55", "ethos-u65", "ethos-u85"]
How = Literal["static", "dynamic", "trained"]
CLAMPS = ("aten.hardtanh.default", "aten.hardtanh_.default", "aten.relu6.default")
CLAMPED = ("aten.conv2d.default", "aten.conv1d.default", "aten.linear.default", "aten.add.Tensor",
           "aten.mul.Tensor")
MACS = {"ethos-u55": "128", "ethos-u65": "256", "ethos-u85": "256"}  # must be said, and changes no grid
FINEST = 2.0**-24  # of the scales of weights


@dataclass(frozen=True)
class Grids:
    """For which delegate integers are made, how weights are scaled, and how ranges come about."""

    scheme: Scheme
    granularity: Granularity = "per_channel"
    how: How = "static"

    def quantizer(self) -> Any:
        """The delegate's own quantizer, set to these."""
        return _xnnpack(self) if self.scheme == "xnnpack" else _ethos_u(self)


def prepared(graph: Any, grids: Grids) -> Any:
    """`graph` with what observes ranges, or simulates grids in a training, in all places for `grids`.

    Normalizations are folded for a training, too: torchao's own way keeps them apart, and takes minutes
    to look for them.
    """
    from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e

    return prepare_pt2e(graph, grids.quantizer())


def _xnnpack(grids: Grids) -> Any:
    from executorch.backends.xnnpack.quantizer import xnnpack_quantizer

    class Clamping(xnnpack_quantizer.XNNPACKQuantizer):  # type: ignore[misc]
        def annotate(self, model: Any) -> Any:
            annotated = super().annotate(model)
            _join_clamps(annotated)
            return annotated

    config = xnnpack_quantizer.get_symmetric_quantization_config(
        is_per_channel=grids.granularity == "per_channel", is_qat=grids.how == "trained",
        is_dynamic=grids.how == "dynamic")
    weight = _with_true_extremes(config.weight, grids)
    return Clamping().set_global(replace(config, weight=weight, is_qat=False))


def _with_true_extremes(weight: Any, grids: Grids) -> Any:
    """The grid of weights: that of the weights as they are, however small.

    XNNPACK's quantizer has no scale below 2^-12, which coarsens the weights of a layer that is fed whole
    pixels, and in a training the extremes of a moving average.
    """
    from torchao.quantization.pt2e import FakeQuantize, MinMaxObserver, PerChannelMinMaxObserver

    observer = PerChannelMinMaxObserver if grids.granularity == "per_channel" else MinMaxObserver
    made = FakeQuantize.with_args(observer=observer, eps=FINEST) if grids.how == "trained" else (
        observer.with_args(eps=FINEST))
    return replace(weight, observer_or_fake_quant_ctr=made)


def _join_clamps(model: Any) -> None:
    """Leave out the grid between an operator that can clamp and the clamp behind it."""
    from torchao.quantization.pt2e.quantizer import QuantizationAnnotation

    for node in model.graph.nodes:
        before = node.args[0] if str(node.target) in CLAMPS else None
        if before is None or str(before.target) not in CLAMPED or len(before.users) > 1:
            continue
        inner = before.meta.get("quantization_annotation")
        if inner and inner.output_qspec is not None:
            node.meta["quantization_annotation"] = QuantizationAnnotation(
                output_qspec=inner.output_qspec, _annotated=True)
            inner.output_qspec = None


def _ethos_u(grids: Grids) -> Any:
    from executorch.backends.arm.ethosu import EthosUCompileSpec
    from executorch.backends.arm.quantizer import EthosUQuantizer, get_symmetric_quantization_config

    config = get_symmetric_quantization_config(
        is_per_channel=grids.granularity == "per_channel", is_qat=grids.how == "trained")
    spec = EthosUCompileSpec(f"{grids.scheme}-{MACS[grids.scheme]}")
    return EthosUQuantizer(spec).set_global(config)
