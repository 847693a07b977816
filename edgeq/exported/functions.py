"""The user's function that makes a PyTorch module: called in a copy of its modules, its weights put in.

The one rule: weights are data. A file that holds more than tensors is refused before it is loaded.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeq.errors import ConfigError
from edgeq.exported.tracing import first_line, told
from edgeq.trust import refuse_code
from edgeq.user_code import imported

GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
BEHIND = "num_batches_tracked"  # of a normalization: counts training steps, which nothing here asks for
NAMED = 3


def made(code: Path, function: str, weights: str, *, trust: bool = False) -> tuple[Any, tuple[Any, ...]]:
    """The module that `function` in the folder `code` returns, filled with `weights`, and its example inputs.

    The module is in evaluation mode. Raises ConfigError where the function returns something else, or the
    weights do not fit it or hold code that `trust` does not admit.
    """
    import torch

    torch.manual_seed(0)  # a module without weights of its own is the same in every run
    make = imported(code, function, "source")
    try:
        returned = make()
    except (Exception, SystemExit) as error:  # it is the user's own code, and may raise anything
        raise ConfigError(f"source {function} failed: {told(error, code)}", "mend the function") from error
    module, example = _checked(returned, function)
    if weights:
        fill(module, code / weights, trust=trust)
    return module.eval(), example


def fill(module: Any, file: Path, *, trust: bool = False) -> None:
    """Put the tensors of `file` (safetensors, or a state dict of torch.save) into `module`.

    Raises ConfigError where they do not fit, or the file is damaged or holds code.
    """
    try:
        missing, unknown = module.load_state_dict(_tensors(file, trust=trust), strict=False)
    except RuntimeError as error:  # names are fine, shapes are not
        raise ConfigError(f"{file.name} does not fit the module: {_last_line(error)}",
                          "give the weights that this module was trained to") from error
    missing = [name for name in missing if not name.endswith(BEHIND)]
    if missing or unknown:
        lacks = f"it lacks {_some(missing)}" if missing else ""
        more = f"it has {_some(unknown)}, which the module does not know" if unknown else ""
        raise ConfigError(f"{file.name} does not fit the module: {' and '.join(filter(None, (lacks, more)))}",
                          "give the weights that this module was trained to")


def _tensors(file: Path, *, trust: bool) -> Mapping[str, Any]:
    """The tensors of `file` by their names."""
    state = _safetensors(file) if file.suffix == ".safetensors" else _state(file, trust=trust)
    if isinstance(state, Mapping) and all(hasattr(value, "shape") for value in state.values()):
        return state
    raise ConfigError(f"{file.name} holds a {type(state).__name__}, not tensors by their names",
                      "save it with torch.save(module.state_dict(), …) or safetensors")


def _checked(returned: Any, function: str) -> tuple[Any, tuple[Any, ...]]:
    """The module and the example inputs that a function of the user's returned."""
    import torch

    pair = returned if isinstance(returned, (tuple, list)) else (returned, None)
    if len(pair) != 2 or not isinstance(pair[0], torch.nn.Module) or not isinstance(pair[1], (tuple, list)):
        said = ", ".join(type(each).__name__ for each in pair if each is not None)
        raise ConfigError(f"source {function} returned {said or 'nothing'}",
                          "return (module, (example_input,)): a torch.nn.Module and a tuple of what it takes")
    return pair[0], _example(tuple(pair[1]), function)


def _example(inputs: tuple[Any, ...], function: str) -> tuple[Any, ...]:
    """The example inputs, seen to be one tensor."""
    import torch

    if len(inputs) == 1 and isinstance(inputs[0], torch.Tensor):
        return inputs
    kinds = ", ".join(type(each).__name__ for each in inputs)
    raise ConfigError(f"source {function} returned {len(inputs)} example inputs ({kinds})",
                      "edgeq builds models with one input, a torch.Tensor")


def _safetensors(file: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise ConfigError(f"{file.name} is no safetensors file, or is damaged: {_last_line(error)}",
                          "save it with safetensors.torch.save_file") from error


def _state(file: Path, *, trust: bool) -> Any:
    """What torch.save put into `file`; without `trust` only what the loader of plain tensors takes."""
    import torch

    try:
        loaded = torch.load(file, map_location="cpu", weights_only=not trust)
    except pickle.UnpicklingError as error:
        if found := GLOBAL.search(str(error)):
            refuse_code([found[1]], file.name)
        raise _damaged(file, "its pickle holds what PyTorch's loader of plain tensors refuses") from error
    except (RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise _damaged(file, _last_line(error)) from error
    inner = loaded.get("state_dict") if isinstance(loaded, Mapping) else None
    if trust and isinstance(loaded, torch.nn.Module):
        return loaded.state_dict()
    return inner if isinstance(inner, Mapping) else loaded


def _damaged(file: Path, why: str) -> ConfigError:
    return ConfigError(f"{file.name} is no state dict of PyTorch, or is damaged: {why}",
                       "save it with torch.save(module.state_dict(), …) or safetensors")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _last_line(error: Exception) -> str:
    """The first line that says what is wrong: a list of what does not fit has a heading."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[1].strip() if lines[0].endswith(":") and len(lines) > 1 else first_line(error)
