"""The documentation: its commands are run, its files written, its links followed, its reference made anew.

A page's `sh` blocks are run line by line, in a copy of the demo; a line that ends in `# exit N` has to end
so, every other with 0. A block with a `title` is that file, a `diff` block is applied. What needs a device,
a network or another machine stands in `console` or `text` blocks, and is not run.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

from edgeq import reference, schema

DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXIT = re.compile(r"\s+# exit (\d)$")


def blocks(page: Path) -> Iterator[tuple[str, str, str]]:
    """The fenced blocks of `page`: language, title, text."""
    for found in BLOCK.finditer(page.read_text(encoding="utf-8")):
        yield found[1], found[2] or "", found[3]


PAGES = [page.name for page in sorted(DOCS.glob("*.md")) if any(kind == "sh" for kind, _, _ in blocks(page))]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What a reader has before him: the demo and the package, to change at will."""
    for name in ("models/fashion", "edgeq", "targets", "docs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pipeline.yaml", tmp_path)
    return tmp_path


@pytest.fixture
def shell(checkout: Path, shared_store: Path):
    """Run a line as a reader's shell would, in the checkout."""
    variables = {**os.environ, "EDGEQ_STORE": str(shared_store), "PYTHONPATH": str(checkout),
                 "EDGEQ_HISTORY": str(checkout / "history.sqlite"), "CUDA_VISIBLE_DEVICES": "",
                 "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def run(line: str) -> subprocess.CompletedProcess:
        return subprocess.run(["bash", "-o", "pipefail", "-c", line], cwd=checkout, env=variables, text=True,
                              capture_output=True, timeout=600, check=False)

    return run


@pytest.mark.parametrize("name", PAGES)
def test_the_commands_of_a_page_run(name: str, checkout: Path, shell) -> None:
    written = [*blocks(DOCS / name)]
    last = max(i for i, (kind, _, _) in enumerate(written) if kind == "sh")
    for i, (kind, title, text) in enumerate(written):
        if title:
            (checkout / title).parent.mkdir(parents=True, exist_ok=True)
            (checkout / title).write_text(text, encoding="utf-8")
        elif kind == "diff":
            applied = subprocess.run(["git", "apply", "-"], input=text, text=True, cwd=checkout,
                                     capture_output=True, check=False)
            assert applied.returncode == 0, applied.stderr
        elif kind == "sh" and i <= last:
            for line in text.replace("\\\n", " ").splitlines():
                wanted = EXIT.search(line)
                done = shell(EXIT.sub("", line))
                said = f"$ {line}\n{done.stdout}\n{done.stderr}"
                assert done.returncode == (int(wanted[1]) if wanted else 0), said


def test_the_reference_is_what_the_schema_gives() -> None:
    text = (DOCS / "reference.md").read_text(encoding="utf-8")
    assert text.rstrip() == reference.markdown(schema.schema()).rstrip(), (
        "make it anew: edgeq schema --markdown > docs/reference.md")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site; a warning is an error (strict)."""
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run([sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", folder],
                           cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert built.returncode == 0, built.stderr
    return folder


def test_every_page_is_in_the_site(site: Path) -> None:
    assert {f"{page.stem}.html" for page in DOCS.glob("*.md")} <= {page.name for page in site.glob("*.html")}


def test_the_site_fetches_nothing(site: Path) -> None:
    page = (site / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=\"?https?:", page) == []
