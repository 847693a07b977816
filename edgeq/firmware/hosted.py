"""The host build at work: the same C as the firmware's, on this machine, watched by sanitizers."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgeq import tool
from edgeq.errors import ToolError

TRACE = "trace.bin"


@dataclass(frozen=True)
class Hosted:
    """What a run left: the outputs, and what each operator left, where that was asked for."""

    outputs: bytes
    trace: bytes = b""


def hosted(program: Path, samples: bytes, *, traced: bool = False, timeout_s: float = 600.0) -> Hosted:
    """Run the host build at `program` on `samples`, one after the other without a gap.

    Raises ToolError where it fails, or a sanitizer finds something: then edgeq made wrong code.
    """
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "in.bin").write_bytes(samples)
        finished = tool.run([program.absolute(), *([TRACE] if traced else [])],
                            timeout_s=timeout_s, cwd=work, name="the host build")
        if finished.status:
            raise ToolError(f"the host build ended with status {finished.status}",
                            f"this is a bug of edgeq; {tool.tail(finished.output)}")
        return Hosted((work / "out.bin").read_bytes(), (work / TRACE).read_bytes() if traced else b"")
