"""The user's own `module:function`: readers of data and metrics, out of a copy in the store."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from edgeq.errors import ConfigError


def imported(code: Path, function: str, origin: str) -> Any:
    """The function that `module:function` names, out of the modules in the folder `code`.

    Raises ConfigError, beginning with `origin`, where the module does not import or has no such
    function.
    """
    module, _, name = function.partition(":")
    sys.path.insert(0, str(code))
    try:
        for stale in _modules_in(code):
            sys.modules.pop(stale, None)
        found = getattr(importlib.import_module(module), name, None)
    except (ImportError, SyntaxError) as error:
        raise ConfigError(f"{origin} {function}: {error}", "mend the module") from error
    finally:
        sys.path.remove(str(code))
    if not callable(found):
        raise ConfigError(f"{origin}: {module} has no function {name!r}", "correct the name")
    return found


def _modules_in(code: Path) -> set[str]:
    """The names that a worker may have imported from another pipeline's copy of this code."""
    files = (file.relative_to(code).with_suffix("") for file in code.rglob("*.py"))
    return {".".join(p for p in file.parts if p != "__init__") for file in files}
