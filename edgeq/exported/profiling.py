"""How long a .pte takes on this machine, in all and operator by operator, by ExecuTorch's ETDump.

The one rule: an inference is timed by a clock around it, without the profiler; the profiler only says how
the time is shared out. XNNPACK tells of its own operators by the names of their kernels.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from edgeq.arrays import Array
from edgeq.exported.running import METHOD, entry_in, loaded_pte

NATIVE = "native_call_"  # and the name of a kernel outside of any delegate
PROFILED = 20


def clock_of(file: Path) -> Callable[[Array], float]:
    """What tells the milliseconds that the program at `file` takes for a sample; feeding it is not timed."""
    import torch

    module, (shape, kind) = loaded_pte(file), entry_in(file)

    def infer_ms(sample: Array) -> float:
        given = [torch.from_numpy(sample.astype(kind).reshape(shape))]
        start = time.perf_counter()
        module.run_method(METHOD, given, clone_outputs=False)
        return (time.perf_counter() - start) * 1000

    return infer_ms


def by_operator(file: Path, samples: Array) -> Mapping[str, float]:
    """The median milliseconds of each operator that the program at `file` calls, the longest first."""
    module = loaded_pte(file, profile=True)
    for sample in islice(cycle(_inputs(file, samples)), PROFILED):
        module.run_method(METHOD, [sample])
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "profile.etdp"
        module.write_etdump_result_to_file(str(place))
        times = _times(place)
    return dict(sorted(times.items(), key=lambda item: -item[1]))


def _inputs(file: Path, samples: Array) -> list[Any]:
    import torch

    shape, kind = entry_in(file)
    return [torch.from_numpy(sample.astype(kind).reshape(shape)) for sample in samples]


def _times(place: Path) -> Mapping[str, float]:
    from executorch.devtools import Inspector

    with warnings.catch_warnings(action="ignore"):
        inspector = Inspector(etdump_path=str(place))
    times: dict[str, float] = {}
    for block in inspector.event_blocks:
        for event in block.events:
            native = event.name.startswith(NATIVE)
            if event.perf_data and (native or event.is_delegated_op):
                times[event.name.removeprefix(NATIVE)] = float(event.perf_data.p50)
    return times
