"""`python -m edgeq.linux` fetches what runs models on aarch64 Linux, and compiles it, once.

What cannot be had is said on stderr, with what to do, and is status 1; the rest is made all the same.
"""

from __future__ import annotations

import sys
from pathlib import Path

from edgeq.errors import EdgeqError
from edgeq.linux.kit import bundled, glibc
from edgeq.linux.wheels import WHEELS, fetch


def main() -> int:
    """Set up all kits; the exit status."""
    status = 0
    for suffix, wheel in WHEELS.items():
        try:
            fetch(wheel)
            for kit in (glibc, bundled):
                kit(Path(f"model{suffix}"))
        except EdgeqError as error:
            sys.stderr.write(f"edgeq: no {suffix} will run on aarch64: {error.message}; {error.hint}\n")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
