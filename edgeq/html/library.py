"""The plotting library that goes into the page: Vega and Vega-Lite, out of the package vl-convert-python.

The one rule: the page is made without it, too; then it has its tables, and says what is missing.
"""

from __future__ import annotations

import os
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from edgeq import tool

PACKAGE = "vl-convert-python"


def plotting() -> str:
    """The library's JavaScript, which sets `vegaEmbed`; nothing where the package is missing.

    Bundling takes seconds, so what was bundled once is kept in edgeq's cache.
    """
    try:
        kept = tool.cache() / "javascript" / f"{PACKAGE}-{version(PACKAGE)}.js"
    except PackageNotFoundError:
        return ""
    with suppress(OSError, UnicodeDecodeError):
        return kept.read_text(encoding="utf-8")
    bundled = _bundled()
    with suppress(OSError):  # a cache that cannot be written is none
        if bundled:
            _keep(kept, bundled)
    return bundled


def _bundled() -> str:
    """The bundle, as it may stand in an HTML script element; nothing where it cannot be made."""
    from vl_convert import javascript_bundle

    try:
        made: str = javascript_bundle("window.vegaEmbed = vegaEmbed;")
    except (RuntimeError, ValueError):
        return ""
    return made.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _keep(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
