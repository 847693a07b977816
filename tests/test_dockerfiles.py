"""The images of docker/, by their text: linted, without root, pinned, with all that edgeq compiles for."""

from __future__ import annotations

import fnmatch
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edgeq.emulation.cores import CORES

ROOT = Path(__file__).parents[1]
FILES = sorted(ROOT.glob("docker/*/Dockerfile"))
TITLES = [file.parent.name for file in FILES]
COMPILER = "arm-none-eabi-gcc"


def stage(file: Path) -> list[str]:
    """The instructions of the last stage, each on one line, comments left out."""
    text = re.sub(r"^\s*#.*\n", "", file.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[max(i for i, line in enumerate(lines) if line.startswith("FROM")):]


def test_there_is_an_image_a_toolchain():
    assert TITLES == ["base", "edgetpu", "executorch", "firmware", "linux-arm"]


def test_hadolint_has_nothing_to_say():
    hadolint = Path(sys.executable).with_name("hadolint")
    found = subprocess.run([hadolint, *FILES], capture_output=True, text=True, check=False, timeout=60)
    assert (found.returncode, found.stdout) == (0, "")


@pytest.mark.parametrize("file", FILES, ids=TITLES)
def test_an_image_is_run_by_a_user_and_says_what_it_is(file):
    lines = stage(file)
    users = [line.split()[1] for line in lines if line.startswith("USER")]
    assert users[-1] == "10001"
    assert "HEALTHCHECK NONE" in lines
    label = next(line for line in lines if line.startswith("LABEL"))
    assert f'org.opencontainers.image.title="edgeq-{file.parent.name}"' in label
    for name in ("description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{name}=" in label
    entry = 'ENTRYPOINT ["edgeq"]' in lines
    assert entry == (file.parent.name == "base")  # the others have it from there


@pytest.mark.parametrize("file", FILES, ids=TITLES)
def test_what_is_installed_is_pinned_and_no_cache_is_left(file):
    text = file.read_text().replace("\\\n", " ")
    for packages in re.findall(r"apt-get install -y --no-install-recommends(.*?)(?:&&|;|\n)", text):
        assert all("=" in word or word.startswith("{}") for word in packages.split() if word != "+"), packages
    for command in re.findall(r"pip install(.*?)(?:&&|;|\n)", text):
        assert "--no-cache-dir" in command
        assert "--constraint" in command or "==" in command, command
    assert text.count("apt-get update") == 0 or "rm -rf /var/lib/apt/lists/*" in text


@pytest.mark.parametrize("file", FILES, ids=TITLES)
def test_an_image_starts_from_what_can_be_chosen_and_names_no_index_of_packages(file):
    text = file.read_text()
    assert re.findall(r"^FROM (\S+)", text, re.MULTILINE) == ["${BASE}"] * text.count("\nFROM ")
    base = re.search(r"^ARG BASE=(.*)$", text, re.MULTILINE)[1]
    assert base == ("docker.io/library/debian:bookworm-slim" if file.parent.name == "base" else
                    "edgeq-base:latest")
    known = {"https://packages.cloud.google.com/apt", "https://download.pytorch.org/whl/cpu"}
    assert {*re.findall(r"https?://[^\s\"']+", text)} <= known


def test_what_is_copied_is_in_the_context_and_nothing_else_is():
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] not in ("#", "")]
    assert lines[0] == "*"
    for name in ("pyproject.toml", "constraints.txt", "README.md", "edgeq", "targets"):
        assert f"!{name}" in lines
    copied = {word for file in FILES for line in stage(file) if line.startswith("COPY docker/")
              for word in line.split()[1:2]}
    assert copied
    assert all((ROOT / name).exists() and fnmatch.fnmatch(name, "docker/*/slim.conf") for name in copied)
    assert "!docker/*/slim.conf" in lines


@pytest.mark.parametrize("core", CORES)
def test_what_the_slim_compiler_leaves_out_no_core_needs(core):
    rules = (ROOT / "docker/firmware/slim.conf").read_text().splitlines()
    left_out = [rule.removeprefix("path-exclude=") for rule in rules if rule.startswith("path-exclude=")]
    for name in ("libc.a", "libgcc.a", "libm.a", "crti.o"):
        found = subprocess.run([COMPILER, *CORES[core].flags, f"-print-file-name={name}"], check=True,
                               capture_output=True, text=True, timeout=30).stdout.strip()
        path = str(Path(found).resolve())
        assert Path(path).is_absolute()
        assert not [rule for rule in left_out if fnmatch.fnmatch(path, rule)], path
