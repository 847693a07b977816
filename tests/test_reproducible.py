"""`edgeq build --check-reproducible`: two builds from empty stores, compared byte by byte."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import dense, noise

from edgeq import building, reproducing
from edgeq.errors import ConfigError
from edgeq.plan import Job
from edgeq.reproducing import Difference, differences
from edgeq.runners.ssh import Ssh
from edgeq.verifying import verify

SMALL = """
version: 1
models:
  small: {source: small.tflite, calibration: {data: samples.npz}, evaluation: {data: samples.npz}}
targets: [tflm]
ladder: [static-int8]
gates: [{metric: sqnr_db, min: 0}]
"""


def write(folder: Path, **files: str | bytes) -> Path:
    """A folder with these files; `__` in a name is a folder, `_dot_` a dot."""
    for name, content in files.items():
        file = folder / name.replace("__", "/").replace("_dot_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


@pytest.fixture
def both(tmp_path: Path) -> tuple[Path, Path]:
    """Two folders that are alike but for what may differ."""
    shared = {"report_dot_json": "{}", "host__fashion__model_dot_tflite": b"\0\1\2"}
    first, second = ({"run_dot_json": said, "report_dot_html": said, "host__fashion__logs__x_dot_log": said}
                     for said in ("1", "2"))
    return write(tmp_path / "a", **first, **shared), write(tmp_path / "b", **second, **shared)


def test_the_same_bytes_are_no_difference_and_runs_and_logs_may_differ(both):
    assert differences(*both) == ()


def test_a_byte_that_differs_is_told_with_its_offset(both):
    write(both[1], host__fashion__model_dot_tflite=b"\0\1\3")
    assert differences(*both) == (
        Difference("host/fashion/model.tflite", "from byte 2 on, of 3 and 3"),)


def test_a_file_that_goes_on_is_told_where_the_other_ends(both):
    write(both[1], host__fashion__model_dot_tflite=b"\0\1\2\3\4")
    [found] = differences(*both)
    assert found.message == "from byte 3 on, of 3 and 5"


def test_a_file_that_only_one_has_is_told(both):
    write(both[0], host__fashion__extra="x")
    write(both[1], failed__host__model_dot_bin="x")
    assert differences(*both) == (
        Difference("failed/host/model.bin", "only the second build has it"),
        Difference("host/fashion/extra", "only the first build has it"))


@pytest.mark.parametrize(("one", "two", "told"), [
    ({"a": [{"b": 1}, {"b": 2}]}, {"a": [{"b": 1}, {"b": 3}]}, "a[1].b: 2 and 3"),
    ({"a": {"b": "x"}}, {"a": {"c": "x"}}, 'a: {"b": "x"} and {"c": "x"}'),
    ({"a": [1]}, {"a": [1, 2]}, "a: [1] and [1, 2]"),
    ({"a": {"b": 1, "c": 2}}, {"a": {"c": 2, "b": 1}}, "the keys stand in another order"),
])
def test_json_that_differs_is_told_with_its_key(both, one, two, told):
    for folder, content in zip(both, (one, two), strict=True):
        write(folder, report_dot_json=json.dumps(content))
    [found] = differences(*both)
    assert told in found.message


# Whole builds


@contextmanager
def silence() -> Any:
    yield lambda *_: None


def order(project: Path, **more: Any) -> building.Order:
    return building.Order(project / "pipeline.yaml", ("host",), (), project / "never", **more)


def test_a_build_is_the_same_from_two_empty_stores_and_its_own_is_not_touched(edgeq, project):
    (project / "small.tflite").write_bytes(dense(noise(np.dtype("float32"), (4, 12)), np.zeros(4)))
    np.savez(project / "samples.npz", x=noise(np.dtype("float32"), (8, 12)))
    (project / "pipeline.yaml").write_text(SMALL, encoding="utf-8")
    ended = edgeq("build", "--check-reproducible", "--store", project / "own")
    assert "reproducible: two builds from empty stores gave the same bytes\n" in ended.stdout, ended.stderr
    assert ended.returncode == 0, ended.stdout
    assert not (project / "own").exists()
    assert (project / "build/tflm/small/firmware/small_model_data.c").is_file()
    assert verify(project / "build").passed


def test_what_chance_decides_is_found(monkeypatch, project):
    asked = order(project)
    chance = iter(range(10))

    def made(each: building.Order, *_: Any) -> None:
        write(each.output_dir, host__fashion__model_dot_tflite=bytes([7, 7, next(chance)]))

    monkeypatch.setattr(building, "made", made)
    with reproducing.rebuilt(asked, building.planned(asked), silence) as found:
        lines = [*found.told()]
        assert found.order.store.name == "store"
        assert found.order.output_dir == asked.output_dir
    assert lines == ["not reproducible: host/fashion/model.tflite: from byte 2 on, of 3 and 3"]
    assert not found.order.store.exists()


def test_only_the_first_that_differ_are_listed(tmp_path):
    many = tuple(Difference(f"{i}", "x") for i in range(25))
    lines = [*reproducing.Rebuilt(building.Order(tmp_path, (), (), tmp_path), many).told()]
    assert len(lines) == 11
    assert lines[-1] == "… and 15 more files"


def test_live_figures_and_devices_are_no_part_of_it(monkeypatch, project):
    asked = order(project, measure=True)
    planned = building.planned(asked)
    [job] = planned.jobs
    assert job.meters
    live = replace(job, target=replace(job.target, runner=Ssh(address="me@board")))
    jobs: list[Job] = []
    monkeypatch.setattr(building, "made", lambda _, planned, __: jobs.extend(planned.jobs))
    monkeypatch.setattr(reproducing, "differences", lambda *_: ())
    with reproducing.rebuilt(asked, replace(planned, jobs=(live,)), silence):
        pass
    assert len(jobs) == 2
    for each in jobs:
        assert not each.meters
        assert type(each.target.runner).__name__ == "Host"


def test_a_frozen_build_cannot_be_made_twice(edgeq):
    ended = edgeq("build", "--check-reproducible", "--frozen")
    assert ended.returncode == 2
    assert "--frozen forbids" in ended.stderr


def test_that_is_a_mistake_of_the_call(project):
    asked = order(project, frozen=True)
    with pytest.raises(ConfigError, match="--frozen"), \
            reproducing.rebuilt(asked, building.Planned((), 1.0), silence):
        pytest.fail("it was built")
