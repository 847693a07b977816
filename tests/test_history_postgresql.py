"""The history on a PostgreSQL server: the same as in a file, and what is said of a server that fails."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeq.errors import ConfigError, ToolError
from edgeq.history import reading, server, version
from edgeq.history.address import address
from edgeq.history.keeping import keep
from edgeq.history.reading import Question
from edgeq.history.recording import forget, record
from tests.conftest import Edgeq
from tests.histories import SCORE, report, run
from tests.postgresql import PASSWORD, Server, started
from tests.test_history import HOSTILE

NAMES = (f"history_{number}" for number in itertools.count())


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A server for all tests of this worker."""
    with started() as running:
        yield running


@pytest.fixture
def url(postgresql: Server) -> Iterator[str]:
    """An empty database of the test's own."""
    name = next(NAMES)
    postgresql.carry_out(f"CREATE DATABASE {name}")
    yield postgresql.url(name)
    postgresql.carry_out(f"DROP DATABASE {name} WITH (FORCE)")


def carry_out(url: str, statement: str) -> list[tuple]:
    import psycopg
    with psycopg.connect(url) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def test_a_server_answers_as_a_file_does(url: str, tmp_path: Path) -> None:
    file = str(tmp_path / "h.sqlite")
    for each in (url, file):
        for number, value in enumerate((1000, 900, 3000)):
            assert record(each, report(value, accuracy={**SCORE, "value": 0.9 + number / 100}), run(number))
        assert not record(each, report(7), run(1))
        assert record(each, report(8, target=HOSTILE, model=HOSTILE), run(7, project=HOSTILE, branch=HOSTILE))
    for question in (Question("demo"), Question("demo", ("kws",), ("cortex-m4",), ("accuracy",), "main", 2),
                     Question(HOSTILE, (HOSTILE,), (HOSTILE,), branch=HOSTILE), Question("none")):
        assert reading.figures(url, question) == reading.figures(file, question)
    assert reading.trends(url, "demo") == reading.trends(file, "demo")
    assert reading.projects(url) == reading.projects(file)
    assert reading.report(url, "run-0001") == report(900, accuracy={**SCORE, "value": 0.91})
    assert reading.runs_at(url, "demo", f"{1:040x}") == ["run-0001"]
    assert [forget(each, "demo", run(2)["started"]) for each in (url, file)] == [2, 2]
    assert carry_out(url, "SELECT count(*) FROM metrics") == [(6,)]


def test_both_have_the_same_tables(url: str, tmp_path: Path) -> None:
    from sqlalchemy import create_engine, inspect

    file = str(tmp_path / "h.sqlite")
    shapes = []
    for each in (url, file):
        record(each, report(), run(1))
        found = inspect(create_engine(address(each).url))
        shapes.append({table: ([column["name"] for column in found.get_columns(table)],
                               found.get_pk_constraint(table)["constrained_columns"],
                               sorted(index["name"] for index in found.get_indexes(table)
                                      if "duplicates_constraint" not in index))
                       for table in found.get_table_names()})
    assert shapes[0] == shapes[1]
    assert shapes[0].keys() == version.OURS | {version.TABLE}


def test_builds_that_write_at_once_all_land(url: str) -> None:
    code = ("import sys; from edgeq.history.recording import record\n"
            "from tests.histories import report, run\n"
            "for each in range(5): assert record(sys.argv[1], report(), run(10 * int(sys.argv[2]) + each))")
    writers = [subprocess.Popen([sys.executable, "-c", code, url, str(place)]) for place in range(3)]
    assert [writer.wait(timeout=60) for writer in writers] == [0] * 3
    assert len(reading.points(url, Question("demo", last=100))) == 15


def test_long_notes_and_what_is_no_number(url: str) -> None:
    content = report(accuracy={**SCORE, "value": float("nan")})
    content["results"][0]["rungs"][0] |= {"notes": ["n" * 1_000_000], "reason": "r\0" * 1_000_000}
    grouped = {f"accuracy[{'g' * 10_000}]": SCORE}
    for place in (content["results"][0], content["results"][0]["rungs"][1]):
        place["metrics"] |= grouped
    assert record(url, content, run(1, project="p" * 10_000, branch="b" * 10_000))
    (accuracy, instructions) = reading.trends(url, "p" * 10_000)
    assert [each["points"][0]["value"] for each in (accuracy, instructions)] == [None, 1000]
    assert len(reading.points(url, Question("p" * 10_000, metrics=tuple(grouped)))) == 1


