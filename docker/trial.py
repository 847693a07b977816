"""`invoke docker-test`: builds images with buildah, which needs no daemon, and runs them as a user would.

The one rule: nothing is kept, and nothing of this machine gets into an image. The base system comes from
debootstrap, or with --base pull from its registry; all lies in one temporary folder, removed at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeq import __version__

ROOT = Path(__file__).resolve().parents[1]
BASE, SUITE, USER = "docker.io/library/debian:bookworm-slim", "bookworm", "10001"
TARGETS = {"firmware": ("cortex-m4", "ethos-u55-128"), "linux-arm": ("rpi4",), "edgetpu": ("edgetpu",),
           "executorch": ("executorch-xnnpack", "executorch-ethos-u55-128")}
PIPELINES = {"executorch": "models/fashion_torch/pipeline.yaml"}  # of all others: the project's own
FIRMWARE = "build/cortex-m4/fashion/firmware.elf"
SLIM = ("usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale")  # as in Debian's slim images
INSTALL = "apt-get install buildah debootstrap"
CONVERT = """\
import sys, pathlib
from edgeq.frontends.keras import Keras
Keras().convert(*map(pathlib.Path, sys.argv[1:]))
"""
PIPELINE = """\
version: 1
models:
  fashion:
    source: model.tflite
    calibration: {data: calibration.npz}
    evaluation: {data: evaluation.npz, metric: top1}
targets: [host, cortex-m4, ethos-u55-128, edgetpu, rpi4]
ladder: [static-int8]
gates:
  - {metric: accuracy_drop, max: 0.01}
