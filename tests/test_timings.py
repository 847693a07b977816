"""How long steps took, and what that says of how long they would take."""

from __future__ import annotations

import functools
import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import MODEL
from makers import Failing, Text, Upper

from edgeq import timings
from edgeq.artifact import digest_of_file
from edgeq.errors import EdgeqError, NotMade
from edgeq.forecast import costs
from edgeq.pipeline import load
from edgeq.plan import Chosen, plan
from edgeq.recipes.float32 import Float32
from edgeq.recipes.static_int8 import StaticInt8
from edgeq.store import Store, fill
from edgeq.timings import Timing, append, estimated, options_of, read

STEP = "StaticInt8.quantize"


def run(seconds: float, *, model: str = "a", options: str = "plain", step: str = STEP) -> Timing:
    return Timing(step, options, (model, "calibration"), "", seconds)


def told(*earlier: Timing, sources: tuple[str, ...] = ("a",)) -> str:
    return estimated(earlier, STEP, "plain", sources)


def line(**changes: object) -> bytes:
    fields = {"step": STEP, "options": "", "inputs": [], "made": "", "seconds": 1.0, **changes}
    return json.dumps(fields).encode() + b"\n"


# The estimate


def test_a_step_that_never_ran_has_no_estimate():
    assert told() == "not run before"
    assert told(run(9, step="Host.run")) == "not run before"


def test_earlier_runs_on_the_same_model_count_first():
    elsewhere = [run(100, model="b")] * 5
    assert told(*elsewhere, run(10), run(30), run(12)) == "about 12 s (3 earlier runs)"
    assert told(*elsewhere, run(10)) == "about 10 s (1 earlier run)"


def test_the_median_of_two_lies_between_them():
    assert told(run(10), run(20)) == "about 15 s (2 earlier runs)"


def test_runs_on_other_models_are_said_to_be_that_and_not_scaled():
    others = run(40, model="b"), run(42, model="c"), run(38, model="b")
    assert told(*others) == "about 40 s (other models, 3 runs)"
    assert told(run(40, model="b")) == "about 40 s (other models, 1 run)"


def test_runs_with_other_options_are_the_last_resort_and_said_to_be_that():
    other = run(7, options="per tensor")
    assert told(other) == "about 7.0 s (other options, 1 run)"
    assert told(other, run(40, model="b")) == "about 40 s (other models, 1 run)"
    assert told(other, run(40, model="b"), run(5)) == "about 5.0 s (1 earlier run)"


def test_what_was_made_from_the_source_is_the_same_model():
    convert = Timing("Keras.convert", "", ("source",), "a", 9)
    assert told(convert, run(4), sources=("source",)) == "about 4.0 s (1 earlier run)"
    assert told(run(4), sources=("source",)) == "about 4.0 s (other models, 1 run)"


def test_data_that_two_models_share_does_not_make_them_one():
    loaded = Timing("Samples.load", "", ("data", "b"), "calibration", 1)
    assert told(loaded, run(4, model="b"), sources=("a",)) == "about 4.0 s (other models, 1 run)"


@pytest.mark.parametrize(("seconds", "words"), [
    (0, "0.1 s"), (0.04, "0.1 s"), (0.44, "0.4 s"), (9.94, "9.9 s"), (9.96, "10 s"), (99.4, "99 s"),
    (99.6, "2 min"), (150, "2 min"), (210, "4 min"), (5969, "99 min"), (5970, "1.7 h"), (36000, "10.0 h"),
])
def test_a_duration_is_said_as_one_says_it(seconds, words):
    assert told(run(seconds)) == f"about {words} (1 earlier run)"


def test_options_are_told_apart_by_their_values():
    assert options_of(Text("a")) == options_of(Text("a")) != options_of(Text("b"))


# The file


def test_what_is_appended_is_read_again_in_its_order(tmp_path):
    noted = [run(second, model=model) for second, model in ((1.5, "a"), (0.001, "b"), (3600.0, "ü"))]
    for timing in noted:
        append(tmp_path, timing)
    assert read(tmp_path) == tuple(noted)


@pytest.mark.parametrize("garbage", [
    b"\n", b"{\n", b"\xff\xfe\x00\n", b"null\n", b"[1, 2]\n", b"[" * 100_000 + b"\n", b'{"step": "x"}\n',
    line(seconds=-1), line(seconds="1"), line(seconds=1e300), line(seconds=True), line(inputs="a"),
    line(inputs=[None]), line(step=None), line(seconds=float("nan")), line(seconds=float("inf")),
    line()[:-20] + line(), b"\0" * 4096,
], ids=repr)
def test_lines_that_are_no_timings_are_passed_over(tmp_path, garbage):
    (tmp_path / timings.NAME).write_bytes(line() + garbage + b"\n" + line())
    assert [timing.seconds for timing in read(tmp_path)] == [1.0, 1.0]


def test_a_line_that_was_cut_off_costs_no_more_than_its_neighbour(tmp_path):
    (tmp_path / timings.NAME).write_bytes(line() + line()[:30])
    append(tmp_path, run(2))
    append(tmp_path, run(3))
    assert [timing.seconds for timing in read(tmp_path)] == [1.0, 3.0]


def test_a_line_of_a_later_edgeq_that_says_more_is_read(tmp_path):
    (tmp_path / timings.NAME).write_bytes(line(peak_bytes=1))
    assert len(read(tmp_path)) == 1


