"""Statements of how files were built: in-toto's Statement v1 with SLSA's provenance v1 in it.

*Source*: in-toto/attestation spec/v1 (statement, resource_descriptor, digest_set) and
slsa.dev/spec/v1.0/provenance.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lorapipe.errors import InputError
from lorapipe.plan.lineage import Profile
from lorapipe.store.digest import is_sha256
from lorapipe.version import __version__

__all__ = [
    "BUILDER",
    "BUILD_TYPE",
    "PREDICATE_TYPE",
    "STATEMENT_TYPE",
    "Named",
    "RecipeText",
    "statement",
    "statement_bytes",
    "subjects_of",
]

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"

BUILD_TYPE = "pkg:pypi/lorapipe#recipe/v1"
"""What ``externalParameters`` mean: a recipe of version 1, and the values of its params."""

BUILDER = "pkg:pypi/lorapipe"
"""Who built, unless told otherwise: lorapipe on somebody's own machine."""


@dataclass(frozen=True, slots=True, order=True)
class Named:
    """A file, or a folder by the digest of the list of its files, under a name for readers."""

    name: str
    sha256: str
    folder: bool = False

    def descriptor(self) -> dict[str, Any]:
        return {"name": self.name, "digest": {"dirHash" if self.folder else "sha256": self.sha256}}


@dataclass(frozen=True, slots=True)
class RecipeText:
    """What was built: the recipe's name, its text, the sha256 of that, and the values of its params."""

    name: str
    text: str
    sha256: str
    params: Mapping[str, Any] = field(default_factory=dict)

    def parameters(self) -> dict[str, Any]:
        recipe = {"name": self.name, "digest": {"sha256": self.sha256}, "text": self.text}
        return {"recipe": recipe, "params": dict(self.params)}


def statement(
    outputs: Iterable[Named],
    profile: Profile,
    *,
    recipe: RecipeText | None,
    inputs: Iterable[Named] = (),
    builder: str = BUILDER,
    date: str | None = None,
) -> dict[str, Any]:
    """That ``outputs`` were made from ``inputs`` as ``recipe`` says.

    Without a ``recipe``, of which nobody is to know after a shuffle, the parameters say that they are
    withheld. ``date`` is when, if anything says so: no clock is asked.
    """
    definition: dict[str, Any] = {
        "buildType": BUILD_TYPE,
        "externalParameters": {"withheld": True} if recipe is None else recipe.parameters(),
        "internalParameters": {"profile": profile.as_json()},
    }
    dependencies = [each.descriptor() for each in sorted(set(inputs))]
    if dependencies:
        definition["resolvedDependencies"] = dependencies
    details: dict[str, Any] = {"builder": {"id": builder, "version": {"lorapipe": __version__}}}
    if date is not None:
        details["metadata"] = {"finishedOn": date}
    return {
        "_type": STATEMENT_TYPE,
        "subject": [each.descriptor() for each in sorted(set(outputs))],
        "predicateType": PREDICATE_TYPE,
        "predicate": {"buildDefinition": definition, "runDetails": details},
    }


def statement_bytes(made: Mapping[str, Any]) -> bytes:
    """The statement as it is written and signed: the same bytes for the same build."""
    return (json.dumps(made, indent=2, sort_keys=True, ensure_ascii=True) + "\n").encode()


def subjects_of(found: Mapping[str, Any], where: str) -> tuple[Named, ...]:
    """The files that a statement of anybody's is about.

    Raises :class:`~lorapipe.errors.InputError`: ``not-a-statement``, ``unknown-predicate``,
    ``bad-subject`` (one without a name or a sha256).
    """
    if found.get("_type") != STATEMENT_TYPE:
        raise InputError(
            "not-a-statement",
            "is no in-toto statement of version 1",
            hint="'lorapipe attest' writes them",
            where=where,
        )
    if found.get("predicateType") != PREDICATE_TYPE:
        raise InputError(
            "unknown-predicate",
            "states something else than how files were built",
            hint=f"its predicateType should be {PREDICATE_TYPE}",
            where=where,
        )
    subjects = found.get("subject")
    if not isinstance(subjects, list) or not subjects:
        raise _bad_subject("names no files", where)
    return tuple(_subject(each, where) for each in subjects)


def _subject(found: object, where: str) -> Named:
    name = found.get("name") if isinstance(found, dict) else None
    digests = found.get("digest") if isinstance(found, dict) else None
    sha256 = digests.get("sha256") if isinstance(digests, dict) else None
    if not isinstance(name, str) or not is_sha256(sha256):
        raise _bad_subject("names a file without a name or a sha256", where)
    return Named(name, str(sha256))


def _bad_subject(what: str, where: str) -> InputError:
    return InputError("bad-subject", what, hint="make it again with 'lorapipe attest'", where=where)
