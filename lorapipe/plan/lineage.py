"""How a value came to be, and the key that stands for it.

A lineage holds everything that decides a result's bytes and nothing else: kinds and
their versions, canonical parameters, input files by sha256, weights and their order.
Not in it: step ids, folders, the recipe's name, comments, workers, time. So equal
lineages give equal bytes, and two recipes that spell one build differently share it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lorapipe.recipe.model import JSON

__all__ = [
    "KEY_SCHEMA",
    "RESULT",
    "Lineage",
    "Profile",
    "Source",
    "canonical",
    "content_key",
    "over_results",
]

KEY_SCHEMA = 1
"""Rises when the encoding of keys changes; every key then changes with it."""


@dataclass(frozen=True, slots=True)
class Profile:
    """The numeric profile: what besides a lineage can decide the last bits."""

    torch: str
    device: str
    compute: str

    def as_json(self) -> dict[str, str]:
        return {"torch": self.torch, "device": self.device, "compute": self.compute}


@dataclass(frozen=True, slots=True)
class Source:
    """An input file: its sha256 decides bytes, its bare name only is shown."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Lineage:
    """One step and, through ``inputs``, all its ancestors.

    ``params`` are canonical (see :func:`canonical`), without those options that a
    kind declares not to change its result.
    """

    kind: str
    version: int
    params: Mapping[str, JSON]
    inputs: Mapping[str, tuple[tuple[float, Lineage], ...]] = field(default_factory=dict)
    source: Source | None = None
    digest: str = field(init=False)
    """sha256 of the lineage: equal for equal results, whatever steps are called."""

    def __post_init__(self) -> None:
        # Once and for all: hashed on demand, a chain of n diamonds would take 2^n hashes.
        object.__setattr__(self, "digest", _sha256(canonical(self.preimage())))

    def preimage(self) -> dict[str, Any]:
        """What :attr:`digest` hashes: inputs by their digests."""
        return {
            "kind": self.kind,
            "version": self.version,
            "params": dict(self.params),
            "inputs": {
                port: [[weight, lineage.digest] for weight, lineage in terms]
                for port, terms in self.inputs.items()
            },
            "sha256": self.source.sha256 if self.source else None,
        }

    def ancestors(self) -> Iterator[Lineage]:
        """Every lineage above this one, inputs first, this one last, each once."""
        seen = {self.digest}
        # A stack, not recursion: a chain may have more steps than Python has frames.
        path = [(self, self._parents())]
        while path:
            lineage, parents = path[-1]
            parent = next((each for each in parents if each.digest not in seen), None)
            if parent is None:
                path.pop()
                yield lineage
            else:
                seen.add(parent.digest)
                path.append((parent, parent._parents()))

    def _parents(self) -> Iterator[Lineage]:
        return (parent for port in sorted(self.inputs) for _, parent in self.inputs[port])


RESULT = "result"
"""In the place of a kind: a stored result, known by its bytes and not by what led to it."""


def over_results(lineage: Lineage, results: Mapping[str, str]) -> Lineage:
    """The lineage with results in place of the steps that made them, where these are known.

    ``results`` gives by a lineage's digest the sha256 of its stored result. Only the nearest
    ones count, and ``lineage`` itself stays.
    """
    done: dict[str, Lineage] = {}
    for each in lineage.ancestors():
        if each.digest in results and each is not lineage:
            done[each.digest] = Lineage(RESULT, 1, {}, source=Source("", results[each.digest]))
        else:
            inputs = {
                port: tuple((weight, done[parent.digest]) for weight, parent in terms)
                for port, terms in each.inputs.items()
            }
            done[each.digest] = replace(each, inputs=inputs)
    return done[lineage.digest]


def content_key(
    lineage: Lineage, profile: Profile, extra: Mapping[str, str] | None = None
) -> tuple[str, str]:
    """The key of a stored or written result, and the text whose sha256 it is.

    Of a lineage down to the input files it is the plan key, which is known without any data;
    of one over stored results (:func:`over_results`) the content key. ``extra`` adds what
    decides the bytes of a file but not of a value: its format and the metadata written with it.
    """
    preimage = canonical(
        {
            "key-schema": KEY_SCHEMA,
            "result": lineage.preimage(),
            "profile": profile.as_json(),
            "file": dict(extra or {}),
        }
    )
    return _sha256(preimage), preimage


def canonical(value: object) -> str:
    """JSON in exactly one way: sorted keys, no spaces, ASCII; 1, 1.0 and true differ.

    >>> canonical({"b": 1.0, "a": [1, True, None]})
    '{"a":[1,true,null],"b":1.0}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
