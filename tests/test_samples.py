"""Data sets: .npz files, image folders and functions in, plain arrays of the right form out."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
from graphs import operator, tensor, written
from PIL import Image

from edgeq.errors import ConfigError
from edgeq.samples import Overlap, Samples, choose, groups_in, labels_in, samples_in

LABELS = np.repeat([0, 1, 2], [5, 3, 2])


def baseline_of(folder: Path, shape: tuple[int, ...], dtype: str = "FLOAT32") -> Path:
    """A baseline that takes samples of `shape` and gives three classes."""
    folder.mkdir()
    (folder / "baseline.tflite").write_bytes(written(
        [tensor("in", (1, *shape), dtype), tensor("out", (1, 3))], [operator("CAST", "in", "out")]))
    return folder


@pytest.fixture
def load(tmp_path):
    """Load what is at a path, or `arrays` as an .npz, for a model of 2 x 2 pixels; the folder."""
    def loaded(data: Path | None = None, *, shape=(2, 2, 1), dtype="FLOAT32", arrays=None, **fields) -> Path:
        number = sum(1 for _ in tmp_path.iterdir())
        if arrays is not None:
            data = tmp_path / f"{number}.npz"
            np.savez(data, **arrays)
        out = tmp_path / f"{number}-out"
        out.mkdir()
        Samples(**({"role": "evaluation"} | fields)).load(
            out, data, baseline_of(tmp_path / f"{number}-baseline", shape, dtype))
        return out

    return loaded


def pixels(count: int = 4) -> np.ndarray:
    """`count` samples of 2 x 2 x 1, no two alike."""
    return np.arange(count * 4, dtype=np.float32).reshape(count, 2, 2, 1)


def test_all_are_taken_where_all_are_asked_for():
    assert choose(4, 4, None, seed=0).tolist() == [0, 1, 2, 3]


def test_a_choice_is_ascending_without_repeats_and_the_same_for_the_same_seed():
    chosen = choose(100, 30, None, seed=1)
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert chosen.tolist() == choose(100, 30, None, seed=1).tolist()
    assert chosen.tolist() != choose(100, 30, None, seed=2).tolist()


@pytest.mark.parametrize(("sizes", "count", "expected"), [
    ([5, 3, 2], 4, [2, 1, 1]),  # shares 2.0 1.2 0.8: one is left, for the remainder 0.8
    ([6, 3, 1], 5, [3, 2, 0]),  # shares 3.0 1.5 0.5: of two halves the first class's
    ([5, 3, 2], 1, [1, 0, 0]),  # shares 0.5 0.3 0.2
    ([5, 3, 2], 9, [4, 3, 2]),  # shares 4.5 2.7 1.8
    ([4, 4, 4], 6, [2, 2, 2]),
])
def test_each_class_gets_its_share_by_the_hamilton_method(sizes, count, expected):
    labels = np.random.default_rng(0).permutation(np.repeat(range(len(sizes)), sizes))
    for seed in range(3):
        chosen = choose(sum(sizes), count, labels, seed)
        assert np.bincount(labels[chosen], minlength=len(sizes)).tolist() == expected


def test_an_npz_is_read_into_the_type_of_the_model(load):
    out = load(arrays={"x": pixels().astype(np.uint8), "y": np.array([0, 1, 2, 0]),
                       "group": np.array(["a", "b", "a", "b"])})
    assert samples_in(out).dtype == np.float32
    np.testing.assert_array_equal(samples_in(out), pixels())
    assert labels_in(out).tolist() == [0, 1, 2, 0]
    assert np.load(out / "group.npy").tolist() == ["a", "b", "a", "b"]


@pytest.mark.parametrize(("groups", "names"), [
    (["a", "Zoë"], ["a", "Zoë"]), ([b"a", "Zoë".encode()], ["a", "Zoë"]), ([7, -1], ["7", "-1"]),
    (np.array([3, 250], np.uint8), ["3", "250"]), ([True, False], ["true", "false"])])
def test_groups_are_kept_as_names(load, groups, names):
    kept = groups_in(load(arrays={"x": pixels(2), "group": np.array(groups)}))
    assert kept.tolist() == names
    assert kept.dtype.kind == "U"


def test_groups_go_with_the_samples_that_are_chosen(load):
    arrays = {"x": pixels(10), "y": LABELS, "group": np.arange(10)}
    assert groups_in(load(arrays=arrays, count=4)).tolist() == [str(i) for i in choose(10, 4, LABELS, 0)]


def test_without_groups_there_are_none(load):
    assert groups_in(load(arrays={"x": pixels()})) is None


def test_without_labels_there_are_none(load):
    assert labels_in(load(arrays={"x": pixels()})) is None


def test_a_missing_last_dimension_of_one_is_added(load):
    assert samples_in(load(arrays={"x": pixels()[..., 0]})).shape == (4, 2, 2, 1)


def test_samples_are_scaled_by_mean_and_std(load):
    out = load(arrays={"x": np.full((1, 2, 2, 1), 83 + 6, np.int8)}, mean=83, std=2)
    assert samples_in(out).tolist() == np.full((1, 2, 2, 1), 3.0).tolist()


def test_a_count_takes_the_classes_evenly(load):
    arrays = {"x": pixels(10), "y": LABELS}
    out = load(arrays=arrays, count=4, labels="class")
    assert np.bincount(labels_in(out)).tolist() == [2, 1, 1]
    np.testing.assert_array_equal(samples_in(out)[:, 0, 0, 0] // 4, choose(10, 4, LABELS, 0))


def test_a_target_may_bound_the_count_further(load):
    arrays = {"x": pixels(10), "y": LABELS}
    assert len(samples_in(load(arrays=arrays, count=8, at_most=5))) == 5
    assert len(samples_in(load(arrays=arrays, at_most=5))) == 5
    assert len(samples_in(load(arrays=arrays, count=3, at_most=5))) == 3


def broken(change) -> dict[str, np.ndarray]:
    """The samples with something done to them."""
    x = pixels()
    change(x)
    return {"x": x}


@pytest.mark.parametrize(("arrays", "found", "wanted"), [
    (broken(lambda x: x.__setitem__((1, 0, 0, 0), np.nan)),
     "1 samples hold NaN or infinity, the first at index 1", "mend"),
    (broken(lambda x: x.__setitem__((slice(2, 4), 1), np.inf)),
     "2 samples hold NaN or infinity, the first at index 2", "mend"),
    ({"x": np.full((1, 2, 2, 1), 1e300)}, "1 samples hold NaN or infinity", "mend"),
    ({"x": np.zeros((4, 3, 3, 1))},
     r"x has the shape \[4, 3, 3, 1\], the model wants \['n', 2, 2, 1\]", "reshape"),
    ({"x": np.float32(3)}, r"x has the shape \[\]", "reshape"),
    ({"x": np.zeros((4, 2, 2, 1), complex)}, "x is complex128, the model wants float32", "save"),
    ({"x": np.zeros((4, 2, 2, 1), bool)}, "x is bool, the model wants float32", "save"),
    ({"x": np.full((4, 2, 2, 1), "a")}, "x is <U1, the model wants float32", "save"),
    ({"x": pixels(), "y": np.zeros(3, int)}, r"4 samples in x, but y has the shape \[3\]", "one y a sample"),
    ({"x": pixels(), "group": np.array("all")}, r"4 samples in x, but group has the shape \[\]", "one group"),
    ({"x": pixels(), "group": np.full((4, 1), "a")}, r"group is <U1 of shape \[4, 1\]", "one name a sample"),
    ({"x": pixels(), "group": np.zeros(4)}, r"group is float64 of shape \[4\]", "one name a sample"),
    ({"x": pixels(), "group": np.array(["a", "", "b", ""])}, "2 samples have an empty group", "name"),
    ({"x": pixels(0)}, "some samples were asked for, 0 are there", "more data"),
    ({"images": pixels()}, "has no array x, only images", "name the samples x"),
    ({}, "has no array x, only nothing", "name the samples x"),
])
def test_arrays_that_do_not_fit_are_said_to(load, arrays, found, wanted):
    with pytest.raises(ConfigError, match=f"evaluation data .*{found}") as raised:
        load(arrays=arrays)
    assert wanted in raised.value.hint


def test_floats_are_not_cut_down_to_a_models_integers(load):
    with pytest.raises(ConfigError, match="x is float32, the model wants int32"):
        load(arrays={"x": pixels()}, dtype="INT32")


def test_fewer_samples_than_asked_for_are_too_few(load):
    with pytest.raises(ConfigError, match=r"calibration data .*: 5 samples were asked for, 4 are there"):
        load(arrays={"x": pixels()}, role="calibration", count=5)


@pytest.mark.parametrize(("labels", "kind", "found"), [
    (None, "class", "has no labels y"),
    ([0, 1, 2, 3], "class", r"1 labels lie outside 0..2, the first is 3"),
    ([0, -1, 2, 9], "class", r"2 labels lie outside 0..2, the first is -1"),
    ([0, 1, 2, 0], "anomaly", r"1 labels lie outside 0..1, the first is 2"),
    ([0.0, 1.0, 2.0, 0.0], "class", r"y is float64 of shape \[4\]"),
    (["a", "b", "c", "d"], "class", r"y is <U1 of shape \[4\]"),
    (np.eye(4, 3, dtype=int), "class", r"y is int64 of shape \[4, 3\]"),
])
def test_labels_that_do_not_fit_are_said_to(load, labels, kind, found):
    arrays = {"x": pixels()} | ({} if labels is None else {"y": np.array(labels)})
    with pytest.raises(ConfigError, match=f"evaluation data .*{found}") as raised:
        load(arrays=arrays, labels=kind)
    assert raised.value.hint


def test_labels_in_a_column_are_taken_as_they_are_meant(load):
    out = load(arrays={"x": pixels(), "y": np.array([[0], [1], [2], [0]])}, labels="class")
    assert labels_in(out).tolist() == [0, 1, 2, 0]


def test_labels_that_no_metric_asks_for_are_not_judged(load):
    assert labels_in(load(arrays={"x": pixels(), "y": np.array([0.5, 7, 9, 1e9])})).shape == (4,)


def test_pickled_objects_are_refused_and_never_loaded(load, tmp_path):
    marker = tmp_path / "marker"

    class Trap:
        def __reduce__(self):
            return Path.touch, (marker,)

    with pytest.raises(ConfigError, match=r"no \.npz file of plain arrays"):
        load(arrays={"x": np.array([Trap()], dtype=object)})
    assert not marker.exists()


def test_what_is_no_npz_is_said_to_be_none(load, tmp_path):
    plain, text, empty = tmp_path / "x.npy", tmp_path / "x.txt", tmp_path / "empty.npz"
    np.save(plain, pixels())
    text.write_text("1,2,3")
    empty.touch()
    for file in (plain, text, empty):
        with pytest.raises(ConfigError, match=rf"evaluation data {file.name} is no \.npz file"):
            load(file)


def test_a_damaged_npz_is_a_configuration_error_wherever_the_damage_lies(load, tmp_path):
    whole = tmp_path / "whole.npz"
    np.savez_compressed(whole, x=np.random.default_rng(0).random((8, 2, 2, 1)))
    content = whole.read_bytes()
    for place in range(0, len(content), 7):
        flipped = content[:place] + bytes([content[place] ^ 255]) + content[place + 1:]
        for damaged in (content[:place], flipped):
            (tmp_path / "damaged.npz").write_bytes(damaged)
            with contextlib.suppress(ConfigError):
                load(tmp_path / "damaged.npz")


@pytest.fixture
def folder(tmp_path):
    """Two classes of pictures, three of bags and two of cats, each of one grey."""
    made = tmp_path / "pictures, häufig"
    for name, greys in {"cat": (10, 20), "bag": (30, 40, 50)}.items():
        (made / name).mkdir(parents=True)
        for grey in greys:
            Image.new("L", (5, 3), grey).save(made / name / f"{grey}.png")
    (made / "notes.txt").write_text("no picture")
    (made / "cat" / "notes.txt").write_text("no picture")
    (made / ".cache").mkdir()
    return made


def test_a_folder_of_images_has_a_class_a_subfolder_in_alphabetical_order(load, folder):
    out = load(folder, labels="class")
    assert labels_in(out).tolist() == [0, 0, 0, 1, 1]
    assert samples_in(out).shape == (5, 2, 2, 1)
    assert samples_in(out)[:, 0, 0, 0].tolist() == [30, 40, 50, 10, 20]


def test_images_are_brought_to_the_channels_and_size_of_the_model(load, folder):
    Image.new("RGB", (2, 2), (200, 0, 0)).save(folder / "cat" / "90.png")
    colours = samples_in(load(folder, shape=(4, 6, 3)))
    assert colours.shape == (6, 4, 6, 3)
    assert colours[0, 0, 0].tolist() == [30, 30, 30]
    assert colours[-1, 0, 0].tolist() == [200, 0, 0]
    assert samples_in(load(folder))[-1, 0, 0].tolist() == [60]  # 0.299 of the red


def test_a_damaged_image_is_named(load, folder):
    content = (folder / "cat" / "10.png").read_bytes()
    for damaged in (b"", b"no picture", content[:40], content[:50] + b"\0\0" + content[52:]):
        (folder / "cat" / "10.png").write_bytes(damaged)
        with pytest.raises(ConfigError, match=r"cat/10.png is no image, or is damaged"):
            load(folder)


def test_an_image_damaged_anywhere_is_a_configuration_error_at_worst(load, folder):
    damaged = folder / "cat" / "10.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 9), np.uint8)).save(damaged)
    content = damaged.read_bytes()
    for place in range(len(content)):
        for bits in (1, 32, 255):
            flipped = content[:place] + bytes([content[place] ^ bits]) + content[place + 1:]
            damaged.write_bytes(flipped)
            with contextlib.suppress(ConfigError):
                load(folder)


def test_an_empty_folder_has_no_images(load, tmp_path):
    (tmp_path / "empty" / "cat").mkdir(parents=True)
    with pytest.raises(ConfigError, match="evaluation data empty has no images in subfolders"):
        load(tmp_path / "empty")


def test_images_are_no_input_for_a_model_of_vectors(load, folder):
    with pytest.raises(ConfigError, match="images"):
        load(folder, shape=(4,))


@pytest.fixture
def function(load, tmp_path):
    """Load by a function whose module has this text."""
    def loaded(text: str, name: str = "reader:read", **fields) -> Path:
        code = tmp_path / "code"
        code.mkdir(exist_ok=True)
        (code / "reader.py").write_text(f"import numpy as np\n{text}")
        return load(code, function=name, **fields)

    return loaded


def test_a_function_gives_the_arrays(function):
    out = function("def read(): return {'x': np.ones((2, 2, 2, 1)), 'y': [0, 2]}", labels="class")
    assert samples_in(out).shape == (2, 2, 2, 1)
    assert labels_in(out).tolist() == [0, 2]


@pytest.mark.parametrize(("text", "found"), [
    ("def read(): return [1, 2]", "returned list, not a mapping with x"),
    ("def read(): return {'y': [1]}", "returned dict, not a mapping with x"),
    ("def read(): return None", "returned NoneType"),
    ("def read(): return {'x': [[1], [1, 2]]}", "returned what makes no array"),
    ("def read(): return {'x': np.ones((1, 2, 2, 1)), 'y': [object()]}", "returned Python objects in y"),
    ("def read(): return {'x': np.ones((1, 3, 3, 1))}", r"x has the shape \[1, 3, 3, 1\]"),
])
def test_what_a_function_returns_must_be_arrays_that_fit(function, text, found):
    with pytest.raises(ConfigError, match=f"evaluation data reader:read.* {found}"):
        function(text)


@pytest.mark.parametrize(("text", "found"), [
    ("def other(): pass", "reader has no function 'read'"),
    ("read = 3", "reader has no function 'read'"),
    ("def read(:", "invalid syntax"),
    ("import nothing_of_this_name", "No module named 'nothing_of_this_name'"),
])
def test_a_module_that_has_no_such_function_is_a_configuration_error(function, text, found):
    with pytest.raises(ConfigError, match=found):
        function(text)


def test_a_changed_module_is_read_anew(function):
    assert len(samples_in(function("def read(): return {'x': np.ones((2, 2, 2, 1))}"))) == 2
    assert len(samples_in(function("def read(): return {'x': np.ones((30, 2, 2, 1))}  # changed"))) == 30


def test_samples_in_both_sets_are_counted_by_their_content(load, tmp_path):
    evaluation, other = load(arrays={"x": pixels(4)}), load(arrays={"x": pixels(10)[[9, 1, 3]]})
    Overlap().count(tmp_path, evaluation, other)
    assert json.loads((tmp_path / "overlap.json").read_text()) == 2
