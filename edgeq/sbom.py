"""What a build is made of: sbom.cdx.json, a CycloneDX 1.6 bill of materials.

Packages with their licences, programs, models, data, and every delivered file, each by version or digest. The
one rule: no time and no chance is in it; its serial number follows from what it says. As manifest.json it is
plain JSON, made without the library of CycloneDX, which takes 0.3 s to import: `edgeq verify` and the tests
judge it by that library's schema (https://cyclonedx.org/docs/1.6/json/).
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import re
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from edgeq.errors import ToolError
from edgeq.provenance import SHA256, purl
from edgeq.report import Report, Result

NAME, VERSION = "sbom.cdx.json", "1.6"
BUILD = "build"
# Of one line: some packages put the whole text of their licence there.
FIELD = re.compile(r"^(Version|License-Expression|License|Classifier: License)"
                   r"(?: :: OSI Approved ::| ::|:) *(.+)$(?!\n[ \t])", re.MULTILINE)
NONE = ("UNKNOWN", "OSI Approved")
DECLARED = {"acknowledgement": "declared"}  # by its authors; nobody looked into its files
Files = Sequence[Mapping[str, Any]]


def bom(
    report: Report, files: Mapping[tuple[str, str], Files], beside: Files, whole: Collection[str]
) -> dict[str, Any]:
    """The bill of `report`: `files` ({path, bytes, sha256}) by target and model, and those `beside` them.

    `whole` are the digests of inputs that are one file: then it is its sha256, as for any other tool.
    """
    tools = [_tool(name, version) for name, version in report.tools.items()]
    inputs = {each["bom-ref"]: each for result in report.results for each in _inputs(result, whole)}
    jobs = [_job(result, found) for result in report.results
            if (found := files.get((result.target, result.model)))]
    needs = {_ref(result): _needs(result, whole)
             for result in report.results if files.get((result.target, result.model))}
    content = {
        "bomFormat": "CycloneDX", "specVersion": VERSION, "version": 1,
        "metadata": {
            "tools": {"components": [{"type": "application", "name": "edgeq", "version": report.version}]},
            "component": {"type": "application", "bom-ref": BUILD, "name": "edgeq build"}},
        "components": [*tools, *inputs.values(), *jobs, *map(_file, beside)],
        "dependencies": [{"ref": BUILD, "dependsOn": list(needs)},
                         *({"ref": ref, "dependsOn": sorted(set(used))} for ref, used in needs.items())],
    }
    return {"$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json", "serialNumber": _serial(content),
            **content}


def _needs(result: Result, whole: Collection[str]) -> list[str]:
    """What a job was made from and by, as references."""
    tools = (_tool(name, version) for name, version in result.identity.tools.items())
    return [each["bom-ref"] for each in (*_inputs(result, whole), *tools)]


def see_valid(bill: Any) -> None:
    """Raise ValueError where `bill` is no CycloneDX 1.6, by the schema in CycloneDX's library.

    Raises ToolError where that library came without what reads a schema.
    """
    from cyclonedx.exception import MissingOptionalDependencyException
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    try:
        error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bill))
    except MissingOptionalDependencyException as missing:
        raise ToolError("the SBOM cannot be checked: cyclonedx-python-lib came without its validator",
                        "pip install 'cyclonedx-python-lib[json-validation]'") from missing
    if error:
        raise ValueError(str(getattr(error.data, "message", error.data)))
    if bill["specVersion"] != VERSION:
        raise ValueError(f"it is CycloneDX {bill['specVersion']}, and not {VERSION}")


def licences(metadata: str, version: str) -> list[dict[str, Any]]:
    """What the `metadata` of a Python package says of its licences; nothing where it is of another version.

    Its SPDX expression, else the names of its classifiers, else what it calls it by itself
    (https://packaging.python.org/en/latest/specifications/core-metadata/).
    """
    told: dict[str, list[str]] = {}
    for field, said in FIELD.findall(metadata.partition("\n\n")[0]):
        if said not in NONE:
            told.setdefault(field, []).append(said)
    if version not in told.get("Version", ()):
        return []
    if expressions := told.get("License-Expression"):
        return [{"expression": expressions[0], **DECLARED}]
    names = told.get("Classifier: License") or told.get("License", [])
    return [{"license": {"name": name, **DECLARED}} for name in names]


def files_in(bill: Mapping[str, Any]) -> dict[str, str]:
    """The sha256 of every delivered file by its path, as the `bill` has it."""
    found = [each for component in bill["components"]
             for each in (component, *component.get("components", ()))]
    return {each["name"]: each["hashes"][0]["content"] for each in found if each["type"] == "file"}


def _serial(content: Mapping[str, Any]) -> str:
    said = json.dumps(content, sort_keys=True).encode()
    return uuid.uuid5(uuid.NAMESPACE_OID, hashlib.sha256(said).hexdigest()).urn


def _ref(result: Result) -> str:
    return f"{result.target}/{result.model}"


def _tool(name: str, version: str) -> dict[str, Any]:
    """A Python package; an outside program, or the image that has it, by its digest."""
    image, marked, digest = version.rpartition(SHA256)
    if marked:
        kind, called = ("container", image.removesuffix("@")) if image else ("application", name)
        return {"type": kind, "bom-ref": f"program:{name}", "name": called, "hashes": _hashes(digest)}
    known = _licences(name, version)
    return {"type": "library", "bom-ref": purl(name, version), "name": name, "version": version,
            **({"licenses": known} if known else {}), "purl": purl(name, version)}


@functools.cache
def _licences(package: str, version: str) -> list[dict[str, Any]]:
    """The same of a package that is installed; nothing where it is not."""
    try:
        return licences(importlib.metadata.distribution(package).read_text("METADATA") or "", version)
    except importlib.metadata.PackageNotFoundError:
        return []


def _inputs(result: Result, whole: Collection[str]) -> Iterator[dict[str, Any]]:
    """What the user gave for a model: the model itself, data, and code that scores."""
    for role, digest in result.identity.data.items():
        name = f"{result.model}/{role}"
        known: dict[str, Any] = ({"hashes": _hashes(digest)} if digest in whole else
                                 {"properties": [{"name": "edgeq:tree", "value": digest}]})
        kind = "machine-learning-model" if role == "source" else "data"
        yield {"type": kind, "bom-ref": f"{name}@{digest[:16]}", "name": name, **known}


def _job(result: Result, files: Files) -> dict[str, Any]:
    """What was delivered for a model and target; its files lie within."""
    best = result.best
    told = {"target": result.target, "model": result.model, "recipe": best.recipe if best else "",
            "passed": str(result.passed).lower()}
    return {"type": "machine-learning-model", "bom-ref": _ref(result), "name": _ref(result),
            "properties": [{"name": f"edgeq:{name}", "value": value} for name, value in told.items()],
            "components": [_file(file) for file in files]}


def _file(file: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "file", "bom-ref": f"file:{file['path']}", "name": file["path"],
            "hashes": _hashes(file["sha256"])}


def _hashes(digest: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": digest}]