def test_a_store_that_is_not_there_has_no_timings(tmp_path):
    assert read(tmp_path / "nowhere") == ()
    assert not (tmp_path / "nowhere").exists()


def test_a_file_that_cannot_be_read_or_written_stops_nothing(tmp_path):
    (tmp_path / timings.NAME).mkdir()
    append(tmp_path, run(1))
    append(tmp_path / "nowhere", run(1))
    assert read(tmp_path) == ()


def test_only_the_end_of_a_long_file_is_read(tmp_path):
    one = line(seconds=1.0)
    count = 3 * timings.LAST // len(one)
    (tmp_path / timings.NAME).write_bytes(one * count + line(seconds=2.0))
    found = read(tmp_path)
    assert timings.LAST // len(one) - 2 <= len(found) <= timings.LAST // len(one)
    assert found[-1].seconds == 2.0


def _append_many(root: Path, model: str) -> None:
    for second in range(500):
        append(root, run(second, model=model))


def test_processes_that_append_side_by_side_leave_whole_lines(tmp_path):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_append_many, args=(tmp_path, model)) for model in "abcd"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found = read(tmp_path)
    assert len(found) == 2000 == (tmp_path / timings.NAME).read_bytes().count(b"\n")
    assert [timing.seconds for timing in found if timing.inputs[0] == "c"] == [*range(500)]


# What the store notes


@pytest.fixture
def shop(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", functools.partial(fill, tmp_path / "store"))


def test_a_made_step_is_noted_once_with_what_it_was_made_from(shop):
    text = shop.make(Text("a").write)
    loud = shop.make(Upper().shout, text)
    shop.make(Upper().shout, text)
    first, second = read(shop.root)
    assert (first.step, first.inputs, first.options) == ("Text.write", (), options_of(Text("a")))
    assert (second.step, second.inputs) == ("Upper.shout", (timings.short(text.digest),))
    assert (first.made, second.made) == (timings.short(text.digest), timings.short(loud.digest))
    assert 0 <= first.seconds < 60


@pytest.mark.parametrize("way", ["refused", "exception", "tool"])
def test_a_step_that_made_nothing_is_not_noted(shop, way):
    with pytest.raises((EdgeqError, ValueError)):
        shop.make(Failing(way).make)
    assert read(shop.root) == ()


def test_a_frozen_store_notes_nothing(tmp_path):
    with pytest.raises(NotMade):
        Store(tmp_path / "store").make(Text("a").write)
    assert not (tmp_path / "store").exists()


def test_no_artifact_knows_how_long_it_took(shop, tmp_path):
    second = Store(tmp_path / "second", functools.partial(fill, tmp_path / "second"))
    (made, again) = (store.make(Text("a").write) for store in (shop, second))
    assert made == again
    records = [(store.path(made).parent / "record.json").read_bytes() for store in (shop, second)]
    assert records[0] == records[1]


# What the plan says


@pytest.fixture
def shown(edgeq) -> Callable[..., str]:
    """What `edgeq plan` says of the demo for the host."""
    def table(*words: str | Path) -> str:
        ended = edgeq("plan", "--target", "host", *words)
        assert ended.returncode == 0, ended.stderr
        return " ".join(ended.stdout.split())

    return table


def test_the_plan_tells_the_cost_of_each_rung_by_earlier_runs_and_writes_nothing(edit, shown, tmp_path):
    edit("pipeline.yaml", "[static-int8]", "[static-int8, {recipe: static-int8, granularity: per_tensor}]")
    source = timings.short(digest_of_file(MODEL / "model.keras"))
    store = tmp_path / "store"
    store.mkdir()
    append(store, Timing("Keras.convert", "", (source,), "baseline", 9))
    for seconds in (11, 12, 99):
        append(store, Timing(STEP, options_of(StaticInt8()), ("baseline", "x"), "", seconds))
    append(store, Timing(STEP, options_of(StaticInt8(granularity="per_tensor")), ("b", "x"), "", 40))
    written = (store / timings.NAME).read_bytes()
    said = shown("--store", store)
    assert "about 12 s (3 earlier runs)" in said
    assert "about 40 s (other models, 1 run)" in said
    assert [file.name for file in store.iterdir()] == [timings.NAME]
    assert (store / timings.NAME).read_bytes() == written


def test_what_the_store_has_costs_nothing_and_what_it_lacks_may_have_run_before(edgeq, edit, shown):
    assert edgeq("build", "--target", "host").returncode == 0
    assert "run" not in shown().partition("in the store: passed")[2]
    edit("pipeline.yaml", "calibration.npz", "calibration.npz, seed: 77, samples: 61")
    assert "earlier run" in shown().partition("about ")[2]


def test_a_rung_that_was_made_but_not_judged_costs_nothing(store, edit, project):
    edit("pipeline.yaml", "[static-int8]", "[float32, static-int8]")
    [job] = plan(load(project / "pipeline.yaml"), Chosen(targets=["host"]))
    source = store.take(job.model.source)
    baseline = store.make(job.frontend.convert, source)
    store.make(Float32().quantize, baseline)
    assert costs([job], Store(store.root))[0][0] == ""


def test_a_source_that_is_gone_has_no_cost_to_tell(project, tmp_path):
    [job] = plan(load(project / "pipeline.yaml"), Chosen(targets=["host"]))
    (project / "models/fashion/model.keras").unlink()
    assert costs([job], Store(tmp_path / "fresh")) == (("",),)
