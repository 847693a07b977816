"""Code inside models: looked for in the file, before any library loads it.

Keras archives can carry Python lambdas and names of classes to import, SavedModels operators that
run Python or touch files. `safe_mode` of tf_keras does not protect .h5, and TensorFlow has none
for SavedModels. So the files are read here as data, and what could run is named.
"""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from edgeq.errors import ConfigError

LAYERS_WITH_CODE = {
    "__lambda__": "a lambda", "Lambda": "a Lambda layer", "FlaxLayer": "a FlaxLayer",
    "JaxLayer": "a JaxLayer", "TFSMLayer": "a TFSMLayer", "TorchModuleWrapper": "a pickled Torch module",
}
KERAS_MARKS = frozenset({"__tensor__", "__keras_tensor__", "__numpy__", "__bytes__", "__ellipsis__",
                         "__typespec__", "__tuple__", "__complex__", "slice", "dtype"})
CALLS = frozenset({"TFOpLambda", "SlicingOpLambda", "ClassMethod", "InstanceMethod",
                   "InstanceProperty"})
CALLABLE = re.compile(
    r"(math|nn|linalg|image|signal|quantization|__operators__|compat\.v1\.nn)\.\w+(\.\w+)?|\w+")
CALLS_WITH_CODE = frozenset({"py_function", "numpy_function", "py_func", "load_library", "print",
                             "load_op_library", "map_fn", "function", "custom_gradient"})
OPERATORS_WITH_CODE = frozenset({
    "PyFunc", "PyFuncStateless", "EagerPyFunc", "ReadFile", "WriteFile", "MatchingFiles",
    "WholeFileReader", "WholeFileReaderV2", "TextLineReader", "TextLineReaderV2",
    "FixedLengthRecordReader", "FixedLengthRecordReaderV2", "TFRecordReader", "TFRecordReaderV2",
    "TextLineDataset", "TFRecordDataset", "TFRecordDatasetV2", "FixedLengthRecordDataset",
    "FixedLengthRecordDatasetV2", "ImmutableConst", "SaveDataset", "SaveDatasetV2", "LoadDataset",
    "CacheDataset", "CacheDatasetV2", "SnapshotDataset", "SnapshotDatasetV2", "DatasetToTFRecord",
    "ExperimentalDatasetToTFRecord", "CreateSummaryFileWriter", "PrintV2",
})


def refuse_code(found: Iterable[str], origin: str) -> None:
    """Raise ConfigError where `found` names code in the model `origin`."""
    if names := sorted(set(found)):
        raise ConfigError(
            f"{origin} holds code that would run when it is loaded: {', '.join(names)}",
            "if you trust whoever made the file, say `trust: true` on the model; "
            "otherwise rebuild it from plain layers")


def keras_config(path: Path) -> Any:
    """The configuration in a `.keras` archive, as plain data; ConfigError where it is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read("config.json"))
    except (OSError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ConfigError(f"{path.name} is no Keras archive, or is damaged: {error}",
                          "save the model again with model.save('NAME.keras')") from error


def h5_config(path: Path) -> tuple[Any, str]:
    """The configuration in an `.h5` model and the version of Keras that wrote it."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            written, by = file.attrs.get("model_config"), file.attrs.get("keras_version", "2")
            config = json.loads("null" if written is None else written)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path.name} is no HDF5 file, or is damaged: {error}",
                          "save the model again with model.save('NAME.h5')") from error
    if config is None:
        raise ConfigError(f"{path.name} holds weights but no model",
                          "save the whole model with model.save, not save_weights")
    return config, by.decode() if isinstance(by, bytes) else str(by)


def code_in_keras(config: Any) -> Iterator[str]:
    """What in a Keras 3 configuration is code: lambdas, and classes of other packages."""
    for entry in _entries(config):
        name = entry["class_name"]
        if name in LAYERS_WITH_CODE:
            yield LAYERS_WITH_CODE[name]
        elif _package(entry) not in ("builtins", "keras"):
            yield f"the class {entry['module']}.{name}"
        elif ">" in str(entry.get("registered_name") or "") or name == "function":
            yield f"the class {entry.get('registered_name') or name}"
        else:
            yield from _files_read(entry)


def code_in_keras2(config: Any, known: Collection[str]) -> Iterator[str]:
    """What in a Keras 2 configuration is code; `known` are the classes that Keras itself has."""
    for entry in _entries(config):
        name = entry["class_name"]
        if name in LAYERS_WITH_CODE:
            yield LAYERS_WITH_CODE[name]
        elif _package(entry) not in ("builtins", "keras", "tf_keras"):
            yield f"the class {entry['module']}.{name}"
        elif name in CALLS:
            yield from _calls_with_code(entry)
        elif name not in known and name not in KERAS_MARKS:
            yield f"the unknown class {name}"
        else:
            yield from _files_read(entry)
    if '"function_type": "lambda"' in json.dumps(config):
        yield "a lambda"


def code_in_saved_model(path: Path) -> Iterator[str]:
    """The operators of a SavedModel that run Python or touch files, in any of its functions."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel()
    try:
        model.ParseFromString((path / "saved_model.pb").read_bytes())
    except (OSError, DecodeError) as error:
        raise ConfigError(f"{path.name} is no SavedModel, or is damaged: {error}",
                          "a SavedModel is a folder with saved_model.pb and variables/") from error
    for meta_graph in model.meta_graphs:
        graph = meta_graph.graph_def
        functions = (node for function in graph.library.function for node in function.node_def)
        for node in (*graph.node, *functions):
            if node.op in OPERATORS_WITH_CODE:
                yield f"the operator {node.op}"


def _calls_with_code(entry: Any) -> Iterator[str]:
    """A TFOpLambda calls any function below `tf` by its name: only arithmetic is let through.

    A ClassMethod names a class in the same way, and would take a function as well.
    """
    config = entry.get("config") or {}
    function = str(config.get("function") or config.get("cls_symbol") or "")
    if function and (function in CALLS_WITH_CODE or not CALLABLE.fullmatch(function)):
        yield f"a call of tf.{function}"


def _files_read(entry: Any) -> Iterator[str]:
    """A lookup layer reads its vocabulary from any file that it names (StringLookup and its like)."""
    config = entry.get("config")
    if isinstance(config, dict) and isinstance(config.get("vocabulary"), str):
        yield f"a reading of the file {config['vocabulary']}"


def _package(entry: Any) -> str:
    """The package that the class of `entry` would be imported from."""
    return str(entry.get("module") or "builtins").partition(".")[0]


def _entries(config: Any) -> Iterator[Any]:
    """Every mapping in `config`, at any depth, that names a class."""
    pending = [config]
    while pending:
        current = pending.pop()
        if isinstance(current, dict):
            if isinstance(current.get("class_name"), str):
                yield current
            pending.extend(current.values())
        elif isinstance(current, list):
            pending.extend(current)
