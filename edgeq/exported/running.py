"""Running what ExecuTorch ships (.pte) and what it is made of (.pt2) over samples, on this machine.

Both take one sample at a time, on one thread, and give floats. Either library can crash on a damaged
file, so this runs in workers only; and a .pt2 is loaded here only where edgeq wrote it, or has seen
that nothing in it is code.
"""

from __future__ import annotations

import importlib.metadata
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.arrays import Array, Floats
from edgeq.errors import ConfigError, Refused
from edgeq.exported.opening import opened
from edgeq.exported.tracing import first_line

IDENTIFIER = b"ET12"  # in the bytes from 4 to 8 of a program (executorch/schema/program.fbs)
METHOD = "forward"
NO_KERNEL = "error: 0x14"  # OperatorMissing (executorch/runtime/core/error.h)
TORCHAO = re.compile(rb"torch\.ops\.torchao\.")


def run_pte(file: Path, samples: Array) -> Floats:
    """The outputs (n, *shape) of the ExecuTorch program at `file` for `samples` (n, *shape).

    Raises ConfigError where it is damaged, of another version, or has other than one input and one
    output; Refused where this machine's runtime has no kernel for an operator.
    """
    return outputs_of(loaded_pte(file), METHOD, samples)


def run_exported(file: Path, samples: Array) -> Floats:
    """The same of the exported program at `file`, by PyTorch."""
    outputs: Floats = opened(load_exported(file)).outputs(np.asarray(samples)).numpy().astype(np.float32)
    return outputs


def load_exported(file: Path) -> Any:
    """The torch.export.ExportedProgram at `file`, with the operators that quantized ones are made of.

    Raises ConfigError where it cannot be read.
    """
    import torch
    import torch.ao.quantization.fx._decomposed  # knows the operators that quantize and dequantize

    try:
        with zipfile.ZipFile(file) as archive:  # torch itself does not look at the checksums
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(f"{damaged} is not as it was written")
            texts = (archive.read(name) for name in archive.namelist() if name.endswith(".json"))
            if any(TORCHAO.search(text) for text in texts):
                import torchao.quantization  # noqa: F401
        with warnings.catch_warnings(action="ignore"):
            return torch.export.load(file)
    except (RuntimeError, ValueError, KeyError, OSError, AssertionError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{file.name} is no exported program, or is damaged: {first_line(error)}",
                          "make it again with torch.export.save, by the version of torch that is installed"
                          ) from error


def loaded_pte(file: Path, *, profile: bool = False) -> Any:
    """The program at `file` in ExecuTorch's runtime; with `profile` it times its operators. As `run_pte`."""
    import executorch.kernels.quantized  # noqa: F401  kernels of what quantizes on the CPU
    import torch  # the runtime's library links to torch's, which must be there first
    from executorch.extension.pybindings import _C

    torch.set_num_threads(1)
    content = file.read_bytes()
    if content[4:8] != IDENTIFIER:
        raise ConfigError(*_no_program(file.name, content))
    try:
        module = _C._load_for_executorch(
            str(file), enable_etdump=profile, program_verification=_C.Verification.InternalConsistency)
        module.method_meta(METHOD)
    except RuntimeError as error:
        raise ConfigError(f"{file.name} is damaged: {first_line(error)}",
                          "make or download it again") from error
    return module


def entry_in(file: Path) -> tuple[tuple[int, ...], Any]:
    """The shape, with the batch, and the numpy type of what the program at `file` takes."""
    return _entry(loaded_pte(file).method_meta(METHOD))


def outputs_of(module: Any, method: str, samples: Array) -> Floats:
    """What a `loaded_pte` makes of `samples`; errors as `run_pte`."""
    import torch

    shape, kind = _entry(module.method_meta(method))
    given = (torch.from_numpy(np.array(sample, kind).reshape(shape)) for sample in samples)
    try:
        outputs = [module.run_method(method, [each])[0].numpy() for each in given]
    except RuntimeError as error:
        said = first_line(error)
        if said.endswith(NO_KERNEL):
            raise Refused(f"ExecuTorch's runtime has no kernel for an operator of the program: {said}",
                          "see the log for the operator; another delegate may take it") from error
        raise ConfigError(f"the program is damaged, or made for a delegate that this machine lacks: {said}",
                          "make it again; the log says more") from error
    stacked: Floats = np.stack(outputs).astype(np.float32)
    return stacked.reshape(len(outputs), *(outputs[0].shape[1:] if shape[:1] == (1,) else outputs[0].shape))


def _no_program(name: str, content: bytes) -> tuple[str, str]:
    """What a file without ExecuTorch's identifier is, and what to do."""
    installed = importlib.metadata.version("executorch")
    if content[4:6] == b"ET":
        version, known = (each.decode("ascii", "replace") for each in (content[4:8], IDENTIFIER))
        return (f"{name} is an ExecuTorch program of the version {version}, and {installed} reads {known}",
                f"export it again with ExecuTorch {installed}")
    return f"{name} is no ExecuTorch program, or is damaged", "make or download it again"


def _entry(meta: Any) -> tuple[tuple[int, ...], Any]:
    """The shape and type of a method's one input."""
    if (meta.num_inputs(), meta.num_outputs()) != (1, 1):
        raise ConfigError(f"the program has {meta.num_inputs()} inputs and {meta.num_outputs()} outputs",
                          "export the model with one input and one output")
    info = meta.input_tensor_meta(0)
    return tuple(info.sizes()), _numpy_type(info.dtype())


def _numpy_type(scalar_type: int) -> Any:
    """The type of a number in executorch/runtime/core/portable_type/scalar_type.h."""
    types = {0: "uint8", 1: "int8", 2: "int16", 3: "int32", 4: "int64", 6: "float32", 11: "bool"}
    if scalar_type not in types:
        raise ConfigError(f"the program's input has the scalar type {scalar_type}",
                          "export the model with a float32 input")
    return np.dtype(types[scalar_type])
