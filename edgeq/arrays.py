"""The array types of our signatures, for the type checker: numpy.typing is slow to import."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[Any]
    Floats = NDArray[np.float32]
    Integers = NDArray[np.int64]
    Bytes = NDArray[np.uint8]
else:
    Array = Floats = Integers = Bytes = Any
