"""Outside programs in containers: a tool of an image, at work on one folder and on nothing else.

The one rule: the image is one that is here, and what runs is the content whose digest went into the
store's key. Nothing is ever pulled.
"""

from __future__ import annotations

import functools
import os
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from edgeq import tool
from edgeq.errors import ToolError

ENGINES = ("podman", "docker")  # in the order in which they are asked
NAME = r"^([a-z0-9][A-Za-z0-9._:/@-]*)?$"  # (github.com/distribution/reference): no option, no markup
Container = Annotated[str, msgspec.Meta(pattern=NAME)]
WORK = "/work"
PATIENCE_S = 60.0
UNUSABLE, UNSTARTED, ENDED_BY = 125, (126, 127), 128  # (docs.docker.com/reference/cli/docker/container/run)
PULL = "edgeq pulls nothing by itself: pull it, or build it as docs/containers.md says"


@dataclass(frozen=True)
class Image:
    """An image that `engine` has: its name in target.yaml, and the digest of its content (sha256:…)."""

    engine: Path
    name: str
    digest: str

    def __str__(self) -> str:
        return f"{self.name.partition('@')[0]}@{self.digest}"


@functools.cache
def image(name: str, program: str) -> Image:
    """The image `name`, wherever it is here; it is to stand in for `program`, which is not.

    Raises ToolError where no engine has it, with what each of them says.
    """
    engines = [found for engine in ENGINES if (found := tool.find(engine))]
    if not engines:
        raise ToolError(f"{program} was not found, nor podman or docker to run it in {name}",
                        f"apt-get install podman, or install {program}")
    said = []
    for engine in engines:
        asked = tool.run([engine, "image", "inspect", "--format", "{{.Id}}", name],
                         timeout_s=PATIENCE_S, cwd=Path("/"))
        if digest := _digest(asked):
            return Image(engine, name, digest)
        said.append(f"{engine.name}: {_last(asked.output)}")
    raise ToolError(f"{program} was not found, nor the image {name} to run it in ({'; '.join(said)})",
                    f"{PULL}, or install {program}")


def run(within: Image | None, words: Sequence[str | Path], *, timeout_s: float, cwd: Path,
        name: str = "") -> tool.Finished:
    """Run `words` in `cwd` as tool.run does: `within` an image, or where that is None on this machine.

    In an image the program has `cwd` to write in, and else nothing: no network, no other folder, no
    right beyond those of a plain process. It sees `cwd` as /work.
    """
    if within is None:
        return tool.run(words, timeout_s=timeout_s, cwd=cwd, name=name)
    container = f"edgeq-{uuid.uuid4().hex}"  # which would outlive its client, were that killed
    with tool.undone([within.engine, "rm", "--force", container], patience_s=PATIENCE_S):
        finished = tool.run([*argv(within, cwd.resolve(), container, words[0]), *words[1:]],
                            timeout_s=timeout_s, cwd=cwd, name=f"{words[0]} in {within.name}")
    return _judged(finished, within, str(words[0]))


def argv(within: Image, folder: Path, container: str, program: str | Path) -> list[str]:
    """How the engine is told to run `program` on `folder` in a `container` of that name; its words follow.

    Raises ToolError where the path of `folder` cannot be told.
    """
    if "," in str(folder):
        raise ToolError(f"{folder} cannot be mounted into a container: its path has a comma in it",
                        "name another store with --store DIR")
    owner = f"{os.getuid()}:{os.getgid()}"
    mapped = ["--userns=keep-id"] if within.engine.name == "podman" and os.getuid() else []
    return [str(within.engine), "run", "--rm", "--pull=never", f"--name={container}", "--stop-timeout=0",
            "--network=none", "--read-only", "--tmpfs=/tmp", "--cap-drop=all",
            "--security-opt=no-new-privileges", "--security-opt=label=disable", *mapped,
            f"--user={owner}", "--env=HOME=/tmp",
            f"--mount=type=bind,src={folder},dst={WORK}", f"--workdir={WORK}",
            f"--entrypoint={program}", within.digest]


def _judged(finished: tool.Finished, within: Image, program: str) -> tool.Finished:
    """`finished`, where the program itself ended; ToolError where the engine failed or a signal ended it."""
    status, said = finished.status, tool.tail(finished.output)
    if status == UNUSABLE:
        raise ToolError(f"{within.engine.name} could not run {within.name}", said)
    if status in UNSTARTED:
        raise ToolError(f"{within.name} has no program {program} that can be run", said)
    if status > ENDED_BY:
        raise ToolError(f"{program} in {within.name} {tool.died_of(status - ENDED_BY)}", said)
    return finished


def _digest(asked: tool.Finished) -> str:
    """The id that an engine told, as sha256:…; podman leaves the first word out."""
    found = re.search(r"^(?:sha256:)?([0-9a-f]{64})$", asked.output, re.MULTILINE)
    return f"sha256:{found[1]}" if found and not asked.status else ""


def _last(output: str) -> str:
    """The last line that was printed."""
    return (output.strip().splitlines() or ["it says nothing"])[-1]
