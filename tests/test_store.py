"""The store: what its keys are made of, and what it keeps of a step that ends well, badly, or not at all."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import pytest
from makers import Failing, Length, Meeting, Text, Upper, Waiting, on_small_disk, wait_for

from edgeq import store as stores
from edgeq import tool
from edgeq.artifact import Artifact, Origin, digest_of
from edgeq.errors import ConfigError, EdgeqError, NotMade, Refused, ToolError
from edgeq.modules import PACKAGE, imported, reached
from edgeq.store import Store, Task, fill, task_of, version

ONE, OTHER = Artifact("1" * 64, "sources/one"), Artifact("2" * 64, "sources/other")
KEYS = """
import json
from pathlib import Path
from edgeq.backends.firmware import Firmware
from edgeq.backends.litert import Litert
from edgeq.frontends.tflite import Tflite
from edgeq.recipes.static_int8 import StaticInt8
from edgeq.runners.host import Host
from edgeq.runners.tflm import Tflm
from edgeq.judging.scoring import Scoring
from edgeq.store import task_of
steps = {"convert": Tflite().convert, "quantize": StaticInt8().quantize, "compile": Litert().compile,
         "run": Host().run, "run in tflm": Tflm().run, "score": Scoring().measure,
         "compile firmware": Firmware("cortex-m4", "mps2-an386", "1MiB", "256KiB").compile}
print(json.dumps({name: task_of(step, ()).key for name, step in steps.items()}))
"""
MAKE = """
import sys
from pathlib import Path
from edgeq.store import fill, task_of
import makers
root, kind, *fields = sys.argv[1:]
fill(Path(root), task_of(getattr(makers, kind)(*fields).write, ()))
"""
FULL = """
import sys
from pathlib import Path
from edgeq.errors import ToolError
from edgeq.store import Store, fill
from makers import Big
root, as_array = Path(sys.argv[1]), sys.argv[2] == "array"
store = Store(root, lambda task: fill(root, task))
try:
    store.make(Big(4 << 20, as_array).write)
except ToolError as error:
    print(error.message)
    print(error.hint)
print("left:", *[p.name for place in ("objects", "drafts") for p in (root / place).glob("*")])
print("then:", store.path(store.make(Big(1000, as_array).write)).is_dir())
"""


@pytest.fixture
def ran() -> list[str]:
    """The steps that the store let be made, in their order."""
    return []


@pytest.fixture
def mine(tmp_path: Path, ran: list[str]) -> Store:
    """A store of this test's own, filled in this process."""
    def execute(task: Task) -> None:
        ran.append(str(task))
        fill(tmp_path / "store", task)

    return Store(tmp_path / "store", execute)


@pytest.fixture
def maker_in(tmp_path: Path) -> Callable[[str, str], object]:
    """Write a module FOLDER/maker.py, import it, and make the `Maker` that it defines."""
    def made(folder: str, text: str) -> object:
        file = tmp_path / folder / "maker.py"
        file.parent.mkdir()
        file.write_text(text, encoding="utf-8")
        return load(f"makers_of_{folder}", file).Maker()

    return made


