"""The history in a SQLite file: what is recorded, found again, and what is said where it fails."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from edgeq.errors import ConfigError, EdgeqError, ToolError
from edgeq.history import reading, sqlite, version
from edgeq.history.address import address, default
from edgeq.history.changes import cells, steps
from edgeq.history.keeping import keep
from edgeq.history.reading import Question, points
from edgeq.history.recording import forget, record, shrink
from tests.histories import COUNT, IDENTITY, SCORE, report, run

HOSTILE = "'; DROP TABLE runs; --\0\x1b[2J</script>\udc80😀" + "x" * 3000


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "folder/h%20? #é.sqlite")


def rows(file: str, statement: str) -> list[tuple]:
    with closing(sqlite3.connect(file)) as driver:
        return driver.execute(statement).fetchall()


def told(file: str, question: Question) -> list[tuple[str, ...]]:
    """The rows of the one series that answers the question, as people see them."""
    found, benches = reading.figures(file, question)
    (series,) = reading.by_series(found).values()
    return [cells(step) for step in steps(series, benches)]


def test_a_build_is_recorded_whole(file: str) -> None:
    assert record(file, report(), run(1))
    assert rows(file, "SELECT id, project, commit_id, branch, dirty, passed FROM runs") == [
        ("run-0001", "demo", f"{1:040x}", "main", 0, 1)]
    assert rows(file, "SELECT model, target, passed, best FROM jobs") == [("kws", "cortex-m4", 1, 1)]
    assert rows(file, "SELECT rung, recipe, state FROM rungs") == [
        (0, "equalized-int8", "failed"), (1, "static-int8", "passed")]
    assert rows(file, "SELECT rung, name, value, n, low, high, passed, verdict, maximum FROM metrics") == [
        (0, "instructions", 9999, 10, None, None, 0, "failed", 2000),
        (1, "instructions", 1000, 10, None, None, 1, None, 2000),
        (1, "accuracy", 0.9, 2000, 0.88, 0.92, None, None, None)]
    assert rows(file, "SELECT path, bytes, sha256 FROM artifacts") == [
        ("cortex-m4/kws/firmware.elf", 7, "ab")]
    assert rows(file, "SELECT name, version FROM tools") == [("numpy", "2.4.6")]
    assert rows(file, "SELECT runner, board, host FROM benches") == [("qemu-cortex-m", "mps2-an386", "A")]
    assert reading.report(file, "run-0001") == report()


def test_a_run_is_recorded_once(file: str) -> None:
    assert record(file, report(), run(1))
    assert not record(file, report(500), run(1))
    assert [each["value"] for each in points(file, Question("demo", metrics=("instructions",)))] == [1000]


def test_a_build_without_results_is_a_run(file: str) -> None:
    assert record(file, {**report(), "results": []}, run(1))
    assert rows(file, "SELECT id FROM runs") == [("run-0001",)]
    assert reading.trends(file, "demo") == []


def test_benches_are_kept_once_for_all_runs(file: str) -> None:
    for number in range(3):
        record(file, report(), run(number))
    assert rows(file, "SELECT count(*) FROM benches") == [(1,)]


def test_what_is_recorded_loads_no_more_than_pythons_own_driver(file: str) -> None:
    record(file, report(), run(1))
    code = ("import sys; from edgeq.history.keeping import keep; from tests.histories import report, run; "
            "kept = keep(sys.argv[1], report(), run(2)); assert len(kept.trends) == 2, kept; "
            "assert not {'sqlalchemy', 'alembic', 'numpy', 'rich'} & sys.modules.keys()")
    subprocess.run([sys.executable, "-c", code, file], check=True, timeout=60)


def test_the_last_runs_are_found_the_oldest_first(file: str) -> None:
    for number in (3, 1, 2):
        record(file, report(number), run(number))
    record(file, report(7), run(4, project="another"))
    record(file, report(8), run(5, branch="topic"))
    record(file, report(9, target="host"), run(6))
    asked = Question("demo", targets=("cortex-m4",), metrics=("instructions",))
    assert [each["value"] for each in points(file, asked)] == [1, 2, 3, 8]
    assert [each["value"] for each in points(file, Question(
        "demo", targets=("cortex-m4",), branch="main", last=2))] == [2, 3]
    assert {each["target"] for each in points(file, Question("demo"))} == {"cortex-m4", "host"}
    assert points(file, Question("demo", models=("none",))) == []
    assert reading.projects(file) == ["another", "demo"]


def test_where_no_metric_is_named_those_with_a_gate_are_shown(file: str) -> None:
    record(file, report(), run(1))
    assert [each["metric"] for each in points(file, Question("demo"))] == ["instructions"]


def test_trends_are_of_gates_and_costs(file: str) -> None:
    record(file, report(1000), run(1))
    record(file, report(3000), run(2))
    accuracy, instructions = reading.trends(file, "demo")
    assert accuracy["metric"] == "accuracy"
    assert instructions == {
        "model": "kws", "target": "cortex-m4", "metric": "instructions", "points": [
            {"run": "run-0001", "started": "2026-01-01T00:01:00Z", "commit": f"{1:040x}", "branch": "main",
             "value": 1000.0, "unit": "count", "source": "simulated", "interval": None, "passed": True},
            {"run": "run-0002", "started": "2026-01-01T00:02:00Z", "commit": f"{2:040x}", "branch": "main",
             "value": 3000.0, "unit": "count", "source": "simulated", "interval": None, "passed": False}]}
    assert len(reading.trends(file, "demo", last=1)[0]["points"]) == 1


def test_runs_are_found_by_their_commit(file: str) -> None:
    for number in (1, 2, 3):
        record(file, report(), run(number, commit="c" * 40 if number > 1 else "d" * 40))
    assert reading.runs_at(file, "demo", "c" * 40) == ["run-0003", "run-0002"]
    with pytest.raises(ConfigError, match="no report of a run 'none'"):
        reading.report(file, "none")


def test_a_report_that_is_damaged_there_is_told(file: str) -> None:
    record(file, report(), run(1))
    with closing(sqlite3.connect(file)) as driver, driver:
        driver.execute("UPDATE reports SET content = x'00'")
    with pytest.raises(ToolError, match="the report of run 'run-0001' is damaged"):
        reading.report(file, "run-0001")


def test_a_change_is_told_with_what_it_is_worth(file: str) -> None:
    for number, value in enumerate((1000, 900, 900, 2100)):
        record(file, report(value), run(number))
    shown = told(file, Question("demo", metrics=("instructions",)))
    assert [row[-1] for row in shown] == ["", "-10.00 % better", "same", "+133.33 % worse"]
    assert shown[0][4] == "1,000 (simulated, n 10)"
    assert [row[5] for row in shown][2:] == ["pass <= 2,000", "FAIL failed <= 2,000"]


def test_a_change_within_the_interval_is_no_progress(file: str) -> None:
    record(file, report(), run(1))
    record(file, report(accuracy={**SCORE, "value": 0.905, "interval": [0.885, 0.925]}), run(2))
    assert told(file, Question("demo", metrics=("accuracy",)))[1][-1] == "+0.005 within the noise"


def test_a_change_between_benches_names_the_difference(file: str) -> None:
    record(file, report(1000), run(1))
    record(file, report(500, identity={**IDENTITY, "tools": {"qemu-system-arm": "sha256:22"}}), run(2))
    (_, second) = told(file, Question("demo", metrics=("instructions",)))
    assert second[-1] == "not comparable: qemu-system-arm: sha256:11 there, sha256:22 here"


def test_a_figure_that_there_is_none_of_is_no_change(file: str) -> None:
    absent = {"value": None, "unit": "count", "source": "unavailable", "reason": "no emulator"}
    content = report(None)
    for place in (content["results"][0]["metrics"], content["results"][0]["rungs"][1]["metrics"]):
        place["instructions"] = absent
    record(file, content, run(1))
    record(file, report(), run(2))
    first, second = told(file, Question("demo", metrics=("instructions",)))
    assert first[4:] == ("— (unavailable: no emulator)", "FAIL failed <= 2,000", "")
    assert second[-1] == ""


def test_a_question_is_answered_by_indexes(file: str) -> None:
    record(file, report(), run(1))
    asked = Question("demo", ("kws",), ("cortex-m4",), ("instructions",), "main", beside=("accuracy",))
    for question in (asked, Question("demo")):
        statement, values = reading._statement(question, reading.POINT.values())
        with closing(sqlite3.connect(file)) as driver:
            plan = [line[-1] for line in driver.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
        assert [line for line in plan if line.startswith("SCAN")] == ["SCAN r"]  # the runs that were chosen
        assert sum("USING INDEX runs_by_time" in line for line in plan) == 1
        assert sum("m USING PRIMARY KEY (run=? AND job=? AND rung=?)" in line for line in plan) == 2


def test_old_runs_are_forgotten_with_all_of_theirs(file: str) -> None:
    for number in range(4):
        record(file, report(), run(number))
    record(file, report(), run(0, project="another") | {"id": "kept"})
    record(file, report(identity={"runner": {"name": "theirs alone"}}), run(0) | {"id": "bench"})
    assert forget(file, "demo", run(2)["started"]) == 3
    assert rows(file, "SELECT runner FROM benches") == [("qemu-cortex-m",)]
    assert rows(file, "SELECT id FROM runs ORDER BY id") == [("kept",), ("run-0002",), ("run-0003",)]
    for table in ("tools", "jobs", "rungs", "metrics", "artifacts", "reports"):
        assert rows(file, f"SELECT count(DISTINCT run) FROM {table}") == [(3,)], table


def test_a_file_from_which_much_is_forgotten_shrinks(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = report()
    content["results"] *= 300
    assert record(file, report(), run(9))
    least = Path(file).stat().st_size
    assert record(file, content, run(1))
    assert forget(file, "demo", run(2)["started"]) == 1
    monkeypatch.setattr(sqlite, "PATIENCE_S", 0.3)
    with closing(sqlite3.connect(file, isolation_level=None)) as another:
        another.execute("BEGIN IMMEDIATE")
        with pytest.raises(ToolError, match="is locked: another program"):
            shrink(file)
    assert Path(file).stat().st_size > least + 50_000
    shrink(file)
    assert Path(file).stat().st_size <= least
    assert len(points(file, Question("demo"))) == 1


def test_hostile_names_are_kept_as_data(file: str) -> None:
    content = report(model=HOSTILE, target=HOSTILE)
    result = content["results"][0]
    grouped = f"accuracy[{HOSTILE}]"
    for place in (result, result["rungs"][1]):
        place["metrics"] = {**place["metrics"], grouped: {**COUNT, "reason": HOSTILE, "rig": HOSTILE}}
        place["recipe"], place["options"] = HOSTILE, {HOSTILE: [HOSTILE]}
    result["identity"] = {"runner": {"name": HOSTILE}, "tools": {HOSTILE: HOSTILE}}
    content["tools"] = {HOSTILE: HOSTILE}
    assert record(file, content, run(1, project=HOSTILE, branch=HOSTILE))
    assert record(file, report(), run(2))
    found, benches = reading.figures(file, Question(HOSTILE, (HOSTILE,), (HOSTILE,), (grouped,), HOSTILE))
    (point,) = found
    assert point["model"] == HOSTILE.replace("\0", "\N{SYMBOL FOR NULL}").replace("\udc80", "?")
    (step,) = steps(found, benches)
    assert all(cell.isprintable() for cell in cells(step))
    assert json.loads(json.dumps(point))["options"] == {HOSTILE: [HOSTILE]}
    assert len(points(file, Question("demo"))) == 1
    assert len(reading.trends(file, HOSTILE)) == 2


def test_notes_may_be_long(file: str) -> None:
    content = report()
    content["results"][0]["rungs"][0] |= {"notes": ["n" * 5_000_000], "reason": "r" * 5_000_000}
    record(file, content, run(1))
    assert reading.report(file, "run-0001") == content
    assert Path(file).stat().st_size < 6_000_000


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_no_figure(file: str, value: float) -> None:
    content = report()
    for place in (content["results"][0], content["results"][0]["rungs"][1]):
        place["metrics"]["instructions"]["value"] = value
    record(file, content, run(1))
    (point,) = points(file, Question("demo", metrics=("instructions",)))
    assert point["value"] is None


def cut(path: str) -> Callable[[dict], None]:
    def remove(content: dict) -> None:
        *places, last = path.split()
        for place in places:
            content = content[int(place) if place.isdigit() else place]
        del content[last]
    return remove


@pytest.mark.parametrize("damage", [
    lambda content: content.update(schema="edgeq-report/2"),
    lambda content: content.update(results=7),
    lambda content: content.update(results=[7]),
    lambda content: content["results"][0].update(identity=7),
    lambda content: content["results"][0].update(model=["a"]),
    lambda content: content["results"][0]["rungs"][1]["metrics"]["accuracy"].update(n=2**70),
    lambda content: content["results"][0]["rungs"][1]["metrics"]["accuracy"].update(value=10**400),
    lambda content: content["results"][0]["rungs"][1]["metrics"]["accuracy"].update(value="much"),
    lambda content: content["results"][0]["rungs"][1]["metrics"]["accuracy"].update(interval=[1]),
    cut("tools"), cut("results 0 rungs"), cut("results 0 rungs 1 verdicts"),
    cut("results 0 artifacts 0 sha256"),
])
def test_a_report_that_is_none_is_refused_and_nothing_of_it_kept(
        file: str, damage: Callable[[dict], None]) -> None:
    content = report()
    damage(content)
    with pytest.raises(ConfigError, match=r"cut short or damaged|not of the schema"):
        record(file, content, run(1))
    assert not Path(file).exists()


@pytest.mark.parametrize(("key", "value"), [("schema", "edgeq-run/9"), ("id", ""), ("id", "x" * 501),
                                            ("started", None), ("project", 7)])
def test_a_run_that_is_none_is_refused(file: str, key: str, value: object) -> None:
    with pytest.raises(ConfigError):
        record(file, report(), {**run(1), key: value})


def test_a_database_of_an_older_schema_is_upgraded_in_place(
        file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as older:
        older.setattr("edgeq.history.version.HEAD", "1")
        sqlite.upgrade(address(file))
    with closing(sqlite3.connect(file)) as driver, driver:
        driver.execute("INSERT INTO runs (id, project, started, edgeq, passed) "
                       "VALUES ('old', 'demo', '2025-01-01T00:00:00Z', '0', 1)")
    assert not rows(file, "SELECT name FROM sqlite_master WHERE name = 'reports'")
    assert record(file, report(), run(1))
    assert rows(file, "SELECT id FROM runs ORDER BY started") == [("old",), ("run-0001",)]
    assert rows(file, "SELECT version_num FROM edgeq_history") == [(str(version.CURRENT),)]


def test_an_upgrade_that_fails_leaves_the_database_as_it_was(
        file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as older:
        older.setattr("edgeq.history.version.HEAD", "1")
        sqlite.upgrade(address(file))
    before = rows(file, "SELECT * FROM sqlite_master")
    pages = rows(file, "PRAGMA page_count")[0][0]
    monkeypatch.setattr(sqlite, "SETTINGS", (*sqlite.SETTINGS, f"PRAGMA max_page_count = {pages + 1}"))
    with pytest.raises(ToolError, match="the disk is full"):
        record(file, report(), run(1))
    assert rows(file, "SELECT * FROM sqlite_master") == before


def test_the_newest_migration_is_the_schema_that_is_known() -> None:
    folder = Path(version.__file__).parent / "migrations/versions"
    numbers = sorted(int(each.name[1:].partition("_")[0]) for each in folder.glob("v*.py"))
    assert numbers == list(range(1, version.CURRENT + 1))


def newer(file: Path) -> None:
    record(str(file), report(), run(0))
    with closing(sqlite3.connect(file)) as driver, driver:
        driver.execute("UPDATE edgeq_history SET version_num = '99'")


def misnamed(file: Path) -> None:
    record(str(file), report(), run(0))
    with closing(sqlite3.connect(file)) as driver, driver:
        driver.execute("UPDATE edgeq_history SET version_num = 'beta'")


def foreign(file: Path) -> None:
    with closing(sqlite3.connect(file)) as driver, driver:
        driver.execute("CREATE TABLE bookmarks (url)")


def no_database(file: Path) -> None:
    file.write_text("not a database, but a text that is longer than the header of one\n" * 20)


def damaged(file: Path) -> None:
    record(str(file), report(), run(0))
    content = file.read_bytes()
    file.write_bytes(content[:4096] + bytes(len(content) - 4096))


def folder(file: Path) -> None:
    file.mkdir()


BROKEN = {newer: "has schema 99, and this edgeq knows", misnamed: "no version of its schema: 'beta'",
          foreign: "a database of something else",
          no_database: "is no SQLite database", damaged: "is damaged", folder: "cannot be opened"}


@pytest.mark.parametrize("make", BROKEN)
def test_a_database_that_is_no_history_of_ours_is_told(tmp_path: Path, make: Callable[[Path], None]) -> None:
    file = tmp_path / "h.sqlite"
    make(file)
    before = file.read_bytes() if file.is_file() else b""
    kept = keep(str(file), report(), run(1))
    assert kept.fault
    assert BROKEN[make] in kept.fault.message
    assert kept.fault.hint
    assert kept.trends == ()
    assert before == (file.read_bytes() if file.is_file() else b"")


def test_a_locked_database_is_waited_for_and_then_told(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "PATIENCE_S", 0.3)
    record(file, report(), run(1))
    with closing(sqlite3.connect(file, isolation_level=None)) as another:
        another.execute("BEGIN EXCLUSIVE")
        start = time.monotonic()
        with pytest.raises(ToolError, match="is locked"):
            record(file, report(), run(2))
        assert time.monotonic() - start > 0.2
        assert len(points(file, Question("demo"))) == 1  # reading waits for nobody
    assert record(file, report(), run(2))


def test_a_full_disk_is_told_and_leaves_nothing_half(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    record(file, report(), run(1))
    pages = rows(file, "PRAGMA page_count")[0][0]
    monkeypatch.setattr(sqlite, "SETTINGS", (*sqlite.SETTINGS, f"PRAGMA max_page_count = {pages + 2}"))
    content = report()
    content["results"] *= 300
    with pytest.raises(ToolError, match="the disk is full"):
        record(file, content, run(2))
    assert rows(file, "SELECT id FROM runs") == [("run-0001",)]
    assert rows(file, "PRAGMA integrity_check") == [("ok",)]


def test_builds_that_write_at_once_all_land(file: str) -> None:
    code = ("import sys; from edgeq.history.recording import record\n"
            "from tests.histories import report, run\n"
            "for each in range(5): assert record(sys.argv[1], report(), run(10 * int(sys.argv[2]) + each))")
    writers = [subprocess.Popen([sys.executable, "-c", code, file, str(place)]) for place in range(4)]
    assert [writer.wait(timeout=60) for writer in writers] == [0] * 4
    assert len(points(file, Question("demo", last=100))) == 20
    assert rows(file, "PRAGMA integrity_check") == [("ok",)]
    assert rows(file, "PRAGMA journal_mode") == [("wal",)]


@pytest.mark.parametrize(("text", "shown"), [
    ("/a/b.sqlite", "/a/b.sqlite"),
    ("sqlite:////a/b.sqlite", "/a/b.sqlite"),
    ("postgresql://me:secret@host:5433/db?password=secret", "postgresql+psycopg://me@host:5433/db"),
    ("postgresql+psycopg://me:sec:ret%40:/@host/db", "postgresql+psycopg://me@host/db"),
    ("postgres://host/db", "postgresql+psycopg://host/db"),
])
def test_an_address_is_shown_without_what_is_secret(text: str, shown: str) -> None:
    assert str(address(text)) == shown


def test_a_password_with_an_at_sign_is_not_taken_for_the_host() -> None:
    with pytest.raises(ConfigError, match="more than one @") as refused:
        address("postgresql://me:sec@ret@host/db")
    assert "ret@" not in f"{refused.value.message} {refused.value.hint}"


def test_paths_are_of_the_folder_and_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    assert address("h.sqlite").file == address("sqlite:///h.sqlite").file == tmp_path / "h.sqlite"
    assert address("~/h.sqlite").file == Path("/home/me/h.sqlite")
    monkeypatch.delenv("EDGEQ_HISTORY")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert default() == "/home/me/.local/share/edgeq/history.sqlite"
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default() == "/data/edgeq/history.sqlite"
    monkeypatch.setenv("EDGEQ_HISTORY", "postgresql://h/d")
    assert default() == "postgresql://h/d"


@pytest.mark.parametrize("text", ["mysql://u:secret@h/d", "sqlite://", "sqlite:///:memory:", "", "a\0b"])
def test_what_is_no_place_for_a_history_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        address(text)
    assert "secret" not in f"{caught.value.message}{caught.value.hint}"


def test_no_history_is_no_error_where_no_file_was_named(
        file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert keep("none", report(), run(1)).fault is None
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("EDGEQ_HISTORY")
    assert points(default(), Question("demo")) == []
    assert reading.trends(default(), "demo") == []
    assert forget(default(), "demo", "2100") == 0
    shrink(default())
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("ask", [
    lambda url: points(url, Question("demo")), lambda url: reading.report(url, "run-0001"),
    lambda url: reading.runs_at(url, "demo", "0"), lambda url: forget(url, "demo", "2100"), shrink])
@pytest.mark.parametrize("url", ["{}", "sqlite:///{}"])
def test_a_file_that_was_named_and_is_not_there_is_told(
        tmp_path: Path, url: str, ask: Callable[[str], object]) -> None:
    file = tmp_path / "folder/none.sqlite"
    with pytest.raises(ConfigError, match=re.escape(f"the history {file} does not exist")):
        ask(url.format(file))
    assert not file.parent.exists()


def test_every_fault_has_an_exit_code(file: str) -> None:
    with pytest.raises(EdgeqError) as caught:
        record("/proc/none/h.sqlite", report(), run(1))
    assert caught.value.exit_code == ToolError.exit_code
    assert "/proc/none/h.sqlite" in caught.value.message
