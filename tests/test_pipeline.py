"""pipeline.yaml as users write it: what is read, and what each mistake is answered with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import DEMO_TARGETS

from edgeq.errors import ConfigError
from edgeq.gates import Gate
from edgeq.pipeline import Pipeline, load
from edgeq.recipes.static_int8 import StaticInt8

TEXT = """\
version: 1
models:
  tiny:
    source: model.tflite
    calibration: {data: calibration.npz, samples: 8}
    evaluation: {data: evaluation.npz, metric: top1}
targets: [host, tflm]
ladder: [static-int8]
gates:
  - {metric: accuracy_drop, max: 1 %}
"""
BOARD = """\
description: a board of one's own
precisions: [int8]
backend: litert
runner: tflm
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files that TEXT names; what is in them is looked at only when something is made."""
    for name in ("model.tflite", "calibration.npz", "evaluation.npz"):
        (tmp_path / name).write_bytes(b"content")
    (tmp_path / "nets.py").write_text("import layers\n", encoding="utf-8")
    (tmp_path / "layers.py").touch()
    return tmp_path


@pytest.fixture
def write(folder: Path) -> Callable[[str, str], Path]:
    def written(name: str, text: str) -> Path:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    return written


def edited(*changes: tuple[str, str]) -> str:
    """TEXT with each old piece, which must be there, replaced by a new one."""
    text = TEXT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.fixture
def read(write: Callable[[str, str], Path]) -> Callable[..., Pipeline]:
    return lambda *changes: load(write("pipeline.yaml", edited(*changes)))


@pytest.fixture
def mistakes(folder: Path, read: Callable[..., Pipeline]) -> Callable[..., list[str]]:
    """What TEXT with `changes` is answered with, a line each, without the folder in front."""
    def told(*changes: tuple[str, str]) -> list[str]:
        with pytest.raises(ConfigError) as error:
            read(*changes)
        assert error.value.hint
        return error.value.message.replace(f"{folder}/", "").splitlines()

    return told


# What is read


def test_a_pipeline_is_read_as_it_stands(folder, read):
    pipeline = read()
    [model] = pipeline.models
    assert (model.name, model.source.path, model.kind) == ("tiny", folder / "model.tflite", "tflite")
    assert model.scoring.metric == "top1"
    assert model.data.keys() == {"calibration", "evaluation"}
    assert model.data["calibration"].samples.count == 8
    assert [target.name for target in pipeline.targets] == ["host", "tflm"]
    assert pipeline.gates == (Gate("accuracy_drop", max=0.01),)


def test_targets_come_in_the_order_of_the_file(read):
    pipeline = read(("[host, tflm]", "[tflm, edgetpu, host]"))
    assert [target.name for target in pipeline.targets] == ["tflm", "edgetpu", "host"]


def test_a_recipe_is_a_name_or_a_mapping(read):
    ladder = "[static-int8, {recipe: static-int8, granularity: per_tensor}]"
    rungs = read(("[static-int8]", ladder)).ladders["host"]
    assert [rung.recipe for rung in rungs] == [StaticInt8(), StaticInt8(granularity="per_tensor")]
    assert rungs[1].options == {"granularity": "per_tensor"}


def test_a_target_may_carry_its_own_ladder(read):
    pipeline = read(("tflm]", "{target: tflm, ladder: [static-int16x8, float32]}]"))
    names = {target: [rung.name for rung in ladder] for target, ladder in pipeline.ladders.items()}
    assert names == {"host": ["static-int8"], "tflm": ["static-int16x8", "float32"]}


def test_limits_are_read_in_the_unit_of_their_metric(read):
    gate = "{metric: model_bytes, min: 1 kB, max: 128KiB, targets: [tflm], models: [tiny], allow: [measured]}"
    assert read(("{metric: accuracy_drop, max: 1 %}", gate)).gates == (
        Gate("model_bytes", 1000, 131072, ("tflm",), ("tiny",), ("measured",)),)


def test_data_may_come_from_a_function_of_the_users(write, folder, read):
    write("readers/speech.py", "from readers import tones\nimport wave\n")
    write("readers/tones.py", "")
    write("unrelated.py", "")
    [model] = read(("{data: evaluation.npz, metric: top1}",
                    "{data: 'readers.speech:load', metric: 'readers.speech:score'}")).models
    assert model.data["evaluation"].samples.function == "readers.speech:load"
    assert model.scoring.metric == "readers.speech:score"
    assert model.metric == model.data["evaluation"].origin
    assert model.metric.only == (folder / "readers/speech.py", folder / "readers/tones.py")


def test_a_file_whose_name_looks_like_a_function_is_a_file(write, read):
    write("samples:v2", "content")
    [model] = read(("data: evaluation.npz", "data: 'samples:v2'")).models
    assert model.data["evaluation"].samples.function == ""


def test_data_may_be_a_folder_of_images(folder, read):
    (folder / "pictures").mkdir()
    [model] = read(("data: evaluation.npz", "data: pictures")).models
    assert model.data["evaluation"].origin.path == folder / "pictures"


def test_a_saved_model_is_known_by_its_folder(write, read):
    write("exported/saved_model.pb", "content")
    assert read(("model.tflite", "exported")).models[0].kind == "saved-model"


@pytest.mark.parametrize(("name", "kind"), [("A.KERAS", "keras"), ("a.h5", "h5"), ("a.b.tflite", "tflite")])
def test_a_source_is_known_by_its_suffix(write, read, name, kind):
    write(name, "content")
    assert read(("model.tflite", name)).models[0].kind == kind


def test_a_source_may_be_a_function_with_its_modules_and_weights(folder, write, read):
    weights = write("net.safetensors", "content")
    [model] = read(("source: model.tflite", "source: 'nets:net'\n    weights: net.safetensors")).models
    assert (model.kind, model.function, model.weights) == ("torch", "nets:net", "net.safetensors")
    assert model.source.path == folder
    assert {*model.source.only} == {folder / "nets.py", folder / "layers.py", weights}


def test_paths_may_have_spaces_and_letters_of_any_alphabet(write, read):
    source = write("Größe 1/модель β.tflite", "content")
    data = write("Größe 1/データ.npz", "content")
    changes = ("model.tflite", "Größe 1/модель β.tflite"), ("evaluation.npz", "Größe 1/データ.npz")
    [model] = read(*changes).models
    assert model.source.path == source
    assert model.data["evaluation"].origin.path == data


def test_a_target_of_the_projects_own_is_found_first(write, read):
    write("targets/tflm/target.yaml", BOARD)
    [_, tflm] = read().targets
    assert tflm.description == "a board of one's own"
    assert tflm.precisions == ("int8",)


def test_a_target_of_the_projects_own_stands_beside_those_that_come_along(write, read):
    write("targets/my-board/target.yaml", BOARD)
    assert [target.name for target in read(("tflm]", "my-board]")).targets] == ["host", "my-board"]


# What each mistake is answered with


@pytest.mark.parametrize(("changes", "told"), [
    ([("metric: top1", "metric: topp1")],
     "pipeline.yaml:6: unknown metric 'topp1'; did you mean 'top1'?, or module:function"),
    ([("samples: 8", "metric: top1")],
     "pipeline.yaml:5: metric belongs to the evaluation data"),
    ([("samples: 8", "samples: 0")], "pipeline.yaml:5: samples: at least 1, not 0"),
    ([("samples: 8", "seed: -1")], "pipeline.yaml:5: seed: at least 0, not -1"),
    ([("samples: 8", "std: 0")], "pipeline.yaml:5: std: the samples are divided by it, so not 0"),
    ([("calibration.npz", "''")],
     "pipeline.yaml:5: data is empty: name a file, a folder of images, or module:function"),
    ([("calibration.npz", "calib.npz")], "pipeline.yaml:5: data: there is no calib.npz"),
    ([("calibration.npz", "'mine:load'")],
     "pipeline.yaml:5: data: there is no mine.py for mine:load"),
    ([("top1", "'mine:score'")],
     "pipeline.yaml:6: metric: there is no mine.py for mine:score"),
    ([("{data: evaluation.npz, metric: top1}", "")],
     "pipeline.yaml:6: models.tiny.evaluation is empty, and should be a mapping"),
    ([("{data: calibration.npz, samples: 8}", "")],
     "pipeline.yaml:5: models.tiny.calibration is empty, and should be a mapping"),
    ([("    evaluation: {data: evaluation.npz, metric: top1}\n", "")],
     "pipeline.yaml:3: 'evaluation' is missing"),
    ([("model.tflite", "modle.tflite")], "pipeline.yaml:4: source: there is no modle.tflite"),
    ([("model.tflite", "evaluation.npz")],
     ("pipeline.yaml:4: source: no frontend reads evaluation.npz; known: .keras, .h5, .hdf5, .tflite, "
      ".pt2, the folder of a SavedModel, or module:function")),
    ([("source: model.tflite", "source: 'mine:net'")],
     "pipeline.yaml:4: source: there is no mine.py for mine:net"),
    ([("source: model.tflite", "source: model.tflite\n    weights: net.pt")],
     "pipeline.yaml:5: weights: they are for a source that is module:function"),
    ([("source: model.tflite", "source: 'nets:net'\n    weights: net.pt")],
     "pipeline.yaml:5: weights: there is no file net.pt below the pipeline's folder"),
    ([("source: model.tflite", "source: 'nets:net'\n    weights: ../net.pt")],
     "pipeline.yaml:5: weights: there is no file ../net.pt below the pipeline's folder"),
    ([("tiny:", "Tiny Net:")],
     "pipeline.yaml:3: 'Tiny Net' is no name: use a-z, 0-9, '.', '_' and '-'"),
    ([("host, tflm", "host, tfml")], "pipeline.yaml:7: unknown target 'tfml'; did you mean 'tflm'?"),
    ([("host, tflm", "host, host")], "pipeline.yaml:7: target 'host' is named twice"),
    ([("host, tflm", "")], "pipeline.yaml:7: targets is empty"),
    ([("tflm]", "{target: tflm, ladder: []}]")],
     "pipeline.yaml:7: ladder is empty: leave it out for the one that all share"),
    ([("tflm]", "{target: tflm, ladders: []}]")],
     "pipeline.yaml:7: unknown key 'ladders'; did you mean 'ladder'?"),
    ([("[static-int8]", "[]")], "pipeline.yaml:8: ladder is empty"),
    ([("[static-int8]", "[static-in8]")],
     "pipeline.yaml:8: unknown recipe 'static-in8'; did you mean 'static-int8'?"),
    ([("[static-int8]", "[[static-int8]]")],
     "pipeline.yaml:8: unknown recipe ['static-int8']; did you mean 'static-int8'?"),
    ([("[static-int8]", "[{recipe: static-int8, granulaity: per_tensor}]")],
     "pipeline.yaml:8: unknown key 'granulaity'; did you mean 'granularity'?"),
    ([("[static-int8]", "[{recipe: static-int8, granularity: per_row}]")],
     "pipeline.yaml:8: ladder.0.granularity: expected one of per_channel, per_tensor; found 'per_row'"),
    ([("metric: accuracy_drop", "metric: acuracy_drop")],
     "pipeline.yaml:10: nothing measures 'acuracy_drop'; did you mean 'accuracy_drop'?"),
    ([("1 %", "1 parsec")],
     "pipeline.yaml:10: max: unknown unit 'parsec' in '1 parsec'; a metric in ratio takes: %"),
    ([("1 %", "little")], "pipeline.yaml:10: max: 'little' is not a number with a unit"),
    ([("1 %", ".nan")], "pipeline.yaml:10: max: '.nan' is not a number with a unit"),
    ([("1 %", "1e999")], "pipeline.yaml:10: max: '1e999' is too large"),
    ([(", max: 1 %", "")],
     "pipeline.yaml:10: the gate on accuracy_drop has neither min nor max, nor max_regression"),
    ([("max: 1 %", "min: 2 %, max: 1 %")],
     "pipeline.yaml:10: nothing passes the gate on accuracy_drop: its min is above its max"),
    ([("1 %", "1 %, targets: [tfml]")],
     "pipeline.yaml:10: unknown name 'tfml' in targets; did you mean 'tflm'?"),
    ([("1 %", "1 %, targets: [edgetpu]")],
     "pipeline.yaml:10: unknown name 'edgetpu' in targets; known: host, tflm"),
    ([("1 %", "1 %, models: [tinny]")],
     "pipeline.yaml:10: unknown name 'tinny' in models; did you mean 'tiny'?"),
    ([("1 %", "1 %, allow: [guessed]")],
     ("pipeline.yaml:10: gates.0.allow at $[0]: expected one of measured, simulated, estimated, "
      "unavailable; found ['guessed']")),
    ([("version: 1", "version: 2")], "pipeline.yaml:1: version: expected one of 1; found 2"),
    ([("version: 1", "version: 1\ntimeout_s: 0")], "pipeline.yaml:2: timeout_s: more than 0, not 0"),
    ([("gates:\n  -", "gates: {}\nx:\n  -")],
     "pipeline.yaml:9: gates: expected `array`, got `object`; found {}"),
])
def test_a_mistake_is_told_where_it_is(mistakes, changes, told):
    assert told in mistakes(*changes)


def test_a_mistake_brings_no_others_with_it(mistakes):
    assert len(mistakes(("tflm]", "tfml]"), ("1 %", "1 %, targets: [tfml]"))) == 1


def test_all_mistakes_of_all_parts_come_at_once_in_the_order_of_the_file(mistakes):
    told = mistakes(
        ("model.tflite", "modle.tflite"), ("samples: 8", "samples: 0"), ("metric: top1", "metric: x"),
        ("tflm]", "tfml]"), ("[static-int8]", "[int8]"), ("accuracy_drop, max", "accuracy, maks"))
    assert [line.split()[0] for line in told] == [
        f"pipeline.yaml:{line}:" for line in (4, 5, 6, 7, 8, 10)]


def test_an_empty_source_is_told(folder, mistakes):
    (folder / "model.tflite").write_bytes(b"")
    assert mistakes() == ["pipeline.yaml:4: source: model.tflite is empty"]


def test_a_folder_that_is_no_saved_model_is_told(folder, mistakes):
    (folder / "weights").mkdir()
    [told] = mistakes(("model.tflite", "weights"))
    assert "no frontend reads weights" in told


def test_a_syntax_error_in_the_users_code_is_told_by_file_and_line(write, mistakes):
    write("mine.py", "def load(:\n")
    assert mistakes(("evaluation.npz", "'mine:load'")) == [
        "pipeline.yaml:6: data: mine.py:1: invalid syntax"]


def test_a_syntax_error_in_what_the_users_code_imports_is_told_there(write, mistakes):
    write("mine.py", "import helper\n")
    write("helper.py", "x = 1\ny = = 2\n")
    assert mistakes(("metric: top1", "metric: 'mine:score'")) == [
        "pipeline.yaml:6: metric: helper.py:2: invalid syntax"]


def test_mistakes_of_a_target_stand_beside_those_of_the_pipeline(write, mistakes):
    write("targets/board/target.yaml", BOARD.replace("litert", "litter").replace("tflm", "tfml"))
    told = mistakes(("tflm]", "board]"), ("1 %", "1 %, targets: [board]"), ("samples: 8", "samples: 0"))
    assert told == [
        "pipeline.yaml:5: samples: at least 1, not 0",
        "targets/board/target.yaml:3: backend: unknown name 'litter'; did you mean 'litert'?",
        "targets/board/target.yaml:4: runner: unknown name 'tfml'; did you mean 'tflm'?"]


@pytest.mark.parametrize(("old", "new", "told"), [
    ("backend: litert", "backend: [litert]", ":3: backend: unknown name ['litert']; did you mean 'litert'?"),
    ("backend: litert", "backend: {name: vela}", ":3: 'accelerator_config' is missing"),
    ("runner: tflm", "runner: {name: host, kernels: fast}",
     ":4: runner.kernels: expected one of xnnpack, reference; found 'fast'"),
    ("runner: tflm", "runner: tflm\nsamples: 0", ":5: samples: at least 1, not 0"),
    ("runner: tflm", "runner: tflm\nquantization: {CONV_2D: per_row}",
     "expected one of per_channel, per_tensor; found {'CONV_2D': 'per_row'}"),
    ("runner: tflm", "runner: tflm\nmeters: [stopwatch]",
     ":5: meters: unknown name 'stopwatch'; known: executorch-clock, host-clock"),
    ("runner: tflm", "runner: tflm\noperators: rules.yaml", "rules.yaml: No such file"),
    ("description", "descripton", ":1: unknown key 'descripton'; did you mean 'description'?"),
])
def test_a_mistake_in_a_target_is_told_where_it_is(write, mistakes, old, new, told):
    write("targets/board/target.yaml", BOARD.replace(old, new))
    assert told in "\n".join(mistakes(("tflm]", "board]")))


@pytest.mark.parametrize("name", ["failed", "Board", "the board"])
def test_a_target_has_a_name_that_a_build_folder_can_bear(write, mistakes, name):
    write(f"targets/{name}/target.yaml", BOARD)
    [told] = mistakes(("tflm]", f"'{name}']"))
    assert f"{name!r} is no name for a target" in told


# On the command line


def test_mistakes_end_a_build_with_2_before_anything_is_made(edgeq, edit, project, tmp_path):
    edit("pipeline.yaml", "targets: [host,", "targets: [hots,")
    edit("pipeline.yaml", "128KiB", "128Kib")
    ended = edgeq("build", "--store", tmp_path / "fresh")
    assert ended.returncode == 2
    assert "pipeline.yaml:9: unknown target 'hots'; did you mean 'host'?" in ended.stderr
    assert "pipeline.yaml:13: max: unknown unit 'Kib'" in ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
    assert not (tmp_path / "fresh").exists()
    assert not (project / "build").exists()


@pytest.mark.parametrize(("content", "word"), [(None, "No such file"), (b"", "empty"), (b"models: [", "line"),
                                               (b"\xff\xfe\x00", "decode"), (b"- 1\n", "mapping")])
def test_a_file_that_is_no_pipeline_ends_with_2(edgeq, project, content, word):
    if content is not None:
        (project / "mine.yaml").write_bytes(content)
    ended = edgeq("build", "mine.yaml")
    assert ended.returncode == 2
    assert "mine.yaml" in ended.stderr
    assert word in ended.stderr or "mine.yaml:2:" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_function_that_its_module_lacks_ends_with_2(edgeq, edit, project):
    (project / "mine.py").write_text("def scores(outputs, labels):\n    return 1\n", encoding="utf-8")
    edit("pipeline.yaml", "metric: top1", "metric: 'mine:score'")
    ended = edgeq("build", "--target", "host")
    assert ended.returncode == 2
    assert "mine has no function 'score'" in ended.stdout
    assert "Traceback" not in ended.stdout + ended.stderr


def test_a_metric_of_the_users_may_lie_in_a_package_of_theirs(edgeq, edit, project):
    (project / "judges").mkdir()
    (project / "judges/__init__.py").write_text("SHARE = 0.25\n", encoding="utf-8")
    (project / "judges/rates.py").write_text("def rate(share):\n    return 2 * share\n", encoding="utf-8")
    (project / "judges/strict.py").write_text(
        "from . import SHARE\nfrom .rates import rate\n\ndef score(outputs, labels):\n"
        "    return rate(SHARE)\n",
        encoding="utf-8")
    edit("pipeline.yaml", "metric: top1", "metric: 'judges.strict:score'")
    ended = edgeq("build", "--target", "host", "--json", "r.json")
    assert ended.returncode == 0, ended.stdout
    [result] = json.loads((project / "r.json").read_text(encoding="utf-8"))["results"]
    assert result["metrics"]["accuracy"]["value"] == 0.5


def test_a_whole_build_goes_through_folders_with_spaces_and_umlauts(edgeq, edit, project):
    home = project / "Übung für Größen" / "модель 1"
    home.mkdir(parents=True)
    shutil.move(project / "models", home / "mod eles")
    (home / "mod eles/fashion/model.keras").rename(home / "mod eles/fashion/Kleider β.keras")
    edit("pipeline.yaml", DEMO_TARGETS, "[host, tflm, cortex-m4, ethos-u55-128, edgetpu]")
    edit("pipeline.yaml", "models/fashion/model.keras", "mod eles/fashion/Kleider β.keras")
    edit("pipeline.yaml", "models/fashion", "mod eles/fashion")
    shutil.move(project / "pipeline.yaml", home / "pipe line.yaml")
    ended = edgeq("build", home / "pipe line.yaml", "--store", home / "Lager ß",
                  "--output-dir", home / "Ausgabe é", "--json", home / "ber icht.json")
    assert ended.returncode == 0, ended.stderr
    report = json.loads((home / "ber icht.json").read_text(encoding="utf-8"))
    assert [result["target"] for result in report["results"]] == [
        "host", "tflm", "cortex-m4", "ethos-u55-128", "edgetpu"]
    assert all((home / "Ausgabe é" / file["path"]).is_file()
               for result in report["results"] for file in result["artifacts"])


def test_an_operator_that_has_no_weights_or_is_misspelt_is_named(mistakes) -> None:
    ladder = "[{recipe: static-int8, granularity_by_operator: {FULLY_CONECTED: per_tensor}}]"
    (told,) = mistakes(("[static-int8]", ladder))
    assert told.startswith("pipeline.yaml:8: ladder.0.granularity_by_operator")
    assert "FULLY_CONNECTED" in told
    assert "FULLY_CONECTED" in told
