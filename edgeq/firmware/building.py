"""From a quantized model to its firmware: generated, compiled, seen to fit, linked, and tried on the host.

out/ship/firmware/      C sources, CMake and Zephyr files, golden vectors, an example
out/ship/libMODEL.a     the same, compiled
out/ship/firmware.elf   a test firmware for the emulated board, with its map and its size by section
out/host/               the portable C of the same model as a program of this machine
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeq.arrays import Array
from edgeq.containers import Image
from edgeq.decode import meant
from edgeq.emulation.boards import BOARDS, SOURCES, harness, linker_script
from edgeq.emulation.cores import CORES, Core
from edgeq.errors import ConfigError
from edgeq.firmware import toolchain
from edgeq.firmware.arena import as_json, fullest, planned
from edgeq.firmware.c_text import identifier
from edgeq.firmware.network import network
from edgeq.firmware.order import COMPILER, Choice, Order
from edgeq.firmware.order import compiler as here
from edgeq.firmware.project import COMPILED, GOLDEN, host_main, project
from edgeq.firmware.providers import providers
from edgeq.firmware.source import Program, sources
from edgeq.firmware.toolchain import WARNINGS, Room, Toolchain
from edgeq.graph import Graph, read
from edgeq.interpret import tflm_outputs
from edgeq.measurement import Value, quantity, value_of
from edgeq.program import ELF, FUNCTIONAL, HOST, SHIP, STEPS, counted, write_costs
from edgeq.quantization import DETAILS, MODEL

FOLDER, SIZES, MAIN, SCRIPT, WORK = "firmware", "sizes.json", "host_main.c", "device.ld", "work"
ARENA = "arena.json"


def build(order: Order, quantized: Path, out: Path) -> None:
    """Write the firmware of the model in `quantized` into `out`, with what it costs.

    Raises Refused for what has no kernel or does not fit, ConfigError for an order of nothing known,
    ToolError for a missing compiler.
    """
    core, model, ship = _core(order), quantized / MODEL, out / SHIP
    compiler, within = _compiler(order)
    chain = Toolchain(compiler, (*core.flags, order.optimize), within)
    graph = read(model)
    with ThreadPoolExecutor(1) as beside:
        host = beside.submit(_host_build, out / HOST, graph, order.model)
        made = _programmed(graph, order.model, order.kernels, core.kernels)
        texts = _texts(made)
        _write(ship / FOLDER, texts.own | texts.theirs | project(made, texts.compiled, texts.includes,
                                                                 _golden(model, made)))
        objects = _objects(order, chain, out, made, texts)
        sections = _link(order, chain, made, objects, ship)
        host.result()
    shutil.copyfile(model, out / FUNCTIONAL)
    _tell(out, made)
    write_costs(out, _costs(sections, objects, made) | counted(model))
    shutil.rmtree(out / WORK)


def room(order: Order) -> Room:
    """The memory of the device; ConfigError where a size is no size."""
    try:
        return Room(*(int(quantity(size, "bytes")) for size in (order.flash, order.ram, order.stack)))
    except ValueError as error:
        raise ConfigError(f"flash, ram and stack are sizes: {error}",
                          "correct it in target.yaml") from error


def _compiler(order: Order) -> tuple[Path, Image | None]:
    """The cross compiler: its path here, or its name in an image."""
    within = order.images().get(COMPILER)
    return (Path(COMPILER) if within else here(order.compiler)), within


def _core(order: Order) -> Core:
    for what, known, name in (("core", CORES, order.core), ("board", BOARDS, order.board)):
        if name not in known:
            raise ConfigError(f"{what}: nothing is known of {name!r}{meant(name, known)}",
                              "correct it in target.yaml")
    return CORES[order.core]


@dataclass(frozen=True)
class _Texts:
    """The sources of a program: those that were generated, those of libraries, and folders of headers."""

    own: dict[str, str]
    theirs: dict[str, str]
    includes: list[str]

    @property
    def compiled(self) -> list[str]:
        """All that a compiler is given."""
        return [*_compiled(self.own), *_compiled(self.theirs)]


def _objects(order: Order, chain: Toolchain, out: Path, made: Program, texts: _Texts) -> list[Path]:
    """The library's objects, from the `texts` as they are shipped, seen to fit the device."""
    work = shutil.copytree(out / SHIP / FOLDER, out / WORK)
    included = [f"-I{name}" for name in texts.includes]
    traced = ["-DEQ_TRACE"] if order.traced else []
    objects = chain.objects(work, _compiled(texts.own), [*WARNINGS, *traced, *included])
    objects += chain.objects(work, _compiled(texts.theirs), included)
    toolchain.see_fit(objects, room(order), _tensors(made))
    return objects


