"""PyTorch modules as exported programs (torch.export), and where one does not export: by what and where.

torch says that over pages, with its own call stack between. The one rule: an error names the operator and
the line of the user's own code.
"""

from __future__ import annotations

import re
import traceback
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgeq.errors import ConfigError

DEPENDS = "GuardOnDataDependentSymNode"
ADVICE = " This is an internal miniz error."  # and that some file is likely to be corrupted, at length
FRAME = re.compile(r'File "([^"]+)", line (\d+), in .*\n\s*(.*)')
HINT = ("let `forward` be a function of tensors alone, of shapes known beforehand: "
        "see https://docs.pytorch.org/docs/stable/user_guide/torch_compiler/export.html")


def exported(module: Any, example: tuple[Any, ...], origin: str, code: Path | None = None) -> Any:
    """`module` in evaluation mode as a torch.export.ExportedProgram for inputs like `example`.

    Raises ConfigError, beginning with `origin`, where it does not export; `code` is the folder of the user's
    modules, of which a line is named.
    """
    import torch

    with warnings.catch_warnings(action="ignore"), torch.no_grad():
        try:
            program = torch.export.export(module, example, strict=False)
            shape = program.call_spec.out_spec
            if shape.num_leaves == 1 and not shape.is_leaf():  # such as {"logits": …}
                program = torch.export.export(_bare(program), example, strict=False)
            return program
        except (Exception, SystemExit) as error:  # a `forward` of the user's may raise anything
            raise ConfigError(f"{origin} does not export: {told(error, code)}", HINT) from error


def told(error: BaseException, code: Path | None) -> str:
    """What made a module fail in `error`: where in the folder `code`, in which operator, and why."""
    reason = first_line(error)
    if type(error).__name__ == DEPENDS:
        reason = "a branch or a shape depends on the values of a tensor"
    operator = _operator(error)
    if operator and operator in reason:
        reason = "PyTorch cannot tell the shape that it gives"
    parts = [_place(error, code), operator and f"in {operator}", reason]
    return ": ".join(part for part in parts if part)


def first_line(error: BaseException) -> str:
    """The first line of what `error` says, less the advice that torch adds to it; or its kind."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line.partition(ADVICE)[0].strip()


def place_of(node: Any) -> str:
    """Where the user's code calls for `node` of a graph, as far as that is known: ` (model.py:5: `…`)`."""
    return line_of(FRAME.findall(node.meta.get("stack_trace") or ""))


def line_of(frames: Sequence[tuple[str, str, str]]) -> str:
    """The innermost of `frames` (file, line, text) that is no library's, as `place_of` writes it."""
    own = [frame for frame in frames if "site-packages" not in frame[0]]
    return f" ({Path(own[-1][0]).name}:{own[-1][1]}: `{own[-1][2].strip()}`)" if own else ""


def _bare(program: Any) -> Any:
    """A module that gives the one tensor of what `program` gives."""
    import torch

    class Bare(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.within = program.module(check_guards=False)

        def forward(self, *inputs: Any) -> Any:
            return torch.utils._pytree.tree_leaves(self.within(*inputs))[0]

    return Bare()


def _place(error: BaseException, code: Path | None) -> str:
    """`model.py:17: `if x.sum() > 0:`` of the user's innermost line in the folder `code`."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)
              if code and Path(frame.filename).is_relative_to(code)]
    if not frames or not code:
        return ""
    return f"{Path(frames[-1].filename).relative_to(code)}:{frames[-1].lineno}: `{frames[-1].line}`"


def _operator(error: BaseException) -> str:
    """The innermost operator of torch that was being called."""
    from torch._ops import OpOverload, OpOverloadPacket

    calls = [value for frame in _frames(error) for value in frame.f_locals.values()
             if isinstance(value, (OpOverload, OpOverloadPacket))]
    if calls:
        return str(calls[-1])
    return "aten.item" if type(error).__name__ == DEPENDS else ""


def _frames(error: BaseException) -> Iterator[Any]:
    step = error.__traceback__
    while step:
        yield step.tb_frame
        step = step.tb_next