def load(name: str, file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses and inspect look a class up
    spec.loader.exec_module(module)
    return module


def key(action: Callable[..., object], *inputs: object) -> str:
    return task_of(action, inputs).key


def contents(folder: Path) -> dict[str, int]:
    """Every file below `folder` and when it was last written."""
    return {str(file): file.stat().st_mtime_ns for file in folder.rglob("*")}


# What a key is made of


@dataclass(frozen=True)
class Named:
    packages: ClassVar = ("thing",)

    def write(self, out: Path) -> None: ...


@dataclass(frozen=True)
class Tooled:
    program: str

    def tools(self) -> tuple[Path, ...]:
        return (Path(self.program),)

    def write(self, out: Path) -> None: ...


@dataclass(frozen=True)
class Live:
    live: ClassVar = True

    def write(self, out: Path) -> None: ...


@dataclass(frozen=True)
class Native:
    native: ClassVar = True

    def write(self, out: Path) -> None: ...


MAKER = """
from dataclasses import dataclass
@dataclass(frozen=True)
class Maker:
    def write(self, out): {}
"""


def test_a_key_changes_with_each_field_of_the_maker() -> None:
    keys = {key(Text().write), key(Text("a").write), key(Text("b").write), key(Text("b", "a").write)}
    assert len(keys) == 4
    assert key(Text("a").write) == key(Text("a").write)


def test_a_key_changes_with_the_text_of_the_makers_module_and_not_with_its_place(maker_in) -> None:
    here, there = maker_in("here", MAKER.format("pass")), maker_in("there", MAKER.format("pass"))
    changed = maker_in("changed", MAKER.format("return"))
    assert key(here.write) == key(there.write) != key(changed.write)


@pytest.fixture
def keys_with(tmp_path: Path) -> Callable[[str], set[str]]:
    """The steps whose keys change when a line is added to a module, in a copy of the package."""
    shutil.copytree(PACKAGE, tmp_path / "edgeq", ignore=shutil.ignore_patterns("__pycache__"))

    def keys() -> dict[str, str]:
        done = subprocess.run([sys.executable, "-c", KEYS], cwd=tmp_path, capture_output=True, text=True,
                              check=True, env={**os.environ, "PYTHONPATH": str(tmp_path)})
        return json.loads(done.stdout)

    before = keys()

    def changed(name: str) -> set[str]:
        file = tmp_path / "edgeq" / name
        kept = file.read_bytes()
        file.write_bytes(kept + b"\n# changed\n")
        after = keys()
        file.write_bytes(kept)
        return {step for step in before if before[step] != after[step]}

    return changed


def test_a_key_changes_with_every_module_that_the_maker_reaches_and_with_no_other(keys_with) -> None:
    assert keys_with("recipes/static_int8.py") == {"quantize"}
    assert keys_with("ptq/quantizer.py") == {"quantize"}, "imported by engines, which the recipe imports"
    assert keys_with("judging/scoring.py") == {"score"}
    assert keys_with("firmware/arena.py") == {"compile firmware"}, "of the program that the backend runs"
    assert keys_with("emulation/c/start.c") == {"compile firmware"}, "a source in another language"
    assert keys_with("interpret.py") == {"convert", "quantize", "run", "run in tflm", "compile firmware"}
    assert keys_with("errors.py") == {"convert", "quantize", "compile", "run", "run in tflm", "score",
                                      "compile firmware"}
    assert keys_with("flow.py") == set()


def test_a_key_changes_with_the_version_of_a_package(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    keys = []
    for number in ("1.0", "2.0", "1.0"):
        shutil.rmtree(tmp_path / "thing.dist-info", ignore_errors=True)
        (tmp_path / "thing.dist-info").mkdir()
        (tmp_path / "thing.dist-info/METADATA").write_text(f"Name: thing\nVersion: {number}\n")
        importlib.invalidate_caches()
        version.cache_clear()
        keys.append(key(Named().write))
    version.cache_clear()
    assert keys[0] == keys[2] != keys[1]


def test_a_package_that_is_missing_is_named_with_what_to_install() -> None:
    version.cache_clear()
    with pytest.raises(ToolError, match="package thing is not installed") as error:
        key(Named().write)
    assert "pip install thing" in error.value.hint


def test_a_key_changes_with_the_bytes_of_an_outside_program(tmp_path: Path) -> None:
    program = tmp_path / "compiler"
    program.write_text("one")
    before = key(Tooled(str(program)).write)
    program.write_text("two")
    assert key(Tooled(str(program)).write) != before


def test_the_digest_of_a_program_is_kept_as_long_as_it_is_the_same(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tool, "SETTLED_NS", 0)
    program = tmp_path / "compiler"
    program.write_text("one")
    read: list[Path] = []
    monkeypatch.setattr(tool, "digest_of_file", lambda path: read.append(path) or path.read_text())
    assert tool.digest(program) == tool.digest(program) == "one"
    program.write_text("other")
    assert tool.digest(program) == "other"
    assert len(read) == 2


def test_what_a_device_does_is_known_by_its_run(monkeypatch) -> None:
    before = key(Live().write)
    assert key(Live().write) == before
    monkeypatch.setattr(stores, "RUN", "another")
    assert key(Live().write) != before


def test_the_processors_flags_count_for_native_makers_alone(monkeypatch) -> None:
    before = key(Native().write), key(Text().write)
    monkeypatch.setattr(stores, "cpu", lambda: ("x86_64", "avx1024"))
    assert key(Native().write) != before[0]
    assert key(Text().write) == before[1]


def test_a_key_changes_with_the_content_of_an_input_and_not_with_its_place() -> None:
    moved = Artifact(ONE.digest, "objects/elsewhere")
    assert key(Upper().shout, ONE) == key(Upper().shout, moved) != key(Upper().shout, OTHER)


def test_a_key_tells_the_order_of_the_inputs_and_one_that_is_left_out() -> None:
    given = ((ONE, OTHER), (OTHER, ONE), (ONE,), (ONE, None))
    assert len({key(Upper().shout, *inputs) for inputs in given}) == 4


def test_a_key_tells_two_verbs_of_one_maker_apart() -> None:
    assert key(Failing("nothing").make) != key(Failing("nothing").answer)


def test_only_a_method_of_a_frozen_dataclass_can_be_keyed() -> None:
    with pytest.raises(TypeError, match="frozen dataclass"):
        task_of(print, ())


def test_the_users_code_is_known_by_the_files_that_it_reaches(tmp_path: Path) -> None:
    (tmp_path / "metric.py").write_text("import helper")
    (tmp_path / "helper.py").write_text("A = 1")
    (tmp_path / "unrelated.py").write_text("B = 1")

    def digest() -> str:
        return Store(tmp_path / "store").take(
            Origin(tmp_path, reached(tmp_path / "metric.py", tmp_path))).digest

    before = digest()
    (tmp_path / "unrelated.py").write_text("B = 2")
    assert digest() == before
    (tmp_path / "helper.py").write_text("A = 20")
    imported.cache_clear()
    assert digest() != before


# What is known by its content


def test_the_same_content_elsewhere_has_the_same_digest(tmp_path: Path) -> None:
    for folder, names in (("a", ("x", "y/z")), ("b", ("y/z", "x"))):
        for name in names:
            (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / name).write_text(f"content of {name}")
    os.utime(tmp_path / "b/x", (0, 0))
    assert digest_of(tmp_path / "a") == digest_of(tmp_path / "b")


def test_a_digest_tells_names_and_bytes_apart(tmp_path: Path) -> None:
    digests = set()
    for number, (name, text) in enumerate([("a", "bc"), ("ab", "c"), ("a", "cb"), ("a/b", "c")]):
        file = tmp_path / str(number) / name
        file.parent.mkdir(parents=True)
        file.write_text(text)
        digests.add(digest_of(tmp_path / str(number)))
    assert len(digests) == 4


def test_what_the_user_has_is_copied_once_and_found_again(mine: Store, tmp_path: Path) -> None:
    source = tmp_path / "model.bin"
    source.write_bytes(b"weights")
    taken = mine.take(Origin(source))
    before = contents(mine.root)
    assert mine.path(taken).read_bytes() == b"weights"
    assert mine.path(taken).name == "model.bin"
    assert mine.take(Origin(source)) == taken
    assert contents(mine.root) == before


def test_what_is_taken_does_not_follow_the_users_file(mine: Store, tmp_path: Path) -> None:
    source = tmp_path / "model.bin"
    source.write_bytes(b"old")
    taken = mine.take(Origin(source))
    source.write_bytes(b"new")
    assert mine.path(taken).read_bytes() == b"old"
    assert mine.take(Origin(source)).digest != taken.digest


@pytest.mark.parametrize("place", [".", "..", "../code"])
def test_code_is_found_from_wherever_its_folder_is_named(
    mine: Store, tmp_path: Path, monkeypatch, place: str
) -> None:
    folder = tmp_path / "code"
    (folder / "below").mkdir(parents=True)
    (folder / "metric.py").write_text("A = 1")
    monkeypatch.chdir(folder / "below" if place == ".." else folder)
    absolute = mine.take(Origin(folder, (folder / "metric.py",)))
    relative = mine.take(Origin(Path(place), (Path(place) / "metric.py",)))
    assert (mine.path(absolute) / "metric.py").read_text() == "A = 1"
    assert (mine.path(relative) / "metric.py").read_text() == "A = 1"
    assert absolute.digest == relative.digest


def test_a_folder_named_by_dots_is_taken_whole(mine: Store, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "images/cats").mkdir(parents=True)
    (tmp_path / "images/cats/tom.png").write_bytes(b"tom")
    monkeypatch.chdir(tmp_path / "images/cats")
    assert (mine.path(mine.take(Origin(Path("..")))) / "cats/tom.png").read_bytes() == b"tom"


def test_a_file_that_changes_while_it_is_read_is_not_taken(mine: Store, tmp_path: Path, monkeypatch) -> None:
    source, copy = tmp_path / "model.bin", shutil.copyfile
    source.write_bytes(b"old")

    def meanwhile(one: Path, other: Path) -> None:
        source.write_bytes(b"new")
        copy(one, other)

    monkeypatch.setattr(shutil, "copyfile", meanwhile)
    with pytest.raises(ConfigError, match=r"model\.bin was changed while it was read"):
        mine.take(Origin(source))
    assert not [*mine.root.glob("sources/*/*")]


def test_what_cannot_be_read_is_named(mine: Store, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.npz cannot be read"):
        mine.take(Origin(tmp_path / "gone.npz"))


# What is made and kept


def test_a_thing_is_made_once(mine: Store, ran: list[str]) -> None:
    first, second = mine.make(Text("a").write), mine.make(Text("a").write)
    assert first == second
    assert ran == ["Text.write"]
    assert (mine.path(first) / "text").read_text() == "a"


def test_what_an_earlier_build_made_is_found(mine: Store, ran: list[str]) -> None:
    made = mine.make(Text("a").write)
    assert Store(mine.root).make(Text("a").write) == made
    assert len(ran) == 1


def test_a_step_whose_output_is_the_same_does_not_disturb_the_next(mine: Store, ran: list[str]) -> None:
    loud = [mine.make(Upper().shout, mine.make(Text(text).write)) for text in ("word", "WORD")]
    assert loud[0].digest == loud[1].digest
    lengths = [mine.make(Length().measure, each) for each in loud]
    assert lengths[0] == lengths[1]
    assert sorted(ran) == ["Length.measure", "Text.write", "Text.write", "Upper.shout", "Upper.shout"]


def test_a_record_holds_no_time_and_no_place(mine: Store, tmp_path: Path) -> None:
    made = mine.make(Text("a").write)
    record = (mine.path(made).parent / "record.json").read_text()
    assert json.loads(record) == {"made_by": "Text.write", "digest": made.digest}
    assert str(tmp_path) not in record


def test_a_refusal_is_kept_and_raised_again(mine: Store, ran: list[str]) -> None:
    for _ in range(2):
        with pytest.raises(Refused, match="it does not fit") as refusal:
            mine.make(Failing("refused").make)
        assert refusal.value.hint == "take less"
    assert len(ran) == 1
    with pytest.raises(Refused, match="it does not fit"):
        Store(mine.root).make(Failing("refused").make)


@pytest.mark.parametrize(("way", "kind"), [
    ("tool", ToolError), ("config", ConfigError), ("exception", ValueError), ("sys.exit", SystemExit)])
def test_any_other_end_is_not_kept(mine: Store, ran: list[str], way: str, kind: type) -> None:
    for _ in range(2):
        with pytest.raises(kind):
            mine.make(Failing(way).make)
    assert len(ran) == 2
    assert not [*mine.root.glob("objects/*"), *mine.root.glob("drafts/*")]


def test_a_maker_that_leaves_nothing_behind_is_an_error(tmp_path: Path) -> None:
    idle = Store(tmp_path, lambda task: None)
    with pytest.raises(ToolError, match=r"Text\.write left nothing behind") as error:
        idle.make(Text("a").write)
    assert str(tmp_path / "logs") in error.value.hint


# The frozen store


def test_a_frozen_store_makes_nothing_and_writes_nothing(tmp_path: Path) -> None:
    source = tmp_path / "model.bin"
    source.write_bytes(b"weights")
    frozen = Store(tmp_path / "store")
    taken = frozen.take(Origin(source))
    with pytest.raises(NotMade, match=r"Upper\.shout is not in the store") as error:
        frozen.make(Upper().shout, taken)
    assert "--frozen" in error.value.hint
    assert not (tmp_path / "store").exists()


def test_a_frozen_store_leaves_what_it_finds_untouched(mine: Store) -> None:
    mine.make(Text("a").write)
    before = contents(mine.root)
    Store(mine.root).make(Text("a").write)
    assert contents(mine.root) == before


# What goes wrong from outside


def started(root: Path, kind: str, *fields: Path) -> subprocess.Popen:
    """A process of its own that makes a thing of `makers` in the store at `root`."""
    return subprocess.Popen(
        [sys.executable, "-c", MAKE, str(root), kind, *map(str, fields)],
        env={**os.environ, "PYTHONPATH": f"{PACKAGE.parent}:{Path(__file__).parent}"})


def test_what_a_killed_process_left_half_made_is_swept_away(mine: Store, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    process = started(mine.root, "Waiting", mark)
    wait_for(mark)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert [*mine.root.glob("drafts/*/content/half")]
    assert not [*mine.root.glob("objects/*")]
    made = mine.path(mine.make(Waiting(str(mark)).write))
    assert [file.name for file in made.iterdir()] == ["text"]
    assert not [*mine.root.glob("drafts/*")]


def test_two_processes_that_want_the_same_make_it_once(mine: Store, tmp_path: Path) -> None:
    journal, other = tmp_path / "journal", tmp_path / "other"
    first = started(mine.root, "Meeting", journal, other)
    wait_for(journal)
    second = started(mine.root, "Meeting", journal, other)
    third = started(mine.root, "Text", "", tmp_path / "third")
    assert third.wait() == 0, "another key is not held up"
    other.touch()
    assert (first.wait(), second.wait()) == (0, 0)
    assert journal.read_text() == f"{first.pid}\n"
    mine.make(Meeting(str(journal), str(other)).write)
    assert journal.read_text() == f"{first.pid}\n"


@pytest.mark.parametrize("place", ["a file", "a file/below", "/proc/nowhere"])
def test_a_store_that_cannot_be_written_is_named(tmp_path: Path, place: str) -> None:
    (tmp_path / "a file").touch()
    root = tmp_path / place
    with pytest.raises(ToolError, match="cannot be written") as error:
        Store(root, lambda task: fill(root, task)).make(Text("a").write)
    assert str(root) in error.value.message
    assert "--store" in error.value.hint


def test_a_makers_own_trouble_with_files_is_not_blamed_on_the_store(mine: Store, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        mine.make(Upper().shout, Artifact("3" * 64, "sources/nothing"))
    with pytest.raises(OSError, match="/proc/nowhere/journal"):
        mine.make(Text("a", "/proc/nowhere/journal").write)


@pytest.mark.parametrize("form", ["bytes", "array"])
def test_a_full_disk_is_said_so_and_nothing_half_made_stays(tmp_path: Path, form: str) -> None:
    if subprocess.run(on_small_disk(tmp_path / "try", "true"), capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a small disk: unshare or mount is not permitted")
    done = subprocess.run(
        on_small_disk(tmp_path / "disk", sys.executable, "-c", FULL, tmp_path / "disk", form),
        capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": f"{PACKAGE.parent}:{Path(__file__).parent}"})
    message, hint, left, then = done.stdout.splitlines()
    assert message == f"the store at {tmp_path / 'disk'} cannot be written: No space left on device"
    assert "free some space" in hint
    assert left == "left:"
    assert then == "then: True"


def test_every_error_of_the_store_has_a_hint(mine: Store) -> None:
    for way in ("tool", "config", "refused"):
        with pytest.raises(EdgeqError) as error:
            mine.make(Failing(way).make)
        assert error.value.hint


def test_an_empty_folder_counts_and_is_copied_too(tmp_path: Path) -> None:
    (tmp_path / "images/bag").mkdir(parents=True)
    one = digest_of(tmp_path / "images")
    (tmp_path / "images/shoe").mkdir()
    assert digest_of(tmp_path / "images") != one  # a class without images still has its number
    store = Store(tmp_path / "store", lambda task: fill(tmp_path / "store", task))
    copy = store.path(store.take(Origin(tmp_path / "images")))
    assert sorted(child.name for child in copy.iterdir()) == ["bag", "shoe"]
