"""How far a maker has come: heard where it is waited for; and makers that go on where they were stopped."""

from __future__ import annotations

import io
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from makers import leave
from rich.console import Console

from edgeq import console
from edgeq.errors import Refused, ToolError
from edgeq.progress import heard_by, is_heard, noted, noted_in, tell
from edgeq.store import Store, fill
from edgeq.workers import Workers

Told = list[tuple[float, str]]


@dataclass(frozen=True)
class Telling:
    """Tells that it is half done, and goes on once the file `mark` is there."""

    mark: str

    def write(self, out: Path) -> None:
        tell(0.5, "half")
        while not Path(self.mark).exists():
            time.sleep(0.01)
        (out / "text").write_text("whole", encoding="utf-8")


@dataclass(frozen=True)
class Going:
    """Counts how often it was begun; stopped the first time, it waits for ever. It may refuse."""

    resumable: ClassVar = True
    mark: str
    refuses: bool = False
    leaves: bool = True

    def write(self, out: Path, partial: Path) -> None:
        begun = len([*partial.iterdir()])
        if self.leaves:
            (partial / str(begun)).touch()
        if self.refuses:
            raise Refused("it does not fit", "take less")
        if not Path(self.mark).exists():
            leave(self.mark, begun)
            time.sleep(3600)
        (out / "text").write_text(f"begun {begun} times before", encoding="utf-8")


def test_nobody_need_listen() -> None:
    assert not is_heard()
    tell(0.5, "half")


def test_who_listens_hears_what_is_told_in_the_block_and_no_more() -> None:
    heard: Told = []
    with heard_by(lambda *told: heard.append(told)):
        assert is_heard()
        tell(0.5, "half")
    tell(1.0, "all")
    assert heard == [(0.5, "half")]


def test_what_is_told_stands_in_the_file_until_the_block_ends(tmp_path: Path) -> None:
    place = tmp_path / "step.progress"
    assert noted(place) is None
    with noted_in(place):
        tell(0.5, "half")
        tell(0.6, "too soon after")
        assert noted(place) == (0.5, "half")
    assert [*tmp_path.iterdir()] == []


def test_a_file_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    with noted_in(tmp_path / "gone/step.progress"):
        tell(0.5, "half")


def test_who_waits_for_a_worker_hears_what_its_maker_tells(tmp_path: Path) -> None:
    mark, heard = tmp_path / "mark", []

    def listener(*told: object) -> None:
        heard.append(told)
        mark.touch()

    with Workers(tmp_path / "store", 1, 60) as workers, heard_by(listener):
        store = Store(tmp_path / "store", workers.make)
        made = store.make(Telling(str(mark)).write)
    assert heard == [(0.5, "half")]
    assert (store.path(made) / "text").read_text() == "whole"
    assert [file.suffix for file in (tmp_path / "store/logs").iterdir()] == [".log"]


def test_a_maker_that_was_stopped_goes_on_from_what_it_kept(tmp_path: Path) -> None:
    mark, root = tmp_path / "mark", tmp_path / "store"
    with Workers(root, 1, 6) as workers, pytest.raises(ToolError, match="had not ended"):
        Store(root, workers.make).make(Going(str(mark)).write)
    key, = (root / "partial").iterdir()
    assert [file.name for file in key.iterdir()] == ["0"]
    store = Store(root, lambda task: fill(root, task))
    made = store.make(Going(str(mark)).write)
    assert (store.path(made) / "text").read_text() == "begun 1 times before"
    assert [*(root / "partial").iterdir()] == []


@pytest.mark.parametrize("leaves", [True, False])
def test_what_is_left_beside_a_refusal_is_there_to_be_found(tmp_path: Path, leaves: bool) -> None:
    store = Store(tmp_path, lambda task: fill(tmp_path, task))
    for _ in range(2):
        with pytest.raises(Refused):
            store.make(Going("", refuses=True, leaves=leaves).write)
    assert [file.name for file in tmp_path.glob("partial/*/*")] == ["0"] * leaves
    assert len([*tmp_path.glob("partial/*")]) == leaves


def printed(terminal: bool, told: list[tuple[str, str, float | None]]) -> str:
    """What a console shows of this."""
    file = io.StringIO()
    with console.progress(Console(file=file, force_terminal=terminal, width=120), 2) as progress:
        for job, step, done in told:
            progress(job, step, *([] if done is None else [done]))
    return file.getvalue()


TOLD = [("a/host", "qat-int8", None), ("a/host", "qat-int8 epoch 1/2", 0.1),
        ("b/host", "qat-int8 epoch 1/2", 0.1), ("a/host", "qat-int8 epoch 1/2", 0.3),
        ("a/host", "qat-int8 epoch 2/2", 0.6), ("a/host", "passed", None)]


def test_where_there_is_no_terminal_an_epoch_is_a_line() -> None:
    assert printed(False, TOLD).splitlines() == [
        "a/host: qat-int8", "a/host: qat-int8 epoch 1/2", "b/host: qat-int8 epoch 1/2",
        "a/host: qat-int8 epoch 2/2", "a/host: passed"]


def test_on_a_terminal_the_bar_says_how_much_is_done() -> None:
    assert "a/host: qat-int8 epoch 2/2 60 %" in printed(True, TOLD[:-1])