"""


class Failed(Exception):
    """A step that did not end as it should."""


class Trial:
    """One folder with storage for images, a project to build, and what this machine tells pip."""

    def __init__(self, folder: Path, torch: str = "") -> None:
        self.folder = folder
        self.told = {"edgetpu": ["--build-arg", "ARCHIVE="],
                     "executorch": ["--build-arg", f"TORCH={torch}"] if torch else []}
        self.buildah = ["buildah", "--root", str(folder / "images"), "--runroot", str(folder / "run")]
        os.environ["TMPDIR"] = str(folder)  # where buildah would keep what a stop leaves behind

    def base(self, how: str, mirror: str) -> None:
        """The system that the images start from, under the name by which the Dockerfiles know it."""
        if how == "pull":
            _run(*self.buildah, "pull", BASE)
            return
        system = self.folder / "system"
        _run("debootstrap", "--variant=minbase", SUITE, system, *filter(None, [mirror]))
        for left in (*SLIM, "var/cache/apt", "var/lib/apt/lists"):
            shutil.rmtree(system / left, ignore_errors=True)
        container = _run(*self.buildah, "from", "scratch").strip()
        _run(*self.buildah, "add", "--quiet", container, system, "/")
        _run(*self.buildah, "commit", "--quiet", "--rm", container, BASE)
        shutil.rmtree(system)

    def build(self, name: str) -> None:
        """Build edgeq-NAME, as `docker build` would."""
        _run(*self.buildah, "bud", "--isolation", "chroot", "--pull-never", "--format", "docker",
             *self._pip(), *self.told.get(name, []), "--file", f"docker/{name}/Dockerfile",
             "--tag", f"edgeq-{name}", ".")

    @contextmanager
    def container(self, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """A container of edgeq-NAME, and what its image is told to run by."""
        made = _run(*self.buildah, "from", "--pull-never", f"edgeq-{name}").strip()
        try:
            yield made, json.loads(_run(*self.buildah, "inspect", made))["Docker"]["config"]
        finally:
            _run(*self.buildah, "rm", made)

    def run(self, container: str, project: Path, *words: str) -> str:
        """What `words` print in the container, with the project at /work."""
        return _run(*self.buildah, "run", "--isolation", "chroot", "--volume", f"{project}:/work", container,
                    "--", *words)

    def compile_here(self, project: Path) -> None:
        """Build firmware with edgeq here and the image's compiler; Failed where the bytes differ."""
        made = (project / FIRMWARE).read_bytes()
        text = (ROOT / "targets/cortex-m4/target.yaml").read_text(encoding="utf-8")
        target = project / "targets/cortex-m4/target.yaml"
        target.parent.mkdir(parents=True)
        target.write_text(text.replace("ram: 256KiB}", "ram: 256KiB, container: edgeq-firmware}"),
                          encoding="utf-8")
        (programs := self.folder / "bin").mkdir()
        for each in Path("/usr/bin").iterdir():
            if not each.name.startswith("arm-none-eabi-"):
                (programs / each.name).symlink_to(each)
        _run("env", f"PATH={programs}", f"EDGEQ_STORE={self.folder}/store", *self._podman(), sys.executable,
             "-m", "edgeq.cli", "build", project / "pipeline.yaml", "--target=cortex-m4",
             f"--output-dir={project}/build")
        _want((project / FIRMWARE).read_bytes() == made, "the firmware is not that of the image")
        tools = json.loads((project / "build/report.json").read_bytes())["tools"]
        _want(tools["arm-none-eabi-gcc"].startswith("edgeq-firmware@sha256:"), f"no image: {tools}")

    def _podman(self) -> list[str]:
        """Podman's settings: our storage, and no wish for systemd or for limits that root alone may raise."""
        driver = json.loads(_run(*self.buildah, "info"))["store"]["GraphDriverName"]
        storage, engine = self.folder / "storage.conf", self.folder / "containers.conf"
        storage.write_text(f'[storage]\ndriver = "{driver}"\ngraphroot = "{self.folder}/images"\n'
                           f'runroot = "{self.folder}/run"\n', encoding="utf-8")
        runtime = "runc" if shutil.which("runc") else "crun"
        engine.write_text('[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]\n'
                          f'[engine]\ncgroup_manager = "cgroupfs"\nruntime = "{runtime}"\n', encoding="utf-8")
        return [f"CONTAINERS_STORAGE_CONF={storage}", f"CONTAINERS_CONF={engine}"]

    def size(self, name: str) -> str:
        """The size of edgeq-NAME with all that it stands on."""
        return str(json.loads(_run(*self.buildah, "images", "--json", f"edgeq-{name}"))[0]["size"])

    def _pip(self) -> list[str]:
        """How pip in an image reaches what pip here reaches: by secrets and mounts, which stay outside."""
        said = _run(sys.executable, "-m", "pip", "config", "list")
        found = dict(re.findall(r"^[^.\n]*\.\.?([\w-]+)='(.*)'$", said, re.MULTILINE))
        words, lines = [], [f"{key} = {value}" for key, value in sorted(found.items()) if key != "cert"]
        if certificates := found.get("cert"):
            words += ["--secret", f"id=ca,src={certificates}"]
            lines.append("cert = /run/secrets/ca")
        config = self.folder / "pip.conf"
        config.write_text("\n".join(["[global]", *lines, ""]), encoding="utf-8")
        for each in sorted(_folders(found.values())):
            words += ["--volume", f"{each}:{each}:ro"]
        return [*words, "--secret", f"id=pip,src={config}"]


