"""What an engineer writes without edgeq: one target, from the Keras file to its accuracy."""

from __future__ import annotations

import sys
import tempfile

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from litert_quantizer import quantizer, recipe

FOLDER = "models/fashion"
MICRO = "tflm"


def main(target: str) -> None:
    """Convert, quantize and score the demo model on `target`, and print both accuracies."""
    calibration = np.load(f"{FOLDER}/calibration.npz")["x"].astype(np.float32)
    evaluation = np.load(f"{FOLDER}/evaluation.npz")
    samples, labels = evaluation["x"].astype(np.float32), evaluation["y"]
    model = keras.models.load_model(f"{FOLDER}/model.keras", compile=False)
    entry = keras.Input(batch_shape=(1, 28, 28, 1))
    baseline = tf.lite.TFLiteConverter.from_keras_model(keras.Model(entry, model(entry))).convert()
    engine = quantizer.Quantizer(bytearray(baseline), recipe.static_wi8_ai8())
    name = next(iter(Interpreter(model_content=baseline).get_signature_list()["serving_default"]["inputs"]))
    ranges = engine.calibrate({"serving_default": [{name: x[None]} for x in calibration]})
    quantized = bytes(engine.quantize(ranges, enable_progress_report=False).quantized_model)
    float_score = score(baseline, samples, labels, OpResolverType.AUTO)
    scored = micro(quantized, samples, labels) if target == MICRO else score(
        quantized, samples, labels, OpResolverType.AUTO)
    print(f"{target}: float {float_score:.4f}, int8 {scored:.4f}")


def score(model: bytes, samples: np.ndarray, labels: np.ndarray, kernels: OpResolverType) -> float:
    """Top-1 accuracy of the .tflite `model` in LiteRT."""
    interpreter = Interpreter(model_content=model, num_threads=1, experimental_op_resolver_type=kernels)
    interpreter.allocate_tensors()
    entry, exit_ = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    right = 0
    for sample, label in zip(on_grid(samples, entry), labels, strict=True):
        interpreter.set_tensor(entry["index"], sample[None])
        interpreter.invoke()
        right += int(interpreter.get_tensor(exit_["index"]).argmax() == label)
    return right / len(labels)


def micro(model: bytes, samples: np.ndarray, labels: np.ndarray) -> float:
    """Top-1 accuracy of the .tflite `model` in TensorFlow Lite Micro."""
    from tflite_micro.python.tflite_micro import runtime

    with tempfile.NamedTemporaryFile() as file:
        file.write(model)
        file.flush()
        details = Interpreter(model_path=file.name).get_input_details()[0]
        interpreter = runtime.Interpreter.from_file(file.name)
    right = 0
    for sample, label in zip(on_grid(samples, details), labels, strict=True):
        interpreter.set_input(sample[None], 0)
        interpreter.invoke()
        right += int(interpreter.get_output(0).argmax() == label)
    return right / len(labels)


def on_grid(samples: np.ndarray, entry: dict) -> np.ndarray:
    """The samples as the model's input wants them."""
    scale, zero_point = entry["quantization"]
    if not scale:
        return samples
    return np.clip(np.round(samples / scale) + zero_point, -128, 127).astype(np.int8)


if __name__ == "__main__":
    main(sys.argv[1])
