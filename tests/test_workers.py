"""Workers: whatever happens to one is an error of the step that it was making, and of nobody else's."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from makers import SPOKEN, Adding, Failing, Program, Talking, Text, Waiting, wait_for, wait_until_gone

from edgeq.errors import ConfigError, EdgeqError, Refused, ToolError
from edgeq.modules import PACKAGE
from edgeq.store import Store
from edgeq.workers import Workers

WAYS = ("exception", "no words", "refused", "config", "tool", "sys.exit", "own class", "two arguments",
        "garbage", "status 9", "SIGSEGV", "SIGFPE", "SIGABRT", "hang")
MAIN = """
import sys
from pathlib import Path
from edgeq.store import Store
from edgeq.workers import Workers
import makers
if __name__ == "__main__":
    root, kind, mark = sys.argv[1:]
    with Workers(Path(root), 1, 3600) as workers:
        Store(Path(root), workers.make).make(getattr(makers, kind)(mark).write)
"""


def attempt(store: Store, way: str) -> EdgeqError | None:
    """How it ended to make a thing in this way: the error, None where there was none."""
    try:
        store.make(Failing(way).make)
    except EdgeqError as error:
        return error
    return None


@pytest.fixture(scope="module")
def ended(tmp_path_factory) -> dict[str, EdgeqError | None]:
    """How each way to go wrong ended, with sound steps among them, all in one pool of two workers."""
    root = tmp_path_factory.mktemp("store")
    ways = [*WAYS, "nothing"]
    with Workers(root, 2, 4) as workers, ThreadPoolExecutor(len(ways)) as threads:
        store = Store(root, workers.make)
        sound = [threads.submit(store.make, Text(str(number)).write) for number in range(6)]
        found = dict(zip(ways, threads.map(lambda way: attempt(store, way), ways), strict=True))
        assert [(store.path(each.result()) / "text").read_text() for each in sound] == list("012345")
    return found


@pytest.mark.parametrize(("way", "message"), [
    ("exception", "Failing.make failed: ValueError: seven is no even number"),
    ("no words", "Failing.make failed: RuntimeError: no message"),
    ("sys.exit", "Failing.make failed: SystemExit: 7"),
    ("own class", "Failing.make failed: Own: of my own"),
    ("two arguments", "Failing.make failed: TwoArguments: 1 and 2"),
    ("garbage", "Failing.make failed: ValueError: garbage"),
    ("status 9", "Failing.make: its worker ended with status 9"),
    ("SIGSEGV", "Failing.make: its worker was killed by SIGSEGV"),
    ("SIGFPE", "Failing.make: its worker was killed by SIGFPE"),
    ("SIGABRT", "Failing.make: its worker was killed by SIGABRT"),
    ("hang", "Failing.make had not ended after 4 s and was stopped"),
])
def test_a_step_that_goes_wrong_is_a_tool_error_that_quotes_its_log(
    ended: dict[str, EdgeqError], way: str, message: str
) -> None:
    error = ended[way]
    assert type(error) is ToolError
    assert error.message == message
    assert f"{SPOKEN}: {way}" in error.hint


def test_the_steps_beside_them_finish(ended: dict[str, EdgeqError | None]) -> None:
    assert ended["nothing"] is None


@pytest.mark.parametrize(("way", "kind"), [
    ("refused", Refused), ("config", ConfigError), ("tool", ToolError)])
def test_an_error_in_words_comes_back_as_it_is(ended: dict[str, EdgeqError], way: str, kind: type) -> None:
    assert type(ended[way]) is kind
    assert (ended[way].message, ended[way].hint) in {
        ("it does not fit", "take less"), ("it is wrong", "correct it"), ("it is not there", "install it")}


def test_where_an_exception_arose_is_in_the_log_and_not_in_the_error(tmp_path: Path) -> None:
    with Workers(tmp_path, 1, 60) as workers:
        error = attempt(Store(tmp_path, workers.make), "exception")
    assert "Traceback" not in error.message + error.hint
    log, = tmp_path.glob("logs/*.log")
    assert "makers.py" in log.read_text()
    assert str(log) in error.hint


def test_what_went_wrong_leaves_nothing_and_can_be_made_later(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with Workers(tmp_path / "store", 1, 6) as workers, pytest.raises(ToolError, match="had not ended"):
        Store(tmp_path / "store", workers.make).make(Waiting(str(mark)).write)
    with Workers(tmp_path / "store", 1, 60) as workers:
        store = Store(tmp_path / "store", workers.make)
        made = store.path(store.make(Waiting(str(mark)).write))
    assert [file.name for file in made.iterdir()] == ["text"]


def test_what_two_threads_ask_for_is_made_once(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    with Workers(tmp_path, 2, 60) as workers, ThreadPoolExecutor(4) as threads:
        store = Store(tmp_path, workers.make)
        made = {each.result() for each in
                [threads.submit(store.make, Text("a", str(journal)).write) for _ in range(4)]}
    assert len(made) == 1
    assert len(journal.read_text().splitlines()) == 1


def test_no_process_is_started_where_nothing_is_made(tmp_path: Path) -> None:
    with Workers(tmp_path, 1, 60) as workers:
        made = Store(tmp_path, workers.make).make(Text("a").write)
    with Workers(tmp_path, 1, 60) as workers:
        assert Store(tmp_path, workers.make).make(Text("a").write) == made
        assert multiprocessing.active_children() == []


def test_no_worker_outlives_its_pool(tmp_path: Path) -> None:
    with Workers(tmp_path, 2, 60) as workers:
        Store(tmp_path, workers.make).make(Text("a").write)
        assert multiprocessing.active_children()
    assert multiprocessing.active_children() == []


def test_all_that_a_worker_prints_goes_to_the_log_of_its_step(tmp_path: Path, capfd) -> None:
    with Workers(tmp_path, 1, 60) as workers:
        store = Store(tmp_path, workers.make)
        made = store.make(Talking().write)
        store.make(Text("quiet").write)
    assert store.log_of(made).read_text().splitlines() == [
        "said by Python", "said by Python on stderr", "said by a descriptor", "said by the C library",
        "said by a program"]
    assert sorted(log.stat().st_size > 0 for log in tmp_path.glob("logs/*")) == [False, True]
    assert capfd.readouterr() == ("", "")


def test_a_value_is_brought_back_and_not_kept(tmp_path: Path) -> None:
    with Workers(tmp_path, 1, 60) as workers:
        assert workers.perform(Adding(2).add, 3) == 5
    assert not (tmp_path / "objects").exists()


@pytest.mark.parametrize("way", ["exception", "own class", "SIGSEGV", "lambda"])
def test_a_value_that_cannot_be_had_is_a_tool_error(tmp_path: Path, way: str) -> None:
    with Workers(tmp_path, 1, 60) as workers:
        with pytest.raises(ToolError, match=r"Failing\.answer") as error:
            workers.perform(Failing(way).answer)
        assert SPOKEN in error.value.hint
        assert workers.perform(Adding(2).add, 3) == 5


def test_a_build_that_is_stopped_waits_for_nobody(tmp_path: Path) -> None:
    marks = [tmp_path / "one", tmp_path / "two"]

    def stopped(threads: ThreadPoolExecutor) -> None:
        with Workers(tmp_path / "store", 1, 3600) as workers:
            store = Store(tmp_path / "store", workers.make)
            for mark in marks:  # the second waits for the only worker
                asked.append(threads.submit(store.make, Waiting(str(mark)).write))
                wait_for(marks[0])
            raise KeyboardInterrupt

    asked: list[Future] = []
    with ThreadPoolExecutor(2) as threads:
        with pytest.raises(KeyboardInterrupt):
            stopped(threads)
        assert all(each.exception() for each in asked)
    assert multiprocessing.active_children() == []


# What becomes of workers whose main process is killed


@pytest.mark.parametrize("kind", ["Waiting", "Program"])
def test_no_worker_and_no_program_of_its_own_outlives_a_main_process_that_is_killed(
    tmp_path: Path, kind: str
) -> None:
    mark = tmp_path / "mark"
    (tmp_path / "main.py").write_text(MAIN)
    main = subprocess.Popen(
        [sys.executable, str(tmp_path / "main.py"), str(tmp_path / "store"), kind, str(mark)],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": f"{PACKAGE.parent}:{Path(__file__).parent}"})
    wait_for(mark)
    main.kill()
    assert main.wait() == -signal.SIGKILL
    wait_until_gone(int(mark.read_text()))


def test_a_program_does_not_outlive_the_worker_that_is_stopped(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with Workers(tmp_path, 1, 6) as workers, pytest.raises(ToolError, match="had not ended after 6 s"):
        Store(tmp_path, workers.make).make(Program(str(mark)).write)
    wait_until_gone(int(mark.read_text()))
