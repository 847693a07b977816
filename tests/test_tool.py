"""Outside programs: found, run, bounded in time, and what is said when they go wrong."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from makers import wait_until_gone

from edgeq import tool
from edgeq.errors import ConfigError, ToolError

Script = Callable[..., Path]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """Write a program of `/bin/sh` and return where it lies."""
    def written(text: str, name: str = "program", mode: int = 0o755) -> Path:
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(mode)
        return file

    return written


def test_the_status_and_the_output_of_both_streams_come_back_in_order(script: Script, tmp_path: Path) -> None:
    program = script("echo one; echo two >&2; echo three; exit 7")
    assert tool.run([program], timeout_s=60, cwd=tmp_path) == tool.Finished(7, "one\ntwo\nthree\n")


def test_the_words_are_never_read_by_a_shell(script: Script, tmp_path: Path) -> None:
    words = ["a b", "$HOME", "*", "; touch hacked", "'", '"', "\\", "", "ü 模", "`id`", "-n"]
    program = script('printf "[%s]" "$@"', "a program; with $odd name")
    assert tool.run([program, *words], timeout_s=60, cwd=tmp_path).output == "".join(f"[{w}]" for w in words)
    assert not (tmp_path / "hacked").exists()


def test_it_runs_where_it_is_told_to(script: Script, tmp_path: Path) -> None:
    (tmp_path / "where to").mkdir()
    finished = tool.run([script("pwd")], timeout_s=60, cwd=tmp_path / "where to")
    assert finished.output == f"{tmp_path / 'where to'}\n"


def test_nobody_answers_a_program_that_asks(tmp_path: Path) -> None:
    assert tool.run(["cat"], timeout_s=60, cwd=tmp_path) == tool.Finished(0, "")


def test_output_that_is_no_text_is_read_all_the_same(script: Script, tmp_path: Path) -> None:
    finished = tool.run([script(r"printf 'good \377\376 bad'")], timeout_s=60, cwd=tmp_path)
    assert finished.output == "good \ufffd\ufffd bad"


def test_a_program_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="gone could not be started: No such file") as error:
        tool.run([tmp_path / "gone"], timeout_s=60, cwd=tmp_path)
    assert str(tmp_path / "gone") in error.value.hint


def test_a_file_that_is_no_program_is_named(script: Script, tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="notes could not be started: Permission denied"):
        tool.run([script("exit", "notes", mode=0o644)], timeout_s=60, cwd=tmp_path)
    (tmp_path / "picture").write_bytes(b"\x89PNG")
    (tmp_path / "picture").chmod(0o755)
    with pytest.raises(ToolError, match="picture could not be started: Exec format error"):
        tool.run([tmp_path / "picture"], timeout_s=60, cwd=tmp_path)


@pytest.mark.parametrize(
    ("number", "name"), [(11, "SIGSEGV"), (8, "SIGFPE"), (9, "SIGKILL"), (40, "signal 40")])
def test_a_program_that_a_signal_killed_is_quoted(
    script: Script, tmp_path: Path, number: int, name: str
) -> None:
    with pytest.raises(ToolError, match=f"program was killed by {name}$") as error:
        tool.run([script(f"echo last words; kill -{number} $$")], timeout_s=60, cwd=tmp_path)
    assert error.value.hint == "it printed: …last words"


def test_a_program_that_hangs_is_stopped_with_all_that_it_started(script: Script, tmp_path: Path) -> None:
    program = script("sleep 3600 &\necho $! > child\necho $$ > parent\necho started\nwait")
    with pytest.raises(ToolError, match=r"program had not ended after 3 s and was stopped") as error:
        tool.run([program], timeout_s=3, cwd=tmp_path)
    assert error.value.hint == "it printed: …started"
    for name in ("child", "parent"):
        wait_until_gone(int((tmp_path / name).read_text()))


def test_a_program_that_sent_another_off_does_not_hold_us_up(script: Script, tmp_path: Path) -> None:
    program = script("echo done\nsetsid sleep 3600 &\necho $! > child")
    assert tool.run([program], timeout_s=60, cwd=tmp_path) == tool.Finished(0, "done\n")
    with pytest.raises(ToolError, match="had not ended"):
        tool.run([script("setsid sleep 3600 &\necho $! > other\nwait")], timeout_s=3, cwd=tmp_path)
    for name in ("child", "other"):
        os.kill(int((tmp_path / name).read_text()), signal.SIGKILL)


def test_a_program_that_prints_without_end_is_stopped_before_the_disk_is_full(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(tool, "LARGEST", 1 << 20)
    with pytest.raises(ToolError, match="yes was killed by SIGXFSZ") as error:
        tool.run(["yes"], timeout_s=60, cwd=tmp_path)
    assert len(error.value.hint) < tool.TAIL + 50


def test_only_the_end_of_a_long_output_is_quoted() -> None:
    quoted = tool.tail("first" + "x" * 10_000 + "last")
    assert quoted.endswith("last")
    assert len(quoted) < tool.TAIL + 50
    assert tool.tail(" \n") == "it printed nothing"


# Where a program is looked for


def test_a_program_is_found_by_its_setting_first(script: Script, monkeypatch) -> None:
    setting, variable = script("", "by_setting"), script("", "by_variable")
    monkeypatch.setenv("A_COMPILER", str(variable))
    assert tool.find("a-compiler", str(setting)) == setting
    assert tool.find("a-compiler") == variable


def test_a_program_is_found_on_the_path(script: Script, tmp_path: Path, monkeypatch) -> None:
    program = script("", "bin/a_compiler")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert tool.find("a_compiler") == program
    assert tool.find("another", "a_compiler") == program, "a setting may be a name"


def test_a_program_that_is_nowhere_is_none(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("A_COMPILER", raising=False)
    assert tool.find("a_compiler") is None


def test_a_link_is_followed_so_that_what_runs_is_what_is_keyed(
    script: Script, tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "a_compiler").symlink_to(script("", "a_compiler-16.0"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert tool.find("a_compiler") == tmp_path / "a_compiler-16.0"


@pytest.mark.parametrize("by", ["setting", "variable"])
@pytest.mark.parametrize("wrong", ["gone", "notes", "."])
def test_a_wrong_setting_is_an_error_even_where_the_path_has_one(
    script: Script, tmp_path: Path, monkeypatch, by: str, wrong: str
) -> None:
    script("", "a_compiler")
    script("", "notes", mode=0o644)
    monkeypatch.setenv("PATH", str(tmp_path))
    given = str(tmp_path / wrong)
    monkeypatch.setenv("A_COMPILER", given if by == "variable" else "")
    with pytest.raises(ToolError, match="which is no program") as error:
        tool.find("a_compiler", given if by == "setting" else "")
    assert error.value.message.startswith("target.yaml" if by == "setting" else "$A_COMPILER")
    assert given in error.value.message
    assert "correct it" in error.value.hint


def test_a_program_that_is_kept_runs_beside_the_block_and_ends_with_its_input(
        script: Script, tmp_path: Path) -> None:
    program = script("echo ready; cat >/dev/null; echo tidied > tidied")
    with tool.kept([program], cwd=tmp_path, patience_s=30) as running:
        while "ready" not in running.said():
            assert running.status() is None
    assert running.status() == 0
    assert (tmp_path / "tidied").read_text() == "tidied\n"
    assert not tool.running


def test_a_kept_program_that_does_not_end_is_killed(script: Script, tmp_path: Path) -> None:
    with tool.kept([script("exec sleep 600")], cwd=tmp_path, patience_s=0.2) as running:
        assert running.status() is None
    assert running.status() == -signal.SIGKILL


def test_a_kept_program_that_has_ended_says_so(script: Script, tmp_path: Path) -> None:
    with tool.kept([script("echo over; exit 3")], cwd=tmp_path, patience_s=30) as running:
        while running.status() is None:
            assert running.said() in ("", "over\n")
        assert (running.status(), running.said()) == (3, "over\n")


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nowhere)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with pytest.raises(ConfigError, match="the user has no home folder") as told:
        tool.cache()
    assert "set HOME" in told.value.hint
