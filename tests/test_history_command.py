"""`edgeq history`, and what a build says of a history that it cannot keep."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from edgeq.history.recording import record
from tests.conftest import Edgeq
from tests.histories import report, run

BUILD = ("build", "--target", "host", "--jobs", "1")


@pytest.fixture
def recorded(project: Path) -> str:
    """A history of four runs of the project, at the place where the fixture `edgeq` keeps it."""
    file = str(project / "history.sqlite")
    for number, value in enumerate((1000, 900, 900, 2100)):
        record(file, report(value), run(number, project=project.name))
    return file


def test_builds_are_found_again(edgeq: Edgeq, project: Path) -> None:
    subprocess.run(["git", "init", "--quiet", "--initial-branch", "topic", project], check=True)
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--allow-empty",
                    "--message", "first"], cwd=project, check=True)
    ended = [edgeq(*BUILD) for _ in range(2)]
    assert [each.returncode for each in ended] == [0, 0], ended[0].stderr
    assert not any("warning" in each.stderr for each in ended)
    shown = edgeq("history", "--target", "host", "--metric", "model_bytes")
    assert shown.returncode == 0, shown.stderr
    assert "fashion on host: model_bytes" in shown.stdout
    lines = [line for line in shown.stdout.splitlines() if "static-int8" in line]
    assert len(lines) == 2
    assert "topic" in lines[0]
    assert "same" in lines[0]
    (series,) = json.loads(edgeq("history", "--metric", "model_bytes", "--json").stdout)
    content = json.loads((project / "build/report.json").read_text())
    first, second = series["points"]
    assert second["value"] == content["results"][0]["metrics"]["model_bytes"]["value"]
    assert second["run"] == json.loads((project / "build/run.json").read_text())["id"]
    assert second["change"] == {"outcome": "same", "absolute": 0.0, "relative": 0.0, "noise": None, "why": []}
    assert first["change"] is None


def test_a_history_that_fails_costs_no_file_and_no_exit_code(edgeq: Edgeq, project: Path) -> None:
    (project / "history.sqlite").write_text("no database at all, but longer than the header of one\n" * 20)
    ended = edgeq(*BUILD)
    assert ended.returncode == 0, ended.stderr
    assert f"warning: the history {project / 'history.sqlite'} is no SQLite database" in ended.stderr
    assert "name another with --history or $EDGEQ_HISTORY" in ended.stderr
    assert json.loads((project / "build/report.json").read_text())["passed"]
    assert (project / "build/host/fashion").is_dir()


def test_a_server_that_is_not_there_is_told_without_the_password(edgeq: Edgeq, project: Path) -> None:
    ended = edgeq(*BUILD, "--history", "postgresql://me:secret@127.0.0.1:9/db")
    assert ended.returncode == 0, ended.stderr
    assert "warning: the history postgresql+psycopg://me@127.0.0.1:9/db failed: connection" in ended.stderr
    assert "secret" not in ended.stderr
    assert (project / "build/report.json").exists()


def test_a_history_of_no_known_kind_is_refused_before_anything_is_built(edgeq: Edgeq, project: Path) -> None:
    ended = edgeq(*BUILD, "--history", "mysql://me:secret@h/d")
    assert (ended.returncode, "secret" in ended.stderr) == (2, False)
    assert not (project / "build").exists()


def test_none_has_no_history(edgeq: Edgeq) -> None:
    ended = edgeq("history", "--history", "none")
    assert ended.returncode == 2
    assert "no history is kept" in ended.stderr


def test_the_newest_run_comes_first(edgeq: Edgeq, recorded: str) -> None:
    ended = edgeq("history", "--last", "3", "--branch", "main", "--model", "kws")
    assert ended.returncode == 0, ended.stderr
    lines = [line for line in ended.stdout.splitlines() if "static-int8" in line]
    assert [line.split("  ")[-1].strip() for line in lines] == ["+133.33 % worse", "same", "-10.00 % better"]


def test_nothing_found_says_where_there_is_something(edgeq: Edgeq, recorded: str, project: Path) -> None:
    ended = edgeq("history", "--project", "another")
    assert (ended.returncode, ended.stdout) == (0, "")
    assert f"nothing of this is recorded of project another in {recorded}" in ended.stderr
    assert f"projects there: {project.name}" in ended.stderr


def test_old_runs_are_forgotten(edgeq: Edgeq, recorded: str, project: Path) -> None:
    assert edgeq("history", "--keep", "100000").stdout == f"0 runs of {project.name} forgotten\n"
    ended = edgeq("history", "--keep", "0")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == f"4 runs of {project.name} forgotten\n"
    with closing(sqlite3.connect(recorded)) as driver:
        assert driver.execute("SELECT count(*) FROM metrics").fetchone() == (0,)


def test_a_build_from_elsewhere_is_added_once(edgeq: Edgeq, project: Path) -> None:
    folder = project / "from ci"
    folder.mkdir()
    (folder / "report.json").write_text(json.dumps(report()))
    (folder / "run.json").write_text(json.dumps(run(1)))
    assert edgeq("history", "--add", folder).stdout == f"{folder}: recorded\n"
    assert edgeq("history", "--add", folder / "report.json").stdout.endswith("was recorded before\n")
    assert "kws on cortex-m4" in edgeq("history", "--project", "demo").stdout


@pytest.mark.parametrize(("name", "content"), [
    ("report.json", json.dumps(report())[:300]), ("report.json", "[]"), ("report.json", None),
    ("run.json", json.dumps(run(1))[:30]), ("run.json", None)])
def test_what_is_no_build_is_not_added(edgeq: Edgeq, project: Path, name: str, content: str | None) -> None:
    for file, whole in (("report.json", report()), ("run.json", run(1))):
        (project / file).write_text(json.dumps(whole))
    if content is None:
        (project / name).unlink()
    else:
        (project / name).write_text(content)
    ended = edgeq("history", "--add", ".")
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (project / "history.sqlite").exists()
