"""Keras models of either make as one flat tf_keras model, which is what TF-MOT can train.

TF-MOT knows tf_keras alone and no model inside a model, so the graph is walked call by call and
every layer gets a twin: the class of the same name in tf_keras, its configuration, its weights.
A function inside a layer that TF-MOT does not know there becomes a layer behind it, and a batch
normalization is folded into the dense layer before it, for integers have it so.
The one rule: the twin gives the outputs of the model, or there is none.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from edgeq.arrays import Floats
from edgeq.errors import Refused

# What the operations of Keras 3 that are no layers are in tf_keras: `a + b` is an Add.
JOINS = frozenset({"Add", "Maximum", "Minimum", "Multiply", "Subtract"})
FUNCTIONS = {"Relu": "relu", "Sigmoid": "sigmoid", "Silu": "swish", "Softmax": "softmax", "Tanh": "tanh"}
RENAMED = {"LeakyReLU": {"negative_slope": "alpha"}}
SPELLED_OTHERWISE = {"silu": "swish"}
INSIDE = frozenset({"linear", "relu", "sigmoid", "softmax", "tanh"})  # functions that may stay in a layer
EVERY_LAYER_TAKES = frozenset({"name", "trainable"})
TOLERANCE = 1e-4  # of the largest output: a deep network rounds a float or two otherwise
ROUNDED = 1e-3  # the same, where sums were folded
HALF = 1e-2  # the same, where the model computes in half precision
HINT = ("rebuild it from layers that Keras 2 has too, or use a recipe that quantizes after training, such "
        "as static-int8")

Twins = dict[int, tuple[Any, ...]]  # by the id of a layer, the chain of layers that stands for it


def legacy(model: Any) -> Any:
    """The tf_keras twin of `model`, of Keras 3 or tf_keras, with one input and one output.

    Nested models are flattened, shared layers stay shared, and every layer may be trained. Raises
    Refused, naming the layer, where there is no twin, or one that computes something else.
    """
    import tf_keras

    given = _graph(model).inputs[0]
    entry = tf_keras.Input(given.shape[1:], dtype=_name_of(given.dtype), name="input")
    twins: Twins = {}
    exit_, = _through(model, [entry], twins)
    twin = tf_keras.Model(entry, exit_, name="model")
    half = any("float16" in _name_of(layer.compute_dtype) for layer in _layers(model))
    _check(model, twin, HALF if half else TOLERANCE)
    if pairs := [*_pairs(twin)]:
        folded = _folded(twin, pairs)
        _check(twin, folded, ROUNDED)
        twin = folded
    twin.trainable = True
    return twin


def frozen(model: Any) -> tuple[str, ...]:
    """The names of the layers of `model`, those of nested models among them, that are frozen."""
    return tuple(dict.fromkeys(
        layer.name for layer in _layers(model) if layer.weights and not layer.trainable))


def _layers(model: Any) -> Iterator[Any]:
    for layer in model.layers:
        yield from _layers(layer) if hasattr(layer, "layers") else (layer,)


def _through(model: Any, values: list[Any], twins: Twins) -> list[Any]:
    """What `model` makes of the tf_keras tensors `values` when its layers' twins are called."""
    import tensorflow as tf

    graph = _graph(model)
    found = dict(zip(map(id, graph.inputs), values, strict=True))
    for node in _calls(graph):
        operation, arguments = _said(node)
        args, kwargs = tf.nest.map_structure(lambda value: found.get(id(value), value), arguments)
        kwargs.pop("training", None)  # whether a layer learns is for the training to say
        if _is_model(operation):
            made = _through(operation, tf.nest.flatten(args), twins)
        else:
            made = tf.nest.flatten(_called(operation, args, kwargs, twins))
        found.update(zip(map(id, tf.nest.flatten(node.outputs)), made, strict=True))
    return [found[id(tensor)] for tensor in graph.outputs]


def _graph(model: Any) -> Any:
    """The functional graph of `model`: its own, or what a Sequential of Keras 3 holds inside."""
    graph = getattr(model, "_functional", None) or model
    if not getattr(graph, "_nodes_by_depth", None):
        raise Refused(f"the model {model.name!r} ({type(model).__name__}) has no graph of layers",
                      "build it with the functional API or as a Sequential with an Input")
    return graph


