"""Reading provenance back: what the metadata of a file tell of its making, taken from strangers.

The text is canonical, and it holds the digest of the lineage that its steps describe. So it is
read in full or not at all: what is not ours, or was changed, does not come out the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any, NoReturn

from lorapipe.errors import InputError
from lorapipe.plan.lineage import Lineage, Profile, Source, canonical
from lorapipe.plan.provenance import DATE, FOLDER, KEY, VERSION, steps_of
from lorapipe.store.digest import is_sha256

__all__ = ["LONGEST", "Told", "read_account", "read_provenance"]

LONGEST = 4_000_000
"""Characters of provenance that are read; a recipe of 2,000 steps makes a tenth of that."""

_ALTERED = "the recipe may be with whoever made the file"
_WITHOUT = (
    "another program wrote it, or it was saved as .ckpt, .pt or .bin, after a shuffle, or with"
    " 'provenance: none': the recipe and its lock are with whoever made it"
)


@dataclass(frozen=True, slots=True)
class Told:
    """How a file was made: the ``lineage`` of its ``save`` step, and the numbers' profile.

    ``folder`` says that it was one file of an output folder. ``epoch`` is the
    ``SOURCE_DATE_EPOCH`` (seconds since 1970) whose date the file carries, if it does.
    """

    lineage: Lineage
    profile: Profile
    folder: bool = False
    epoch: int | None = None

    @property
    def sources(self) -> tuple[Source, ...]:
        """The inputs, each once, in the order in which they are told of."""
        found = (ancestor.source for ancestor in self.lineage.ancestors())
        return tuple({source.sha256: source for source in found if source is not None}.values())


def read_provenance(metadata: Mapping[str, str], where: str) -> Told:
    """What a file's metadata tell of its making; ``where`` is the file's name, for errors.

    Raises :class:`~lorapipe.errors.InputError`: ``no-provenance``, ``provenance-minimal``,
    ``provenance-newer``, ``provenance-malformed``, ``provenance-altered`` (its steps are not those
    that its digest stands for).
    """
    text = metadata.get(KEY)
    if text is None:
        raise InputError("no-provenance", "it does not tell how it was made", hint=_WITHOUT, where=where)
    told = read_account(text, where)
    return replace(told, epoch=_epoch(metadata, told.lineage))


def read_account(text: str, where: str) -> Told:
    """What :func:`~lorapipe.plan.provenance.account` told of a result of any kind.

    Raises as :func:`read_provenance`.
    """
    try:
        told = _object(text)
        if "steps" not in told:
            _refuse_minimal()
        lineage, profile = _lineage(told), _profile(told.get("profile"))
    except InputError as error:
        raise error.located(where=where) from None
    return Told(lineage, profile, told.get("format") == FOLDER)


def _object(text: str) -> Mapping[str, Any]:
    """The object of a canonical text of a version that is known."""
    if len(text) > LONGEST:
        raise _malformed(f"has {len(text)} characters: at most {LONGEST} are read")
    try:
        found = json.loads(text)
        same = canonical(found) == text
    except (ValueError, RecursionError):  # not JSON; or NaN, or lists in lists without end
        raise _malformed("is not the JSON it should be") from None
    if not isinstance(found, dict):
        raise _malformed("is not a map")
    version = found.get("version")
    if isinstance(version, int) and version > VERSION:
        raise InputError(
            "provenance-newer",
            f"what it tells of its making is of version {version}, written by a newer lorapipe",
            hint="update lorapipe",
        )
    if not same or type(version) is not int or version < 1:
        raise _malformed("is not in the one form that lorapipe writes")
    return found


def _refuse_minimal() -> NoReturn:
    raise InputError(
        "provenance-minimal",
        "it tells the digest of its making, not the steps",
        hint="it was saved with 'provenance: minimal': the recipe and its lock are with whoever made it",
    )


def _lineage(told: Mapping[str, Any]) -> Lineage:
    """The lineage whose digest ``told`` gives, from its steps and from nothing else."""
    steps = told["steps"]
    if not isinstance(steps, dict):
        raise _malformed("has steps that are not a map")
    lineages: dict[str, Lineage] = {}
    for name in _in_order(steps):
        lineages[name] = _step(name, steps[name], lineages)
    wanted = told.get("result")
    found = next((lineage for lineage in lineages.values() if lineage.digest == wanted), None)
    if found is None or steps_of(found) != steps:
        raise _altered()
    return found


def _in_order(steps: Mapping[str, Any]) -> list[str]:
    """The names of the steps, inputs first; a step that is its own ancestor is refused."""
    ordered: dict[str, None] = {}
    entered: set[str] = set()
    pending = list(steps)
    while pending:
        name = pending[-1]
        if name in ordered:
            pending.pop()
        elif name in entered:  # all above it are done
            ordered[name] = None
        else:
            entered.add(name)
            above = [parent for parent in _names(name, steps[name]) if parent not in ordered]
            unknown = next((parent for parent in above if parent not in steps), None)
            if unknown is not None:
                raise _malformed(f"has a step that takes '{_short(unknown)}', which is not there")
            if any(parent in entered for parent in above):
                raise _malformed(f"has a step that is among its own inputs: '{_short(name)}'")
            pending += above
    return list(ordered)


def _names(name: str, step: object) -> list[str]:
    """The steps that a step takes; what it says of them is checked here."""
    inputs = step.get("inputs", {}) if isinstance(step, dict) else None
    if not isinstance(inputs, dict) or not all(isinstance(port, list) for port in inputs.values()):
        raise _bad(name)
    terms = [term for port in inputs.values() for term in port]
    for term in terms:
        if not isinstance(term, list) or [type(part) for part in term] != [str, float]:
            raise _bad(name)
    return [parent for parent, _ in terms]


def _step(name: str, step: Mapping[str, Any], above: Mapping[str, Lineage]) -> Lineage:
    kind, version, params = step.get("kind"), step.get("version"), step.get("params", {})
    if not isinstance(kind, str) or type(version) is not int or not isinstance(params, dict):
        raise _bad(name)
    inputs = {
        port: tuple((weight, above[parent]) for parent, weight in terms)
        for port, terms in step.get("inputs", {}).items()
    }
    return Lineage(kind, version, params, inputs, _source(name, step.get("file")))


def _source(name: str, file: object) -> Source | None:
    if file is None:
        return None
    if (
        not isinstance(file, dict)
        or not is_sha256(file.get("sha256"))
        or not isinstance(file.get("name"), str)
    ):
        raise _bad(name)
    # A bare name, as every lorapipe writes it: another would be read outside the folder of inputs.
    if file["name"] in ("", ".", "..") or "/" in file["name"] or "\0" in file["name"]:
        raise _malformed(f"has a file name that is none: '{_short(file['name'])}'")
    return Source(file["name"], file["sha256"])


def _profile(told: object) -> Profile:
    fields = ("torch", "device", "compute")
    if not isinstance(told, dict) or not all(isinstance(told.get(each), str) for each in fields):
        raise _malformed("has a profile that is none")
    return Profile(*(told[each] for each in fields))


def _epoch(metadata: Mapping[str, str], lineage: Lineage) -> int | None:
    given = lineage.params.get("metadata")
    if DATE not in metadata or (isinstance(given, dict) and DATE in given):
        return None
    try:
        date = datetime.strptime(metadata[DATE], "%Y-%m-%dT%H:%M:%SZ")
    except ValueError:
        return None
    return int(date.replace(tzinfo=timezone.utc).timestamp())


def _altered() -> InputError:
    message = "the steps that it tells of are not those that its digest stands for"
    return InputError("provenance-altered", message, hint=_ALTERED)


def _bad(name: str) -> InputError:
    return _malformed(f"has a step that is none: '{_short(name)}'")


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."


def _malformed(what: str) -> InputError:
    return InputError("provenance-malformed", f"what it tells of its making {what}", hint=_ALTERED)
