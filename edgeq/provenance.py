"""Where delivered files come from: manifest.json, an in-toto Statement v1 with an SLSA provenance v1.

The one rule: no time and no place of this machine stands in it, so that the same inputs give the same
bytes. It is plain JSON, made without the library of in-toto, whose import alone takes longer than a build
with nothing to do: `edgeq verify` reads it with that library, and so do the tests.

    https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md
    https://slsa.dev/spec/v1.0/provenance
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeq.artifact import Artifact
from edgeq.report import Climbed, Result
from edgeq.store import Store

NAME = "manifest.json"
SCHEMA = "edgeq-manifest/2"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:edgeq:build:1"
BUILDER = "urn:edgeq:builder"
TREE = "edgeqTree"  # the digest of a folder: of its names and bytes (artifact.py)
GIVEN = ("source", "metric", "calibration", "evaluation", "training")  # what is the user's; the rest was made
SHA256 = "sha256:"


def statement(
    version: str, result: Result, best: Climbed, files: Sequence[Mapping[str, Any]], store: Store
) -> dict[str, Any]:
    """What manifest.json says of `files` ({path, bytes, sha256}), which `best` left, by edgeq `version`."""
    return {
        "_type": STATEMENT,
        "subject": [_subject(file) for file in files],
        "predicateType": PREDICATE,
        "predicate": {"buildDefinition": _definition(result, best, store),
                      "runDetails": _details(version, best, store)},
    }


def digests_of(artifact: Artifact, store: Store) -> dict[str, str]:
    """The digest of `artifact` by its kind: a file's sha256, or that of a folder's names and bytes."""
    return {"sha256" if store.path(artifact).is_file() else TREE: artifact.digest}


def see_valid(content: Any) -> None:
    """Raise ValueError where in-toto's library finds no statement with an SLSA provenance in `content`."""
    from google.protobuf import json_format
    from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
    from in_toto_attestation.v1 import statement_pb2
    from in_toto_attestation.v1.statement import Statement

    try:
        parsed = json_format.ParseDict(content, statement_pb2.Statement())
        Statement.copy_from_pb(parsed).validate()
        json_format.ParseDict(content["predicate"], provenance_pb2.Provenance())
    except (json_format.ParseError, AttributeError, TypeError, KeyError) as error:
        raise ValueError(str(error)) from error
    if content["predicateType"] != PREDICATE:
        raise ValueError(f"its predicate is {content['predicateType']!r}, and not {PREDICATE}")


def purl(package: str, version: str) -> str:
    """The package URL of a Python package (https://github.com/package-url/purl-spec)."""
    return f"pkg:pypi/{package.lower().replace('_', '-')}@{version}"


def _definition(result: Result, best: Climbed, store: Store) -> dict[str, Any]:
    """What was asked for, and all that went in: the user's files by digest, packages, programs."""
    return {
        "buildType": BUILD_TYPE,
        "externalParameters": {"model": result.model, "target": result.target, "recipe": best.recipe,
                               "options": dict(best.options)},
        "internalParameters": {"schema": SCHEMA, "passed": result.passed, "compiled": not best.notice},
        "resolvedDependencies": [
            *({"name": name, "digest": digests_of(artifact, store)}
              for name, artifact in best.made.items() if name in GIVEN),
            *(_tool(name, version) for name, version in result.identity.tools.items())],
    }


def _details(version: str, best: Climbed, store: Store) -> dict[str, Any]:
    """Who built, and what arose on the way."""
    return {
        "builder": {"id": BUILDER, "version": {"edgeq": version}},
        "byproducts": [{"name": name, "digest": digests_of(artifact, store)}
                       for name, artifact in best.made.items() if name not in GIVEN],
    }


def _tool(name: str, version: str) -> dict[str, Any]:
    """A package by its version; an outside program, or the image that has it, by its digest."""
    image, marked, digest = version.rpartition(SHA256)
    if not marked:
        return {"name": name, "uri": purl(name, version)}
    return {"name": f"{name} in {image.removesuffix('@')}" if image else name, "digest": {"sha256": digest}}


def _subject(file: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": file["path"], "digest": {"sha256": file["sha256"]},
            "annotations": {"bytes": file["bytes"]}}