def _calls(graph: Any) -> Iterator[Any]:
    """The calls of the layers of `graph`, each after those that it depends on."""
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        yield from (node for node in graph._nodes_by_depth[depth] if not node.is_input)


def _said(node: Any) -> tuple[Any, tuple[Any, Any]]:
    """Who is called at `node` and with what, by Keras 3's names or tf_keras's."""
    if hasattr(node, "operation"):
        return node.operation, (node.arguments.args, node.arguments.kwargs)
    return node.layer, (node.call_args, node.call_kwargs)


def _is_model(operation: Any) -> bool:
    return hasattr(operation, "layers") and hasattr(operation, "inputs")


def _called(operation: Any, args: Any, kwargs: Any, twins: Twins) -> Any:
    """What the twin of `operation` makes of `args`; Refused where there is none."""
    try:
        return _chained(operation, args, kwargs, twins)
    except LookupError as error:  # what its configuration lacks says nothing to a reader
        raise _no_twin(operation, "") from error
    except (TypeError, ValueError, AttributeError, NotImplementedError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise _no_twin(operation, f": {reason}") from error


def _chained(operation: Any, args: Any, kwargs: Any, twins: Twins) -> Any:
    """What the twin of `operation` makes of `args`; it is made and given its weights only once."""
    fresh, is_layer = id(operation) not in twins, hasattr(operation, "get_weights")
    if fresh:
        names = {each.name for chain in twins.values() for each in chain}
        twins[id(operation)] = _apart(_twin(operation, names))
    made = args if is_layer or len(args) == 1 else ([*args],)  # a + b is Add()([a, b])
    for layer in twins[id(operation)]:
        made, kwargs = (layer(*made, **kwargs),), {}
    if fresh and is_layer:
        twins[id(operation)][0].set_weights(operation.get_weights())
    return made[0]


def _apart(layer: Any) -> tuple[Any, ...]:
    """`layer`, and behind it the function that it ends in, where that must stand by itself."""
    import tf_keras

    function = getattr(layer, "activation", None)
    name = getattr(function, "__name__", "")
    alone = type(layer).__name__ == "Activation" or hasattr(layer, "recurrent_activation")
    if alone or not function or name in INSIDE:
        return (layer,)
    layer.activation = tf_keras.activations.linear
    return layer, tf_keras.layers.Activation(function, name=f"{layer.name}_{name}")


def _twin(operation: Any, taken: set[str]) -> Any:
    """A layer of tf_keras with the configuration of `operation`, without its weights."""
    name = _free(operation.name, taken)
    if type(operation).__module__.startswith("tf_keras."):
        return type(operation).from_config({**operation.get_config(), "name": name})
    kind = _kind(operation)
    if not hasattr(operation, "get_weights"):  # an operation of Keras 3's that is no layer
        given = [FUNCTIONS[type(operation).__name__]] if kind.__name__ == "Activation" else []
        return kind(*given, name=name)
    return kind.from_config({**_config(kind, operation.get_config()), "name": name})


def _kind(operation: Any) -> Any:
    """The class of tf_keras that does what `operation`, of Keras 3, does."""
    import tf_keras

    name = type(operation).__name__
    if not type(operation).__module__.startswith("keras."):
        raise _no_twin(operation, ": it is a class of your own")
    if not hasattr(operation, "get_weights"):
        name = "Activation" if name in FUNCTIONS else name if name in JOINS else ""
    kind = getattr(tf_keras.layers, name, None)
    if kind is None:
        raise _no_twin(operation, "")
    return kind


def _no_twin(operation: Any, why: str) -> Refused:
    return Refused(f"the layer {operation.name!r} ({type(operation).__name__}) has no twin in tf_keras, "
                   f"and TF-MOT trains no other{why}", HINT)


def _free(name: str, taken: set[str]) -> str:
    """`name` as TensorFlow lets it be, with the first number that makes it one of its own.

    Nested models may have the same name twice.
    """
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", name)
    name = name if name[0].isalnum() else f"layer{name}"
    numbered = (f"{name}_{number}" for number in range(1, len(taken) + 2))
    return name if name not in taken else next(each for each in numbered if each not in taken)


def _config(kind: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """What `kind`, a class of tf_keras, takes of the configuration of its twin in Keras 3.

    Initial values are left out, for the weights follow, and precisions, for all are float32.
    """
    renamed = RENAMED.get(kind.__name__, {})
    named = {renamed.get(key, key): value for key, value in config.items()}
    known = _parameters(kind)
    drawn = {"rng_type": "stateful"} if "rng_type" in known else {}  # to be started anew with each epoch
    return {key: _plain(value) for key, value in {**named, **drawn}.items()
            if key in known and not key.endswith("_initializer")}


def _parameters(kind: Any) -> frozenset[str]:
    """The names that `kind` can be made with."""
    classes = (each for each in kind.__mro__ if "__init__" in vars(each) and each is not object)
    return EVERY_LAYER_TAKES.union(*(inspect.signature(each.__init__).parameters for each in classes
                                     if each.__name__ != "Layer"))


def _plain(value: Any) -> Any:
    """`value` as Keras 2 writes it: objects by their class alone, without the module it comes from."""
    import tf_keras

    if isinstance(value, (list, tuple)):
        return type(value)(_plain(each) for each in value)
    if not isinstance(value, dict) or "class_name" not in value:
        return SPELLED_OTHERWISE.get(value, value) if isinstance(value, str) else value
    kind = getattr(tf_keras.layers, value["class_name"], None)
    config = value.get("config")
    if kind is not None and isinstance(config, dict):
        return {"class_name": value["class_name"], "config": _config(kind, config)}
    return {"class_name": value["class_name"], "config": config}


def _folded(model: Any, pairs: Sequence[tuple[Any, Any]]) -> Any:
    """The tf_keras `model` with the batch normalization of each of the `pairs` folded into its layer.

    W' = W * s, b' = (b - mean) * s + beta with s = gamma / sqrt(variance + epsilon).
    """
    import tf_keras

    twins: Twins = {id(norm): () for _, norm in pairs}
    for dense, _ in pairs:
        twins[id(dense)] = (tf_keras.layers.Dense.from_config({**dense.get_config(), "use_bias": True}),)
    given = model.inputs[0]
    entry = tf_keras.Input(given.shape[1:], dtype=given.dtype, name="input")
    exit_, = _through(model, [entry], twins)
    for dense, norm in pairs:
        twins[id(dense)][0].set_weights(_folded_weights(dense, norm))
    return tf_keras.Model(entry, exit_, name="model")


def _pairs(model: Any) -> Iterator[tuple[Any, Any]]:
    """Each dense layer of `model` that only a batch normalization follows, and that."""
    for layer in model.layers:
        calls = layer.inbound_nodes
        if type(layer).__name__ == "BatchNormalization" and len(calls) == 1:
            before = calls[0].parent_nodes[0].layer
            alone = len(before.inbound_nodes) == len(before.outbound_nodes) == 1
            if alone and type(before).__name__ == "Dense" and before.activation.__name__ == "linear":
                yield before, layer


def _folded_weights(dense: Any, norm: Any) -> list[Floats]:
    kernel, bias = dense.kernel.numpy(), dense.bias.numpy() if dense.use_bias else 0.0
    scale = 1 / np.sqrt(norm.moving_variance.numpy() + norm.epsilon)
    scale = scale * norm.gamma.numpy() if norm.scale else scale
    shift = norm.beta.numpy() if norm.center else 0.0
    return [kernel * scale, (bias - norm.moving_mean.numpy()) * scale + shift]


def _check(model: Any, twin: Any, tolerance: float) -> None:
    """Raise Refused where `twin` does not give the outputs of `model` on samples drawn at random."""
    drawn = np.random.default_rng(0).random((4, *twin.inputs[0].shape[1:]))
    drawn[2:] *= 255  # as pixels are
    samples = drawn.astype(_name_of(twin.inputs[0].dtype))
    expected, found = (np.asarray(each(samples, training=False), np.float32) for each in (model, twin))
    allowed = tolerance * np.abs(expected).max()
    if expected.shape != found.shape or not np.abs(expected - found).max() <= allowed:
        raise Refused("carried over to tf_keras, which TF-MOT trains, the model gives other outputs", HINT)


def _name_of(dtype: Any) -> str:
    """`dtype` as a word, as Keras 3 has it; tf_keras has objects."""
    return str(getattr(dtype, "name", dtype))
