"""An exported program of the user's (.pt2): loaded once nothing in it is code, its batch closed at 1.

The one rule: whatever torch trips over in the file is the file's fault, and is said so in a line.
"""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Any

from edgeq.errors import ConfigError
from edgeq.exported.archive import GRAPHS, HINT, code_in_pt2, read
from edgeq.exported.baseline import inputs_of, open_dimensions
from edgeq.exported.tracing import first_line
from edgeq.trust import refuse_code

MODEL = "model"  # what torch.export.save calls it


def loaded(source: Path, *, trust: bool = False) -> tuple[Any, tuple[Any, ...]]:
    """The module in the .pt2 archive `source`, and an example (1, *shape) of what it takes.

    Raises ConfigError where it is damaged, of another version, dynamic in more than its batch, or holds
    code that `trust` does not admit.
    """
    import torch

    found = [*code_in_pt2(source)]
    if not trust:
        refuse_code(found, source.name)
    program = _program(source)
    entry, = inputs_of(program, source.name)
    if (open_ := open_dimensions(entry)) not in ([], [0]):
        raise ConfigError(f"{source.name}: its input is open in the dimensions {', '.join(map(str, open_))}",
                          "export it with fixed shapes; only the batch, dimension 0, may be open")
    shape = (1, *entry.shape[1:]) if open_ else tuple(entry.shape)
    # Guards are Python in the archive that would run; what they ask is seen to in the new export.
    return program.module(check_guards=False), (torch.zeros(shape, dtype=entry.dtype),)


def _program(source: Path) -> Any:
    """The one exported program in an archive, whose graph is said to be of this version of torch's schema."""
    from torch._export.serde.schema import SCHEMA_VERSION
    from torch.export.pt2_archive._package import load_pt2

    major, by = _version(source)
    if major != SCHEMA_VERSION[0]:
        raise ConfigError(f"{source.name} was made by another version ({by}): its schema is {major}, and "
                          f"{SCHEMA_VERSION[0]} is read here", HINT)
    # Torch 2.13 trips over a warning of its own when it unpickles what it was trusted with.
    logging.getLogger("torch._export.serde.serialize").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            programs = load_pt2(str(source)).exported_programs
    except (Exception, SystemExit) as error:  # what is unpickled where it is trusted may raise anything
        raise ConfigError(f"{source.name} cannot be loaded ({by}): {first_line(error)}", HINT) from error
    return programs.get(MODEL) or next(iter(programs.values()))


def _version(source: Path) -> tuple[int, str]:
    """The major version of the schema of the graph in an archive, and who wrote it."""
    archive = read(source)
    graphs = [name for name in archive.get_file_names() if name.startswith(GRAPHS)]
    if not graphs:
        raise ConfigError(f"{source.name} holds no exported program", HINT)
    graph = json.loads(archive.read_bytes(graphs[0]))
    by = graph.get("torch_version", "of an unknown version")
    return int(graph["schema_version"]["major"]), f"PyTorch {by}"
