"""What the tests share: a command line, a small project, and a store that all of them fill once."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeq.artifact import Origin
from edgeq.frontends.keras import Keras
from edgeq.store import Store, fill

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "models/fashion"
LADDER = "ladder: [static-int8]"  # of pipeline.yaml
DEMO_TARGETS = "[host, tflm, cortex-m4, ethos-u55-128, edgetpu, rpi4, android-nnapi, executorch-xnnpack]"

if "PYTEST_XDIST_WORKER" not in os.environ:  # a server of this run's own: no phone of yours is touched
    os.environ["ANDROID_ADB_SERVER_PORT"] = str(15000 + os.getpid() % 10000)
os.environ.pop("ANDROID_SERIAL", None)
os.environ["EDGEQ_HISTORY"] = "none"  # no test writes into yours

Edgeq = Callable[..., subprocess.CompletedProcess]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Stop that server, when all is done."""
    if not hasattr(session.config, "workerinput") and shutil.which("adb"):
        subprocess.run(["adb", "kill-server"], capture_output=True, timeout=60, check=False)


@pytest.fixture(scope="session")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for the whole run, its parallel workers among them: heavy things are made once."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    return shared / "store"


@pytest.fixture(scope="session")
def store(shared_store: Path) -> Store:
    """The shared store, filled in this very process."""
    return Store(shared_store, functools.partial(fill, shared_store))


@pytest.fixture(scope="session")
def baseline(store: Store) -> Path:
    """The folder with the demo's baseline.tflite."""
    return store.path(store.make(Keras().convert, store.take(Origin(MODEL / "model.keras"))))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The demo as a project of its own, to change at will."""
    shutil.copytree(MODEL, tmp_path / "models/fashion")
    shutil.copy(ROOT / "pipeline.yaml", tmp_path)
    return tmp_path


@pytest.fixture
def edit(project: Path) -> Callable[[str, str, str], None]:
    """Replace a piece of text, which must be there, in a file of the project."""
    def replace(name: str, old: str, new: str) -> None:
        text = (project / name).read_text(encoding="utf-8")
        assert old in text
        (project / name).write_text(text.replace(old, new), encoding="utf-8")

    return replace


@pytest.fixture
def edgeq(project: Path, shared_store: Path) -> Edgeq:
    """Run `edgeq WORDS…` in the project, on the shared store, and return how it ended."""
    def run(*words: str | Path, env: dict[str, str] | None = None, timeout: float = 300,
            ) -> subprocess.CompletedProcess:
        variables = {**os.environ, "EDGEQ_STORE": str(shared_store),
                     "EDGEQ_HISTORY": str(project / "history.sqlite"), **(env or {})}
        return subprocess.run(
            [sys.executable, "-m", "edgeq.cli", *map(str, words)], cwd=project, env=variables,
            capture_output=True, text=True, timeout=timeout, check=False)

    return run


@pytest.fixture(scope="session")
def bench() -> Path:
    """The folder of real models and data, which does not come with edgeq."""
    named = os.environ.get("EDGEQ_BENCH")
    if not named:
        pytest.skip("EDGEQ_BENCH is not set: the bench of real models is not here")
    return Path(named)
