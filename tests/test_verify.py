"""`edgeq verify`: what is changed, missing, added, cut short or hostile in a build's folder is told."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_report import Maker, failing, passing, report, result

from edgeq.deliver import deliver, ready
from edgeq.errors import ConfigError, ToolError
from edgeq.store import Store, fill
from edgeq.verifying import Verified, as_json, as_text, verify

MODEL = "host/fashion/model.tflite"
MANIFEST = "host/fashion/manifest.json"


@pytest.fixture
def shop(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", functools.partial(fill, tmp_path / "store"))


@pytest.fixture
def build(tmp_path: Path, shop: Store) -> Path:
    """A build of a job that passed and of one that failed, with all that stands beside the report."""
    ready(tmp_path / "build")
    deliver(report(passing(shop), failing(shop, "tflm")), shop, tmp_path / "build")
    (tmp_path / "build/report.html").write_text("<html>", encoding="utf-8")
    (tmp_path / "build/host/fashion/logs/program.log").write_text("said", encoding="utf-8")
    return tmp_path / "build"


def found(build: Path) -> set[tuple[str, str]]:
    """The problems in a build, by file."""
    return {(finding.problem, finding.path) for finding in verify(build).findings}


def rewrite(file: Path, change: Callable[[Any], object]) -> None:
    """Change the JSON in a file."""
    content = json.loads(file.read_text(encoding="utf-8"))
    change(content)
    file.write_text(json.dumps(content, indent=1), encoding="utf-8")


def job_in(bill: Any) -> Any:
    """The component of the job that passed."""
    return next(each for each in bill["components"] if each["name"] == "host/fashion")


def test_a_build_as_it_was_delivered_is_sound(build):
    verified = verify(build)
    assert verified.findings == ()
    # two files and a manifest a job, report.json, report.junit.xml, sbom.cdx.json
    assert verified.files == 9
    assert list(as_text(verified)) == ["9 files hashed: all as they were delivered"]


def test_a_build_of_which_nothing_came_is_sound(shop, tmp_path):
    ready(tmp_path / "out")
    deliver(report(result(error=ToolError("broken", "install it"))), shop, tmp_path / "out")
    assert verify(tmp_path / "out") == Verified(3, ())


@pytest.mark.parametrize("path", [MODEL, "host/fashion/parts/labels.txt", "failed/tflm/fashion/model.tflite"])
def test_a_changed_byte_is_told(build, path):
    content = bytearray((build / path).read_bytes())
    content[-1] ^= 1
    (build / path).write_bytes(bytes(content))
    assert ("changed", path) in found(build)
    assert {name for _, name in found(build)} == {path}


def test_a_missing_file_is_told(build):
    (build / MODEL).unlink()
    assert found(build) == {("missing", MODEL)}


def test_a_file_that_nothing_answers_for_is_told(build):
    (build / "host/fashion/backdoor.so").write_bytes(b"")
    (build / "notes.txt").write_bytes(b"")
    (build / "host/fashion/logs/run.sh").write_bytes(b"")
    assert found(build) == {("extra", "host/fashion/backdoor.so"), ("extra", "notes.txt"),
                            ("extra", "host/fashion/logs/run.sh")}


def test_a_figure_changed_in_the_report_is_told_by_the_sbom(build):
    rewrite(build / "report.json", lambda report: report["results"][0]["metrics"].clear())
    assert found(build) == {("changed", "report.json")}


def test_a_digest_changed_in_the_report_and_the_sbom_is_told_by_the_manifest(build):
    (build / MODEL).write_bytes(b"worse")
    new = hashlib.sha256(b"worse").hexdigest()
    old = hashlib.sha256(b"model").hexdigest()
    for name in ("report.json", "sbom.cdx.json"):
        (build / name).write_text((build / name).read_text().replace(old, new), encoding="utf-8")
    assert ("disagrees", MODEL) in found(build)


def test_a_manifest_that_says_otherwise_is_told(build):
    def change(content: Any) -> None:
        content["predicate"]["buildDefinition"]["externalParameters"]["recipe"] = "float32"

    rewrite(build / MANIFEST, change)
    assert found(build) == {("changed", MANIFEST), ("disagrees", MANIFEST)}


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"subject": 3}', "[" * 100_000])
def test_a_manifest_that_is_none_is_told(build, text):
    (build / MANIFEST).write_text(text, encoding="utf-8")
    assert found(build) == {("changed", MANIFEST), ("invalid", MANIFEST)}


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"bomFormat": 3}', '{"components": [7]}'])
def test_an_sbom_that_is_none_is_told(build, text):
    (build / "sbom.cdx.json").write_text(text, encoding="utf-8")
    assert found(build) >= {("invalid", "sbom.cdx.json")}


def test_an_sbom_that_is_gone_is_told(build):
    (build / "sbom.cdx.json").unlink()
    assert ("missing", "sbom.cdx.json") in found(build)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"schema": "edgeq-run/1"}', "[" * 100_000,
                                  '{"schema": "edgeq-run/9"}'])
def test_a_record_of_the_run_that_is_none_is_told(build, text):
    (build / "run.json").write_text(text, encoding="utf-8")
    assert found(build) == {("invalid", "run.json")}


def test_a_record_of_the_run_that_is_gone_is_told_and_one_of_another_time_is_sound(build):
    rewrite(build / "run.json", lambda run: run.update(started="2027-01-01T00:00:00Z"))
    assert found(build) == set()
    (build / "run.json").unlink()
    assert found(build) == {("missing", "run.json")}


def test_an_sbom_that_lacks_a_file_is_told(build):
    rewrite(build / "sbom.cdx.json", lambda bill: job_in(bill)["components"].pop(0))
    assert ("disagrees", MODEL) in found(build)


@pytest.mark.parametrize("text", ["", "{", '{"schema": "edgeq-report/1", "results": [{"mod', "[]", "null",
                                  '{"results": []}', '{"schema": 1}', "[" * 100_000, "\xff"])
def test_a_report_cut_short_is_told(build, text):
    (build / "report.json").write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError, match=r"report\.json is"):
        verify(build)


def test_a_report_of_another_schema_is_told(build):
    rewrite(build / "report.json", lambda report: report.update(schema="edgeq-report/2"))
    with pytest.raises(ConfigError, match="edgeq-report/2"):
        verify(build)


def test_what_is_no_build_is_told(tmp_path):
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ConfigError, match="no folder of a build"):
            verify(place)


# Another build's folders


def test_what_another_build_left_is_held_against_its_own_manifest(build, shop):
    deliver(report(passing(shop)), shop, build)
    verified = verify(build)
    assert (verified.findings, verified.others) == ((), ("failed/tflm/fashion",))
    assert "note: failed/tflm/fashion is of another build" in next(iter(as_text(verified)))
    (build / "failed/tflm/fashion/model.tflite").write_bytes(b"changed")
    assert found(build) == {("changed", "failed/tflm/fashion/model.tflite")}


# Hostile folders


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "host/../../secret", "", ".", "host//fashion",
                                  "host/./fashion", "a\0b", "host/fashion/../fashion/model.tflite"])
@pytest.mark.parametrize("by", ["report.json", MANIFEST, "sbom.cdx.json"])
def test_a_path_that_leads_elsewhere_is_refused_whoever_names_it(build, path, by):
    (build.parent / "secret").write_text("secret", encoding="utf-8")

    def change(content: Any) -> None:
        if by == MANIFEST:
            content["subject"][0]["name"] = path
        elif by == "report.json":
            content["results"][0]["artifacts"][0]["path"] = path
        else:
            job_in(content)["components"][0]["name"] = path

    rewrite(build / by, change)
    verified = verify(build)
    assert not verified.passed
    secret = hashlib.sha256(b"secret").hexdigest()
    assert not [finding for finding in verified.findings if secret in finding.message]
    if by != MANIFEST:
        assert ("unsafe", path) in found(build)


def test_a_link_is_told_and_never_followed(build):
    (build.parent / "model").write_bytes(b"model")
    (build / MODEL).unlink()
    (build / MODEL).symlink_to(build.parent / "model")  # the very bytes, elsewhere
    assert found(build) == {("unsafe", MODEL)}


def test_a_folder_that_is_a_link_is_told_and_never_followed(build):
    shutil.move(build / "host/fashion", build.parent / "elsewhere")
    (build / "host/fashion").symlink_to(build.parent / "elsewhere")
    assert ("unsafe", "host/fashion") in found(build)
    assert ("unsafe", MODEL) in found(build)


def test_links_in_a_circle_and_pipes_do_not_hold_it_up(build):
    (build / "host/again").symlink_to(build)
    os.mkfifo(build / "host/fashion/pipe")
    assert found(build) == {("unsafe", "host/again"), ("unsafe", "host/fashion/pipe")}


def test_a_report_that_is_a_link_is_none(build):
    shutil.move(build / "report.json", build.parent / "report.json")
    (build / "report.json").symlink_to(build.parent / "report.json")
    with pytest.raises(ConfigError, match="no folder of a build"):
        verify(build)


def test_names_reach_the_terminal_without_control_characters(build):
    (build / "host/fashion/\x1b[2J\n::error::x").write_bytes(b"")
    lines = list(as_text(verify(build)))
    assert any("\\x1b[2J\\n::error::x" in line for line in lines)
    assert not any("\x1b" in line or "\n" in line for line in lines)


# The command


def test_the_command_ends_with_0_1_or_2(edgeq, build, project):
    assert build == project / "build"
    ended = edgeq("verify")
    assert (ended.returncode, ended.stdout) == (0, "9 files hashed: all as they were delivered\n")
    (project / "build" / MODEL).write_bytes(b"worse")
    ended = edgeq("verify", "build/", "--json")
    assert ended.returncode == 1
    told = json.loads(ended.stdout)
    assert (told["schema"], told["passed"], told["files"]) == ("edgeq-verify/1", False, 9)
    assert {(each["problem"], each["path"]) for each in told["findings"]} == {("changed", MODEL)}
    (project / "build/report.json").write_text('{"schema": "edgeq-re', encoding="utf-8")
    ended = edgeq("verify", "build/")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "cut short" in ended.stderr


def test_what_json_says_is_all_that_was_found(build):
    (build / MODEL).unlink()
    told = as_json(verify(build))
    assert told["findings"] == [{"path": MODEL, "problem": "missing", "message": f"{by} has it"}
                                for by in ("report.json", "sbom.cdx.json")]


def test_what_ships_with_a_notice_is_sound(shop, tmp_path):
    ready(tmp_path / "out")
    deliver(report(passing(shop, maker=Maker(notice="not compiled"))), shop, tmp_path / "out")
    assert verify(tmp_path / "out").passed
