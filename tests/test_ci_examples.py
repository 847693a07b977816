"""The workflow files in docs/examples: valid by the schemas of their makers, pinned, and true to edgeq."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from conftest import ROOT

from edgeq.cli.__main__ import cli

EXAMPLES = ROOT / "docs/examples"
ACTIONS, GITLAB = EXAMPLES / "github-actions.yml", EXAMPLES / "gitlab-ci.yml"
SCHEMAS = {ACTIONS: ("vendor.github-workflows",),
           GITLAB: ("vendor.gitlab-ci", "--data-transform", "gitlab-ci")}
PAGES = (ROOT / "docs/ci.md", ROOT / "docs/provenance.md")


def checked(file: Path, schema: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """What check-jsonschema says of a file, by a schema that comes with it."""
    return subprocess.run([sys.executable, "-m", "check_jsonschema", "--builtin-schema", *schema, str(file)],
                          capture_output=True, text=True, check=False)


def content(file: Path) -> Any:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def commands(node: Any) -> Iterator[str]:
    """Every command that a workflow runs."""
    if isinstance(node, dict):
        for key, value in node.items():
            lines = value if isinstance(value, list) else [value]
            if key in ("run", "script", "before_script", "after_script"):
                yield from (line for each in lines for line in str(each).splitlines())
            else:
                yield from commands(value)
    elif isinstance(node, list):
        for each in node:
            yield from commands(each)


@pytest.mark.parametrize("file", SCHEMAS, ids=lambda file: file.name)
def test_an_example_is_valid_by_its_makers_schema(file):
    done = checked(file, SCHEMAS[file])
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("file", "old", "new"), [
    (ACTIONS, "runs-on:", "run-on:"), (GITLAB, "    reports:\n      junit:", "    reports:\n      junite:")])
def test_the_schema_finds_a_mistake(tmp_path, file, old, new):
    text = file.read_text(encoding="utf-8")
    assert old in text
    (tmp_path / file.name).write_text(text.replace(old, new), encoding="utf-8")
    assert checked(tmp_path / file.name, SCHEMAS[file]).returncode != 0


def test_actions_and_images_are_pinned():
    used = re.findall(r"uses: (\S+)", ACTIONS.read_text(encoding="utf-8"))
    assert len(used) > 3
    assert not [each for each in used if not re.fullmatch(r"[\w-]+/[\w-]+@v\d+\.\d+\.\d+", each)]
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-\w+", content(GITLAB)["default"]["image"])
    assert "latest" not in ACTIONS.read_text(encoding="utf-8") + GITLAB.read_text(encoding="utf-8")


@pytest.mark.parametrize("file", SCHEMAS, ids=lambda file: file.name)
def test_every_edgeq_command_of_an_example_has_options_that_there_are(file):
    found = [line.split() for line in commands(content(file)) if line.startswith("edgeq ")]
    assert {words[1] for words in found} >= {"build", "verify"}
    assert any("--frozen" in words for words in found)
    assert any("--check-reproducible" in words for words in found)
    for words in found:
        told = CliRunner().invoke(cli, [words[1], "--help"]).output
        for option in (word for word in words if word.startswith("--")):
            assert re.search(rf"{option}\b", told), words


def test_the_store_is_cached_and_what_was_built_is_uploaded():
    job = content(ACTIONS)["jobs"]["build"]
    cached = [step["with"]["path"] for step in job["steps"] if "actions/cache" in step.get("uses", "")]
    assert job["env"]["EDGEQ_STORE"].endswith(f"/{cached[0]}")
    uploaded = [step["with"]["path"] for step in job["steps"] if "upload-artifact" in step.get("uses", "")]
    assert "build/" in uploaded[0]
    models = content(GITLAB)["models"]
    assert content(GITLAB)["variables"]["EDGEQ_STORE"].endswith(models["cache"][0]["paths"][0].rstrip("/"))
    assert models["artifacts"]["reports"]["junit"] == "build/report.junit.xml"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_the_pages_has_options_that_there_are(page):
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    words = [line.split() for block in blocks for line in block.splitlines() if line.startswith("edgeq ")]
    assert words
    for each in words:
        told = CliRunner().invoke(cli, [each[1], "--help"]).output
        assert "Usage" in told, each
        for option in (word for word in each if word.startswith("--")):
            assert re.search(rf"{option}\b", told), each
