"""Provenance read back: what was written comes out, and what a stranger wrote is refused by name."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from lorapipe.errors import InputError
from lorapipe.plan.lineage import Lineage, Profile, Source, canonical
from lorapipe.plan.provenance import DATE, KEY, provenance
from lorapipe.plan.told import LONGEST, read_provenance

_PROFILE = Profile(torch="2.13.0", device="cpu", compute="float64")
_A = Lineage("load", 1, {"as": "lora"}, source=Source("a.safetensors", "aa" * 32))
_B = Lineage("load", 1, {}, source=Source("b.safetensors", "bb" * 32))
_MIX = Lineage("concat", 1, {}, {"concat": ((0.7, _A), (-0.4, _B))})
_SAVED = Lineage("save", 1, {"provenance": "full", "dtype": "keep"}, {"save": ((1.0, _MIX),)})

_HINT = "the recipe may be with whoever made the file"
_WITHOUT = (
    "another program wrote it, or it was saved as .ckpt, .pt or .bin, after a shuffle, or with"
    " 'provenance: none': the recipe and its lock are with whoever made it"
)

Change = Callable[[dict[str, Any]], object]


def told_with(change: Change) -> str:
    """What is told of ``_SAVED``, changed, in canonical form again."""
    found = json.loads(provenance(_SAVED, _PROFILE, "full", hidden=False)[KEY])
    change(found)
    return canonical(found)


def refusal(text: str | None) -> str:
    metadata = {} if text is None else {KEY: text}
    with pytest.raises(InputError) as caught:
        read_provenance(metadata, "x.safetensors")
    assert caught.value.exit_status == 4
    return str(caught.value)


def test_what_was_written_is_read_back() -> None:
    told = read_provenance(dict(provenance(_SAVED, _PROFILE, "full", hidden=False)), "x")

    assert told.lineage == _SAVED
    assert told.profile == _PROFILE
    assert told.sources == (_A.source, _B.source)
    assert (told.folder, told.epoch) == (False, None)


def test_a_folders_file_says_so() -> None:
    assert read_provenance(dict(provenance(_SAVED, _PROFILE, "full", False, "folder")), "x").folder


@pytest.mark.parametrize(
    ("date", "epoch"),
    [("2001-09-09T01:46:40Z", 1_000_000_000), ("1970-01-01T00:00:00Z", 0), ("soon", None), ("", None)],
)
def test_the_date_of_a_build_is_read_back_as_its_epoch(date: str, epoch: int | None) -> None:
    metadata = {**provenance(_SAVED, _PROFILE, "full", hidden=False), DATE: date}
    assert read_provenance(metadata, "x").epoch == epoch


def test_a_date_that_the_recipe_gave_is_no_epoch() -> None:
    params = {**_SAVED.params, "metadata": {DATE: "2001-09-09T01:46:40Z"}}
    saved = Lineage("save", 1, params, _SAVED.inputs)
    metadata = {**provenance(saved, _PROFILE, "full", hidden=False), DATE: "2001-09-09T01:46:40Z"}
    assert read_provenance(metadata, "x").epoch is None


def test_a_file_without_provenance_is_told_why_that_may_be() -> None:
    assert refusal(None) == f"x.safetensors: error: it does not tell how it was made - {_WITHOUT}"


def test_minimal_provenance_tells_no_recipe() -> None:
    assert refusal(provenance(_SAVED, _PROFILE, "minimal", hidden=False)[KEY]) == (
        "x.safetensors: error: it tells the digest of its making, not the steps - it was saved with"
        " 'provenance: minimal': the recipe and its lock are with whoever made it"
    )


@pytest.mark.parametrize("version", [2, 10**30])
def test_a_newer_version_is_said_to_be_newer(version: int) -> None:
    assert refusal(told_with(lambda told: told.update(version=version, steps="all new"))) == (
        f"x.safetensors: error: what it tells of its making is of version {version}, written by a newer"
        " lorapipe - update lorapipe"
    )


_TEXTS = [
    ("", "is not the JSON it should be"),
    ("{", "is not the JSON it should be"),
    ("NaN", "is not the JSON it should be"),
    ('{"version":1e999}', "is not the JSON it should be"),
    ("[" * 100_000, "is not the JSON it should be"),
    ("[" * 900 + "]" * 900, "is not a map"),
    ('{"a":' * 100_000, "is not the JSON it should be"),
    ("1" * 5_000, "is not the JSON it should be"),
    ("[]", "is not a map"),
    ('"text"', "is not a map"),
    ("{}", "is not in the one form that lorapipe writes"),
    ('{"version":true}', "is not in the one form that lorapipe writes"),
    ('{"version":0}', "is not in the one form that lorapipe writes"),
    ('{"version":-1}', "is not in the one form that lorapipe writes"),
    ('{"version":"1"}', "is not in the one form that lorapipe writes"),
    ('{"version": 1}', "is not in the one form that lorapipe writes"),
    ('{"version":1,"version":1}', "is not in the one form that lorapipe writes"),
    ('{"version":1,"a":"\u00e9"}', "is not in the one form that lorapipe writes"),
]


@pytest.mark.parametrize(("text", "what"), _TEXTS, ids=range(len(_TEXTS)))
def test_a_text_that_lorapipe_did_not_write_is_refused(text: str, what: str) -> None:
    assert refusal(text) == f"x.safetensors: error: what it tells of its making {what} - {_HINT}"


def _loop(told: dict[str, Any]) -> None:
    told["steps"]["concat-1"]["inputs"]["concat"][0][0] = "save-1"


def _itself(told: dict[str, Any]) -> None:
    told["steps"]["concat-1"]["inputs"]["concat"][0][0] = "concat-1"


_BAD: list[tuple[Change, str]] = [
    (lambda t: t.update(steps=[]), "has steps that are not a map"),
    (lambda t: t["steps"].update(x=1), "has a step that is none: 'x'"),
    (lambda t: t["steps"]["load-1"].update(kind=1), "has a step that is none: 'load-1'"),
    (lambda t: t["steps"]["load-1"].update(version="1"), "has a step that is none: 'load-1'"),
    (lambda t: t["steps"]["load-1"].update(version=True), "has a step that is none: 'load-1'"),
    (lambda t: t["steps"]["load-1"].update(params=[]), "has a step that is none: 'load-1'"),
    (lambda t: t["steps"]["load-1"].update(file="a"), "has a step that is none: 'load-1'"),
    (lambda t: t["steps"]["load-1"]["file"].update(sha256="aa"), "has a step that is none: 'load-1'"),
    (lambda t: t["steps"]["load-1"]["file"].update(name=1), "has a step that is none: 'load-1'"),
    (lambda t: t["steps"]["concat-1"].update(inputs=[]), "has a step that is none: 'concat-1'"),
    (lambda t: t["steps"]["concat-1"].update(inputs={"concat": {}}), "has a step that is none: 'concat-1'"),
    (
        lambda t: t["steps"]["concat-1"].update(inputs={"concat": ["load-1"]}),
        "has a step that is none: 'concat-1'",
    ),
    (
        lambda t: t["steps"]["concat-1"].update(inputs={"concat": [["load-1", 1]]}),
        "has a step that is none: 'concat-1'",
    ),
    (
        lambda t: t["steps"]["concat-1"].update(inputs={"concat": [[{}, 1.0]]}),
        "has a step that is none: 'concat-1'",
    ),
    (
        lambda t: t["steps"]["concat-1"].update(inputs={"concat": [["load-9", 1.0]]}),
        "has a step that takes 'load-9', which is not there",
    ),
    (lambda t: t["steps"].update({"y" * 100: 1}), f"has a step that is none: '{'y' * 77}...'"),
    (lambda t: t.update(profile=None), "has a profile that is none"),
    (lambda t: t["profile"].update(torch=2), "has a profile that is none"),
    (lambda t: t["profile"].pop("device"), "has a profile that is none"),
]


@pytest.mark.parametrize(("change", "what"), _BAD, ids=range(len(_BAD)))
def test_wrong_types_are_refused_where_they_stand(change: Change, what: str) -> None:
    assert refusal(told_with(change)) == f"x.safetensors: error: what it tells of its making {what} - {_HINT}"


@pytest.mark.parametrize("change", [_loop, _itself])
def test_a_step_among_its_own_inputs_is_refused(change: Change) -> None:
    assert "has a step that is among its own inputs" in refusal(told_with(change))


@pytest.mark.parametrize(
    "name", ["../../x", "/etc/passwd", "a/b.safetensors", "..", ".", "", "a\0b.safetensors", "/"]
)
def test_a_file_name_that_leads_elsewhere_is_refused(name: str) -> None:
    found = refusal(told_with(lambda told: told["steps"]["load-1"]["file"].update(name=name)))
    assert "has a file name that is none" in found


_LIES: list[Change] = [
    lambda t: t.update(result="0" * 64),
    lambda t: t.pop("result"),
    lambda t: t.update(result=[]),
    lambda t: t.update(steps={}),
    lambda t: t["steps"]["concat-1"]["inputs"]["concat"][0].__setitem__(1, 0.71),
    lambda t: t["steps"]["load-1"]["file"].update(sha256="ab" * 32),
    lambda t: t["steps"]["save-1"]["params"].update(dtype="fp16"),
    lambda t: t["steps"]["load-1"].update(version=2),
    lambda t: t["steps"]["load-1"].update(note="more"),
    lambda t: t["steps"].update(extra={"kind": "load", "version": 1}),
    lambda t: (
        t["steps"].update({"load-9": t["steps"].pop("load-1")})
        or t["steps"]["concat-1"]["inputs"]["concat"][0].__setitem__(0, "load-9")
    ),
    lambda t: t.update(result=_MIX.digest),
]


@pytest.mark.parametrize("change", _LIES, ids=range(len(_LIES)))
def test_steps_that_the_digest_does_not_stand_for_are_refused(change: Change) -> None:
    assert refusal(told_with(change)) == (
        f"x.safetensors: error: the steps that it tells of are not those that its digest stands for - {_HINT}"
    )


def test_ten_megabytes_are_refused_before_they_are_read() -> None:
    start = time.perf_counter()
    assert f"has 10000000 characters: at most {LONGEST} are read" in refusal("[" * 10_000_000)
    assert time.perf_counter() - start < 0.5


def test_a_chain_of_thousands_and_a_ladder_of_diamonds_are_read_in_a_moment() -> None:
    chain, ladder = _A, _A
    for factor in range(3_000):
        chain = Lineage("scale", 1, {"by": float(factor)}, {"scale": ((1.0, chain),)})
    for _ in range(200):
        ladder = Lineage("concat", 1, {}, {"concat": ((1.0, ladder), (2.0, ladder))})
    for value in (chain, ladder):
        saved = Lineage("save", 1, {}, {"save": ((1.0, value),)})
        start = time.perf_counter()
        told = read_provenance(dict(provenance(saved, _PROFILE, "full", hidden=False)), "x")
        assert time.perf_counter() - start < 2
        assert told.lineage.digest == saved.digest
