"""clustered-int8: the weights of a layer share a few values, which are then trained.

Han et al. 2016, "Deep Compression" (arXiv 1510.00149), with centroids drawn by k-means++:

    W <- c[argmin_k |W - c_k|],  dL/dc_k = the sum of dL/dW over the weights at c_k

Few values pack well. A convolution has a scale a channel, so that each of its channels has at most
as many integers; a dense layer has that many in all.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

from edgeq.training.aware import refusals, see_some
from edgeq.training.int8 import Compressed, School, school

CLUSTERED = frozenset({"Conv2D", "Dense"})  # what both clustering and its keeping in QAT know
Clusters = Annotated[int, msgspec.Meta(ge=2, le=256)]


@dataclass(frozen=True)
class ClusteredInt8(Compressed):
    """Full-integer quantization of a model whose layers have `clusters` values each for their weights."""

    clusters: Clusters = 16

    def quantize(
        self, out: Path, source: Path, training: Path, *calibration: Path, partial: Path | None = None,
    ) -> None:
        """Write `out/model.tflite`; a training that was stopped goes on from what is in `partial`.

        Raises Refused where TF-MOT does not take a layer, or a training diverges.
        """
        given = school(out, source, training, self, partial)
        self.write(out, given, (self.compressed, "clusters"), calibration)

    def compressed(self, given: School) -> Any:
        """The school's model, clustered by training."""
        model = clustered(given.model, self.clusters)
        given.learn(model, "clustering epoch")
        return stripped(model)


def clustered(model: Any, clusters: int) -> Any:
    """The tf_keras `model` with the kernels of what can be clustered made of centroids."""
    import tensorflow_model_optimization as tfmot
    import tf_keras

    see_some(model, CLUSTERED, "cluster")
    keras = tfmot.clustering.keras
    start = keras.CentroidInitialization.KMEANS_PLUS_PLUS

    def shared(layer: Any) -> Any:
        known = type(layer).__name__ in CLUSTERED and layer.kernel.shape.num_elements() > clusters
        return keras.cluster_weights(layer, clusters, start) if known else layer

    with refusals("cluster"):
        return tf_keras.models.clone_model(model, clone_function=shared)


def stripped(model: Any) -> Any:
    """The clustered `model` with its weights where they belong."""
    import tensorflow_model_optimization as tfmot

    return tfmot.clustering.keras.strip_clustering(model)