def test_a_database_of_an_older_schema_is_upgraded_in_place(
        url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as older:
        older.setattr("edgeq.history.version.HEAD", "1")
        server.upgrade(address(url))
    carry_out(url, "INSERT INTO runs (id, project, started, edgeq, passed) "
                   "VALUES ('old', 'demo', '2025-01-01T00:00:00Z', '0', true)")
    assert record(url, report(), run(1))
    assert carry_out(url, "SELECT id FROM runs ORDER BY started") == [("old",), ("run-0001",)]


def test_a_newer_schema_is_left_alone(url: str) -> None:
    record(url, report(), run(1))
    carry_out(url, "UPDATE edgeq_history SET version_num = '99'")
    with pytest.raises(ConfigError, match="has schema 99, and this edgeq knows"):
        record(url, report(), run(2))
    assert carry_out(url, "SELECT count(*) FROM runs") == [(1,)]


def test_the_tables_of_others_are_left_alone(url: str) -> None:
    carry_out(url, "CREATE TABLE bookmarks (url text)")
    assert record(url, report(), run(1))  # beside ours
    carry_out(url, "DROP TABLE edgeq_history")
    with pytest.raises(ConfigError, match="a database of something else: it has the table artifacts"):
        record(url, report(), run(2))


def test_a_lock_is_waited_for_and_then_told(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import psycopg
    record(url, report(), run(1))
    monkeypatch.setattr(server, "LIMITS", (server.LIMITS[0], {"lock": "200ms", "statement": "5s"}))
    with psycopg.connect(url) as another:
        another.execute("LOCK TABLE runs IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(ToolError, match="canceling statement due to lock timeout"):
            record(url, report(), run(2))
    assert record(url, report(), run(2))


@pytest.mark.parametrize(("database", "password", "said"), [
    ("postgres", "wrong", "password authentication failed"),
    ("absent", PASSWORD, 'database "absent" does not')])
def test_who_is_not_let_in_is_told_without_the_password(
        postgresql: Server, database: str, password: str, said: str) -> None:
    kept = keep(postgresql.url(database, password), report(), run(1))
    assert kept.fault
    assert said in kept.fault.message
    assert password not in kept.fault.message + kept.fault.hint


def test_who_may_only_read_is_told(url: str, postgresql: Server) -> None:
    record(url, report(), run(1))
    carry_out(url, "ALTER ROLE tests SET default_transaction_read_only = on")
    try:
        assert len(reading.points(url, Question("demo"))) == 1
        with pytest.raises(ToolError, match="read-only transaction"):
            record(url, report(), run(2))
    finally:
        carry_out(f"{url}?options=-cdefault_transaction_read_only%3Doff",
                  "ALTER ROLE tests RESET default_transaction_read_only")


def test_the_command_reads_from_the_server(url: str, edgeq: Edgeq, project: Path) -> None:
    for number in range(3):
        record(url, report(1000 - number), run(number, project=project.name))
    ended = edgeq("history", "--history", url, "--last", "2", "--json")
    assert ended.returncode == 0, ended.stderr
    (series,) = json.loads(ended.stdout)
    assert [each["value"] for each in series["points"]] == [999, 998]
    assert [each["change"]["outcome"] for each in series["points"]] == ["better", "better"]


def test_the_environment_may_name_the_server(url: str, edgeq: Edgeq, project: Path) -> None:
    (project / "report.json").write_text(json.dumps(report()))
    (project / "run.json").write_text(json.dumps(run(1)))
    ended = edgeq("history", "--add", ".", env={"EDGEQ_HISTORY": url})
    assert (ended.returncode, ended.stdout) == (0, ".: recorded\n"), ended.stderr
    assert carry_out(url, "SELECT model, target, passed FROM jobs") == [("kws", "cortex-m4", True)]


def test_a_url_that_is_none_is_told() -> None:
    with pytest.raises(ConfigError, match="no URL of a database"):
        record("postgresql://host:port/db", report(), run(1))
