"""manifest.json and sbom.cdx.json: what they say, and that the libraries of their makers read them."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from edgeq import provenance, sbom
from edgeq.artifact import Origin
from edgeq.deliver import deliver, ready
from edgeq.errors import ToolError
from edgeq.gates import Gate
from edgeq.identity import Identity
from edgeq.measurement import value_of
from edgeq.program import SHIP
from edgeq.report import Climbed, Report, Result
from edgeq.run import Run
from edgeq.store import Store, fill

RUN = Run("20261122T022031Z-00c0ffee", "2026-11-22T02:20:31Z", 1.5, "demo")
SIZE = Gate("model_bytes", max=100)
COMPILER = "ab" * 32


@dataclass(frozen=True)
class Maker:
    """Leaves a program that ships `text`."""

    text: str = "model"

    def compile(self, out: Path) -> None:
        """Write the program."""
        (out / SHIP).mkdir(parents=True)
        (out / SHIP / "model.tflite").write_text(self.text)


@pytest.fixture
def shop(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", functools.partial(fill, tmp_path / "store"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "model.keras").write_bytes(b"weights")
    return tmp_path / "model.keras"


def report(shop: Store, source: Path, *, model: str = "fashion", limit: float = 100) -> Report:
    """A report of one job, whose source is one file and whose evaluation data is a folder."""
    gate = replace(SIZE, max=limit)
    found = {"model_bytes": value_of("model_bytes", 5, "measured")}
    made = {"source": shop.take(Origin(source)), "program": shop.make(Maker().compile)}
    made["evaluation"] = shop.make(Maker("data").compile)
    data = {name: made[name].digest for name in ("source", "evaluation")}
    tools = {"numpy": "2.4", "Keras_Thing": "1", "edgetpu_compiler": f"sha256:{COMPILER}",
             "vela": f"arm/vela:5@sha256:{COMPILER}"}
    state: Any = "passed" if limit >= 5 else "failed"
    rung = Climbed("static-int8", {"granularity": "per_tensor"}, state, "", found, (gate.judge(found),), made)
    result = Result(model, "host", "evaluation.npz", (rung,), identity=Identity(data=data, tools=tools))
    return Report((result,), "0.1.0", {"machine": "x86_64"}, tools, RUN)


@pytest.fixture
def out(tmp_path: Path, shop: Store, source: Path) -> Path:
    ready(tmp_path / "out")
    deliver(report(shop, source), shop, tmp_path / "out")
    return tmp_path / "out"


def manifest(out: Path, place: str = "host/fashion") -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / place / "manifest.json").read_text(encoding="utf-8"))
    return content


def bill(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "sbom.cdx.json").read_text(encoding="utf-8"))
    return content


# The statement


def test_a_manifest_is_a_statement_by_in_totos_own_library(out):
    provenance.see_valid(manifest(out))


def test_the_subjects_are_all_delivered_files_by_their_sha256(out):
    [subject] = manifest(out)["subject"]
    assert subject["name"] == "model.tflite"
    assert subject["digest"] == {"sha256": hashlib.sha256(b"model").hexdigest()}
    assert subject["annotations"] == {"bytes": 5}


def test_what_was_asked_for_and_how_it_ended_are_parameters(out):
    definition = manifest(out)["predicate"]["buildDefinition"]
    assert definition["buildType"] == "urn:edgeq:build:1"
    assert definition["externalParameters"] == {
        "model": "fashion", "target": "host", "recipe": "static-int8",
        "options": {"granularity": "per_tensor"}}
    assert definition["internalParameters"] == {
        "schema": "edgeq-manifest/2", "passed": True, "compiled": True}


def test_inputs_are_dependencies_a_file_by_its_sha256_and_a_folder_by_a_digest_of_its_own(out):
    dependencies = {each["name"]: each for each in
                    manifest(out)["predicate"]["buildDefinition"]["resolvedDependencies"]}
    assert dependencies["source"]["digest"] == {"sha256": hashlib.sha256(b"weights").hexdigest()}
    assert dependencies["evaluation"]["digest"].keys() == {"edgeqTree"}
    assert dependencies["numpy"] == {"name": "numpy", "uri": "pkg:pypi/numpy@2.4"}
    assert dependencies["Keras_Thing"]["uri"] == "pkg:pypi/keras-thing@1"
    assert dependencies["edgetpu_compiler"]["digest"] == {"sha256": COMPILER}
    assert dependencies["vela in arm/vela:5"]["digest"] == {"sha256": COMPILER}
    assert "program" not in dependencies


def test_the_builder_has_its_version_and_what_arose_on_the_way_is_a_byproduct(out):
    details = manifest(out)["predicate"]["runDetails"]
    assert details["builder"] == {"id": "urn:edgeq:builder", "version": {"edgeq": "0.1.0"}}
    assert [each["name"] for each in details["byproducts"]] == ["program"]


def test_both_are_the_same_at_any_time_and_place(out, source, tmp_path):
    elsewhere = Store(tmp_path / "second store", functools.partial(fill, tmp_path / "second store"))
    ready(tmp_path / "second")
    later = replace(report(elsewhere, source), run=replace(RUN, id="another", started="2027-01-01T00:00:00Z"))
    deliver(later, elsewhere, tmp_path / "second")
    for name in ("host/fashion/manifest.json", "sbom.cdx.json", "report.json", "report.junit.xml"):
        text = (out / name).read_bytes()
        assert text == (tmp_path / "second" / name).read_bytes()
        assert str(tmp_path).encode() not in text
        assert b"2026-11" not in text


def test_what_failed_says_so(shop, source, tmp_path):
    ready(tmp_path / "out")
    deliver(report(shop, source, limit=4), shop, tmp_path / "out")
    definition = manifest(tmp_path / "out", "failed/host/fashion")["predicate"]["buildDefinition"]
    assert definition["internalParameters"]["passed"] is False


@pytest.mark.parametrize(("change", "told"), [
    ({"subject": []}, "subject"),
    ({"subject": [{"name": "a"}]}, "digest"),
    ({"_type": "https://in-toto.io/Statement/v0.1"}, "statement type"),
    ({"predicateType": "https://slsa.dev/provenance/v0.2"}, "v0.2"),
    ({"predicate": {"buildDefinition": 7}}, "buildDefinition"),
    ({"predicate": {"builder": {}}}, "builder"),
    ({"more": 1}, "more"),
])
def test_what_is_no_statement_is_told(out, change, told):
    with pytest.raises(ValueError, match=told):
        provenance.see_valid(manifest(out) | change)


@pytest.mark.parametrize("content", [None, 3, [], {}, "text", {"predicate": []}])
def test_json_of_any_other_kind_is_no_statement(content):
    with pytest.raises(ValueError, match=r"."):
        provenance.see_valid(content)


# The bill of materials


def test_the_sbom_is_valid_by_cyclonedxs_own_schema(out):
    assert bill(out)["specVersion"] == "1.6"
    sbom.see_valid(bill(out))


@pytest.mark.parametrize(("said", "known"), [
    ("License-Expression: MIT AND (0BSD OR Zlib)\nClassifier: License :: OSI Approved :: MIT License",
     [{"expression": "MIT AND (0BSD OR Zlib)"}]),
    (("License: BSD\nClassifier: License :: OSI Approved\n"
      "Classifier: License :: OSI Approved :: BSD License\nClassifier: License :: Other/Proprietary License"),
     [{"license": {"name": "BSD License"}}, {"license": {"name": "Other/Proprietary License"}}]),
    ("License: Apache License 2.0", [{"license": {"name": "Apache License 2.0"}}]),
    ("License: Copyright (c) 2026\n        All rights reserved", []),
    ("License: UNKNOWN", []), ("Summary: License: MIT", []), ("\nLicense: MIT", [])])
def test_licences_are_those_that_a_package_declares(out, said, known):
    found = sbom.licences(f"Metadata-Version: 2.4\nName: a\nVersion: 1.0\n{said}\n\nLicense: text", "1.0")
    assert [{kind: {"name": told["name"]} if isinstance(told, dict) else told
             for kind, told in each.items() if kind != "acknowledgement"} for each in found] == known
    assert not sbom.licences(f"Version: 1.1\n{said}", "1.0")
    changed = bill(out)
    changed["components"][0]["licenses"] = found
    sbom.see_valid(changed)


def test_an_installed_package_has_its_licences_in_the_bill(out, shop, source):
    made = report(shop, source)
    version = importlib.metadata.version("numpy")
    deliver(replace(made, tools=dict(made.tools) | {"numpy": version}), shop, out)
    sbom.see_valid(bill(out))
    found = {each["name"]: each.get("licenses") for each in bill(out)["components"]}
    [licence] = found["numpy"]
    assert licence["acknowledgement"] == "declared"
    assert "BSD-3-Clause" in licence["expression"]
    assert found["Keras_Thing"] is None  # which is not installed


def test_packages_have_purls_and_programs_digests(out):
    found = {each["name"]: each for each in bill(out)["components"]}
    assert found["numpy"]["purl"] == "pkg:pypi/numpy@2.4"
    assert found["arm/vela:5"]["type"] == "container"
    assert found["arm/vela:5"]["hashes"] == found["edgetpu_compiler"]["hashes"]
    assert found["edgetpu_compiler"]["hashes"] == [{"alg": "SHA-256", "content": COMPILER}]
    assert bill(out)["metadata"]["tools"]["components"][0] == {
        "type": "application", "name": "edgeq", "version": "0.1.0"}


def test_models_and_data_are_components_of_their_kinds(out):
    kinds = {each["name"]: each for each in bill(out)["components"]}
    model, data = kinds["fashion/source"], kinds["fashion/evaluation"]
    assert (model["type"], data["type"]) == ("machine-learning-model", "data")
    assert model["hashes"][0]["content"] == hashlib.sha256(b"weights").hexdigest()
    assert data["properties"][0]["name"] == "edgeq:tree"


def test_every_delivered_file_and_the_report_are_in_the_sbom(out):
    listed = sbom.files_in(bill(out))
    assert listed.keys() == {"host/fashion/model.tflite", "host/fashion/manifest.json",
                             "report.json", "report.junit.xml"}
    for path, sha256 in listed.items():
        assert hashlib.sha256((out / path).read_bytes()).hexdigest() == sha256


def test_what_a_job_needs_stands_among_the_dependencies(out):
    needs = {each["ref"]: each["dependsOn"] for each in bill(out)["dependencies"]}
    assert needs["build"] == ["host/fashion"]
    assert "pkg:pypi/numpy@2.4" in needs["host/fashion"]
    refs = {each["bom-ref"] for each in bill(out)["components"]}
    assert set(needs["host/fashion"]) <= refs


def test_the_serial_number_follows_from_the_content(out, shop, source, tmp_path):
    serial = bill(out)["serialNumber"]
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", serial)
    ready(tmp_path / "other")
    deliver(report(shop, source, model="other"), shop, tmp_path / "other")
    assert bill(tmp_path / "other")["serialNumber"] != serial


@pytest.mark.parametrize("change", [
    {"specVersion": "0.9"}, {"components": [{"type": "spell"}]}, {"extra": 1}])
def test_what_is_no_bill_is_told(out, change):
    with pytest.raises(ValueError, match=r"."):
        sbom.see_valid(bill(out) | change)


def test_a_library_that_came_without_its_validator_is_told(out, monkeypatch):
    from cyclonedx.exception import MissingOptionalDependencyException
    from cyclonedx.validation.json import JsonStrictValidator

    def lacks(*_: object) -> None:
        raise MissingOptionalDependencyException("jsonschema")

    monkeypatch.setattr(JsonStrictValidator, "validate_str", lacks)
    with pytest.raises(ToolError, match="validator") as error:
        sbom.see_valid(bill(out))
    assert "json-validation" in error.value.hint