def _link(order: Order, chain: Toolchain, made: Program, objects: list[Path], ship: Path) -> dict[str, int]:
    """Ship the library, the test firmware and its map; the bytes of the firmware's sections."""
    work = objects[0].parent
    archive = chain.archive(work, objects, f"lib{made.name}.a")
    own, board = room(order), BOARDS[order.board]
    script = linker_script(board.limited(own.flash, own.ram), own.stack, order.board)
    (work / SCRIPT).write_text(script, encoding="utf-8")
    for source in SOURCES.glob("*.[ch]"):
        shutil.copyfile(source, work / source.name)
    names = [source.name for source in harness("semihosting")]
    macros = [f"-D{name}={value}" for name, value in _macros(made)]
    macros += ["-DEQ_TRACE"] if order.traced else []
    test = chain.objects(work, names, [*WARNINGS, *macros])
    toolchain.see_fit([*objects, *test], own, _tensors(made))
    elf = chain.linked(work, [*(each.name for each in test), archive.name, "-T", SCRIPT], ELF)
    for file in (archive, elf, elf.with_suffix(".map")):
        shutil.copyfile(file, ship / file.name)
    sections = toolchain.taken([elf])
    (ship / SIZES).write_text(json.dumps(sections, indent=1), encoding="utf-8")
    return sections


def _texts(made: Program) -> _Texts:
    libraries = made.network.libraries
    return _Texts(sources(made),
                  {name: text for library in libraries for name, text in library.files.items()},
                  [name for library in libraries for name in library.includes])


def _compiled(names: Iterable[str]) -> list[str]:
    return [name for name in names if name.endswith(COMPILED)]


def _programmed(graph: Graph, model: str, choice: Choice, instructions: Sequence[str]) -> Program:
    made = network(graph, providers(choice, instructions))
    return Program(identifier(model), made, planned(made))


def _tensors(made: Program) -> list[str]:
    """What the arena holds where it is fullest, the largest first."""
    return [f"{buffer.name} {buffer.size}" for buffer in fullest(made.plan)]


def _macros(made: Program) -> Iterator[tuple[str, str]]:
    """What the test firmware is told of the model: samples go straight to their place in the arena."""
    name, network = made.name, made.network
    yield "EQ_HEADER", f'"{name}.h"'
    yield "EQ_INVOKE", f"{name}_invoke"
    yield "EQ_INPUT", f"{name}_input()"
    yield "EQ_OUTPUT", f"{name}_output()"
    yield "EQ_INPUT_BYTES", str(network.size(made.source.index))
    yield "EQ_OUTPUT_BYTES", str(network.size(made.sink.index))


def _tell(out: Path, made: Program) -> None:
    """Write what the steps of the program are, and where each tensor lies in the arena."""
    (out / STEPS).write_text(json.dumps(_steps(made), indent=1), encoding="utf-8")
    (out / DETAILS).mkdir()
    plan = as_json(made.plan, len(made.network.steps))
    (out / DETAILS / ARENA).write_text(json.dumps(plan, indent=1), encoding="utf-8")


def _steps(made: Program) -> list[dict[str, object]]:
    """What each step of the program computes, and whose kernel does."""
    return [{"operator": step.operation.operator.index, "name": step.operation.name,
             "output": list(step.operation.sink.shape), "kernel": step.provider.name}
            for step in made.network.steps]


def _golden(model: Path, made: Program) -> tuple[Array, Array]:
    """Seeded inputs (n, elements) of the model's own type, and what TFLM makes of them."""
    source, chance = made.source, np.random.default_rng(0)
    kind = np.dtype(source.dtype.lower())
    if kind.kind == "f":
        inputs = chance.normal(size=(GOLDEN, *source.shape)).astype(kind)
    else:
        bounds = np.iinfo(kind)
        inputs = chance.integers(bounds.min, bounds.max, (GOLDEN, *source.shape), kind, endpoint=True)
    return inputs, tflm_outputs(model, inputs)[0]


def _host_build(folder: Path, graph: Graph, model: str) -> None:
    """The model in portable C as the program `host` of this machine, in `folder`."""
    made = _programmed(graph, model, "portable", ())
    texts = sources(made) | {MAIN: host_main(made)}
    _write(folder, texts)
    toolchain.host_build(folder, _compiled(texts), HOST)


def _costs(sections: Mapping[str, int], objects: Sequence[Path], made: Program) -> dict[str, Value]:
    library = toolchain.flash_of(toolchain.taken(objects))
    return {"model_bytes": value_of("model_bytes", library, "measured"),
            "flash_bytes": value_of("flash_bytes", toolchain.flash_of(sections), "measured"),
            "ram_bytes": value_of("ram_bytes", toolchain.ram_of(sections), "measured"),
            "arena_bytes": value_of("arena_bytes", made.plan.arena, "measured")}


def _write(folder: Path, texts: Mapping[str, str]) -> None:
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