def main() -> int:
    """Build and run the images that are named; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("images", nargs="*", default=["base", "firmware"], help="folders below docker/")
    parser.add_argument("--base", choices=("debootstrap", "pull"), default="debootstrap")
    parser.add_argument("--mirror", default="", help="where debootstrap gets Debian from")
    parser.add_argument("--torch", default="", help="where edgeq-executorch gets PyTorch's wheels from")
    given = parser.parse_args()
    names = ["base", *(name for name in given.images if name != "base")]
    try:
        _see_tools(given.base)
        with tempfile.TemporaryDirectory(prefix="edgeq-docker-", ignore_cleanup_errors=True) as folder:
            _try(Trial(Path(folder), given.torch), names, given.base, given.mirror)
    except Failed as failure:
        print(f"docker-test: {failure}", file=sys.stderr)
        return 1
    return 0


def _try(trial: Trial, names: Sequence[str], base: str, mirror: str) -> None:
    """Every step, each told with its seconds."""
    with _told("project: the demo's float baseline as a .tflite, with its samples"):
        project = _project(trial.folder / "project")
    with _told(f"{BASE}: {base}"):
        trial.base(base, mirror)
    for name in names:
        with _told(f"edgeq-{name}: built from docker/{name}/Dockerfile"):
            trial.build(name)
        print(f"edgeq-{name}: {trial.size(name)}", flush=True)
        _use(trial, name, project)
        if name == "firmware" and shutil.which("podman"):
            with _told("edgeq here, with the compiler of edgeq-firmware by podman"):
                trial.compile_here(project)


def _use(trial: Trial, name: str, project: Path) -> None:
    """Run what a user would run in edgeq-NAME, without root, and see what it leaves."""
    with trial.container(name) as (container, config):
        _want(config["User"] == USER, f"edgeq-{name} runs as {config['User']!r}, not {USER}")
        _want(config["Labels"]["org.opencontainers.image.title"] == f"edgeq-{name}", "its title is another's")
        edgeq = config["Entrypoint"]
        with _told(f"edgeq-{name}: edgeq --version, edgeq doctor, and who runs it"):
            said = trial.run(container, project, *edgeq, "--version")
            _want(said.strip() == f"edgeq {__version__}", f"it calls itself {said!r}")
            _want("yes" in trial.run(container, project, *edgeq, "doctor"), "it can build for nothing")
            _want(trial.run(container, project, "id", "-u").strip() == USER, "it is not run by its user")
        for target in TARGETS.get(name, ("host",)):
            with _told(f"edgeq-{name}: edgeq build --target {target}"):
                pipeline = PIPELINES.get(name, "pipeline.yaml")
                trial.run(container, project, *edgeq, "build", pipeline, "--target", target)
                report = json.loads((project / "build/report.json").read_bytes())
                _want(report["passed"], f"{target} did not pass: {report}")


def _project(folder: Path) -> Path:
    """The demo from a .tflite, for images without TensorFlow, where the images' user may write."""
    folder.mkdir()
    _run(sys.executable, "-c", CONVERT, folder, ROOT / "models/fashion/model.keras")
    (folder / "baseline.tflite").rename(folder / "model.tflite")
    for name in ("calibration.npz", "evaluation.npz"):
        shutil.copyfile(ROOT / "models/fashion" / name, folder / name)
    shutil.copytree(ROOT / "models", folder / "models")
    (folder / "pipeline.yaml").write_text(PIPELINE, encoding="utf-8")
    (folder / "build").mkdir(mode=0o777)
    (folder / "build").chmod(0o777)
    return folder


def _folders(values: Iterable[str]) -> set[Path]:
    """The folders of this machine that pip looks into; beside the pages of an index lie its files."""
    named = {Path(word.removeprefix("file://")) for value in values for word in value.split()}
    return {each.parent if each.name == "simple" else each for each in named if each.is_dir()}


def _see_tools(base: str) -> None:
    """Raise Failed where a program or a right is missing, with what to do."""
    wanted = ["buildah"] if base == "pull" else ["buildah", "debootstrap"]
    missing = [name for name in wanted if not shutil.which(name)]
    _want(not missing, f"{' and '.join(missing)} missing: {INSTALL}")
    if os.getuid():
        _want(base == "pull", "debootstrap needs root: run it by sudo, or with --base pull")
        free = Path("/proc/sys/user/max_user_namespaces").read_text(encoding="ascii").strip() != "0"
        _want(free, "buildah needs root, or a kernel that lets users make namespaces")


def _want(held: bool, problem: str) -> None:
    if not held:
        raise Failed(problem)


@contextmanager
def _told(step: str) -> Iterator[None]:
    """Say the step, and the seconds that it took."""
    print(f"{step} …", flush=True)
    begun = time.monotonic()
    yield
    print(f"  {time.monotonic() - begun:.1f} s", flush=True)


def _run(*words: str | Path) -> str:
    """What a program prints on its standard output; Failed with the end of all it said where it fails."""
    finished = subprocess.run([str(word) for word in words], cwd=ROOT, capture_output=True, text=True,
                              errors="replace", check=False)
    if finished.returncode:
        said = (finished.stdout + finished.stderr)[-4000:]
        raise Failed(f"status {finished.returncode} of: {' '.join(map(str, words))}\n{said}")
    return finished.stdout


if __name__ == "__main__":
    sys.exit(main())
