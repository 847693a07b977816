"""What each rule of the linter means, and what to do where it is broken: one entry a rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Advice:
    """A rule in a sentence, and what mends a model that breaks it."""

    meaning: str
    hint: str


ADVICE: Mapping[str, Advice] = {
    # of single operators
    "unsupported": Advice(
        "The accelerator has no such operator.",
        "replace it by supported operators, or move it to the end of the model"),
    "data-type": Advice(
        "Run-time tensors are int8 or uint8.",
        "quantize the whole model, its inputs and outputs too (inference_input_type: int8)"),
    "constant-parameters": Advice(
        "Weights, biases, axes, sizes and paddings are constants.",
        "export the model with fixed shapes and frozen weights"),
    "rank": Advice(
        "Only the innermost three dimensions exceed 1, so the batch is 1.",
        "fix the batch to 1, or split the tensor before this operator"),
    "operator-version": Advice(
        "The compiler maps this operator up to a certain version.",
        "use a plainer form of the operator, or an older converter"),
    "fused-activation": Advice(
        "No activation is fused into this operator.",
        "put the activation into the layer before, or make it an operator of its own"),
    "weights-format": Advice(
        "Weights lie in their default format.",
        "convert again without shuffled weights"),
    "masks": Advice(
        "Slices name their dimensions plainly, without ellipsis or new axis.",
        "write the slice out over all dimensions, and add axes by a reshape"),
    "dilation": Advice(
        "Dilation is the same in height and width.",
        "use the same dilation rate for both"),
    "per-channel-weights": Advice(
        "Dense weights have one scale.",
        "quantize FULLY_CONNECTED per tensor (granularity_by_operator, or `quantization:` in target.yaml)"),
    "vector-input": Advice(
        "A slope is one value a channel.",
        "share it over height and width (Keras: shared_axes=[1, 2])"),
    "vector-output": Advice(
        "A dense layer gives one vector.",
        "flatten its input, or use a 1x1 convolution"),
    "zero-constant": Advice(
        "A constant is only concatenated to one other tensor, and is all zero.",
        "pad with zeros instead, or concatenate run-time tensors"),
    "batch-axis": Advice(
        "The batch dimension is not reduced, split, packed or padded.",
        "leave the first dimension as it is"),
    "channel-multiple": Advice(
        "Channels are reduced in groups.",
        "use a number of channels that is such a multiple"),
    "strides": Advice(
        "A slice takes every n-th element in height and width only.",
        "use a stride of 1 for channels and batch"),
    "size": Advice(
        "The operator has a limit on its sizes.",
        "use a smaller input, split the tensor, or move the operator to the end of the model"),
    "follows-unmapped": Advice(
        "Only one piece of the model is mapped: what needs an unmapped operator's result stays too.",
        "mend or remove the operator that it follows, or move that to the end of the model"),
    "compilation-refused": Advice(
        "The compiler refuses the whole file, so nothing of it is mapped.",
        "mend what the findings say of the model"),
    # of a delegate's operators
    "api-level": Advice(
        "The operator, in this form, came with a later version of Android.",
        "raise `api_level` if every phone has it, or use a plainer form of the operator"),
    "tensor-type": Advice(
        "The operator takes tensors of certain types only.",
        "quantize the whole model with one recipe, and let casts stand at its ends"),
    "tensor-rank": Advice(
        "The operator takes tensors of certain ranks and shapes only.",
        "reshape before it: drop dimensions of 1"),
    "missing-input": Advice(
        "The operator wants all its inputs.",
        "export the layer with a bias: zeros will do"),
    "option": Advice(
        "The operator is taken with certain options only.",
        "write it out in plainer operators, or move it to the end of the model"),
    "small-piece": Advice(
        "A delegate takes the largest pieces of a model and leaves the others.",
        "mend or remove the operators that cut the model up"),
    # of the model as a whole
    "deprecated": Advice(
        "What the target uses is on its way out.",
        "plan for what replaces it"),
    "unchecked": Advice(
        "A condition that cannot be read off the model.",
        "try it on a phone"),
    "unparsed-version": Advice(
        "The compiler reads operators up to the versions of its own TensorFlow Lite.",
        "convert with TensorFlow 2.6 or older, or replace the operator"),
    "unknown-custom": Advice(
        "The compiler knows no custom operators but those of Coral's own models.",
        "remove the custom operator, or cut the model before it"),
    "dynamic-shapes": Advice(
        "All shapes are known before run time.",
        "export the model with fixed input shapes, the batch fixed to 1"),
    "not-quantized": Advice(
        "The model is quantized to int8 or uint8.",
        "use a full-integer recipe, such as static-int8"),
    "already-compiled": Advice(
        "The model was not compiled before.",
        "give the .tflite that it was compiled from"),
    "open-batch": Advice(
        "No dimension is left open, not even the batch.",
        "fix the batch to 1 to be sure: some models with an open batch are refused"),
    "several-subgraphs": Advice(
        "The model is one graph.",
        "export it without loops and conditions: only its main graph was looked at"),
    "uncertain-memory": Advice(
        "Parameters that do not fit are sent on every inference.",
        "let the compiler tell, or make the model smaller"),
}
