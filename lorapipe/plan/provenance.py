"""What an output's metadata says of how it was made: canonical, so equal keys give equal bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timezone
from types import MappingProxyType
from typing import Any

from lorapipe.errors import UsageError
from lorapipe.plan.lineage import Lineage, Profile, canonical, content_key
from lorapipe.remote.url import Location

__all__ = [
    "DATE",
    "FOLDER",
    "KEY",
    "VERSION",
    "account",
    "output_key",
    "provenance",
    "source_date",
    "steps_of",
]

KEY = "lorapipe.provenance"
"""The metadata key under which provenance is written."""

VERSION = 1
"""Of what stands under :data:`KEY`; a reader refuses a later one."""

FOLDER = "folder"
"""The format of an output that is a folder of files."""

DATE = "modelspec.date"
"""The metadata key of the date that ``SOURCE_DATE_EPOCH`` gives."""

_EPOCH = "SOURCE_DATE_EPOCH"


def provenance(
    lineage: Lineage, profile: Profile, detail: str, hidden: bool, written: str = "safetensors"
) -> Mapping[str, str]:
    """Metadata for an output: ``detail`` is full, minimal (a digest only) or none.

    ``lineage`` is that of the ``save`` step, whose options decide bytes as any other's;
    ``written`` is the format: of a folder each file has this metadata. After a shuffle
    (``hidden``) nothing is said, whatever the detail: hashes, names, weights and seeds of
    the sources would undo what the shuffle is for. :mod:`~lorapipe.plan.told` reads it.
    """
    if hidden or detail == "none":
        return MappingProxyType({})
    told: dict[str, Any] = {
        "version": VERSION,
        "format": written,
        "profile": profile.as_json(),
        "result": lineage.digest,
    }
    if detail == "full":
        told["steps"] = steps_of(lineage)
    return MappingProxyType({KEY: canonical(told)})


def account(lineage: Lineage, profile: Profile) -> str:
    """All that led to a result, in the form of full provenance: what the store keeps beside its key."""
    return provenance(lineage, profile, "full", hidden=False)[KEY]


def source_date(environment: Mapping[str, str]) -> str | None:
    """The date of what is built, if ``SOURCE_DATE_EPOCH`` says one (seconds since 1970): no other is known.

    >>> source_date({"SOURCE_DATE_EPOCH": "1000000000"})
    '2001-09-09T01:46:40Z'

    Raises :class:`~lorapipe.errors.UsageError` ``bad-source-date``.
    *Source*: reproducible-builds.org, "SOURCE_DATE_EPOCH specification" 1.1.
    """
    text = environment.get(_EPOCH)
    if not text:
        return None
    try:
        date = datetime.fromtimestamp(int(text), timezone.utc)
    except (ValueError, OverflowError, OSError):
        raise UsageError(
            "bad-source-date",
            f"{_EPOCH} is no date: '{text[:40]}'",
            hint="it is a number of seconds, or unset",
        ) from None
    return date.strftime("%Y-%m-%dT%H:%M:%SZ")


def output_key(
    lineage: Lineage,
    profile: Profile,
    path: Location,
    hidden: bool,
    *,
    folder: bool = False,
    date: str | None = None,
) -> tuple[str, str, Mapping[str, str]]:
    """The key of a saved file or ``folder``, its preimage, and the provenance written into the file.

    ``lineage`` is that of the ``save`` step. In the key is what decides the bytes of the
    file and not of the value: its format (the suffixes of pickles share one) and what
    its metadata tells, ``date`` included.
    """
    file_format = "safetensors" if path.suffix.lower() == ".safetensors" else "pickle"
    file_format = FOLDER if folder else file_format
    said = provenance(lineage, profile, str(lineage.params["provenance"]), hidden, file_format)
    if date is not None and file_format != "pickle":
        said = MappingProxyType({**said, DATE: date})
    key, preimage = content_key(lineage, profile, {"format": file_format, **said})
    return key, preimage, said


def steps_of(lineage: Lineage) -> dict[str, Any]:
    """The lineage as steps named by kind and topological order: ``load-1``, ``concat-1``."""
    counts: Counter[str] = Counter()
    names: dict[str, str] = {}
    steps: dict[str, Any] = {}
    for ancestor in lineage.ancestors():
        counts[ancestor.kind] += 1
        name = names[ancestor.digest] = f"{ancestor.kind}-{counts[ancestor.kind]}"
        steps[name] = _step(ancestor, names)
    return steps


def _step(lineage: Lineage, names: Mapping[str, str]) -> dict[str, Any]:
    step: dict[str, Any] = {"kind": lineage.kind, "version": lineage.version}
    if lineage.params:
        step["params"] = dict(lineage.params)
    if lineage.inputs:
        step["inputs"] = {
            port: [[names[parent.digest], weight] for weight, parent in terms]
            for port, terms in lineage.inputs.items()
        }
    if lineage.source is not None:
        step["file"] = {"name": lineage.source.name, "sha256": lineage.source.sha256}
    return step
