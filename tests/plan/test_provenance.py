"""What an output's metadata tells of its making, and what it keeps to itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lorapipe.errors import UsageError
from lorapipe.plan.lineage import Lineage, Profile, Source
from lorapipe.plan.provenance import DATE, KEY, output_key, provenance, source_date, steps_of

_PROFILE = Profile(torch="2.13.0", device="cpu", compute="float64")
_A = Lineage("load", 1, {}, source=Source("a.safetensors", "aa" * 32))
_B = Lineage("load", 1, {}, source=Source("b.safetensors", "bb" * 32))
_MIX = Lineage("concat", 1, {}, {"concat": ((0.7, _A), (-0.4, _B))})


def test_steps_are_named_by_kind_and_order_not_by_the_recipes_ids() -> None:
    assert steps_of(_MIX) == {
        "load-1": {"kind": "load", "version": 1, "file": {"name": "a.safetensors", "sha256": "aa" * 32}},
        "load-2": {"kind": "load", "version": 1, "file": {"name": "b.safetensors", "sha256": "bb" * 32}},
        "concat-1": {
            "kind": "concat",
            "version": 1,
            "inputs": {"concat": [["load-1", 0.7], ["load-2", -0.4]]},
        },
    }


def test_a_file_that_two_steps_load_is_told_of_once() -> None:
    twice = Lineage("concat", 1, {}, {"concat": ((1.0, _A), (2.0, Lineage("load", 1, {}, source=_A.source)))})

    assert list(steps_of(twice)) == ["load-1", "concat-1"]


def test_full_provenance_is_one_canonical_text() -> None:
    told = provenance(_MIX, _PROFILE, "full", hidden=False)

    assert set(told) == {KEY}
    read = json.loads(told[KEY])
    assert read["result"] == _MIX.digest
    assert read["steps"] == steps_of(_MIX)
    assert json.dumps(read, sort_keys=True, separators=(",", ":")) == told[KEY]


def test_minimal_provenance_names_no_file_and_no_step() -> None:
    told = json.loads(provenance(_MIX, _PROFILE, "minimal", hidden=False)[KEY])

    assert set(told) == {"version", "format", "profile", "result"}


def test_none_says_nothing() -> None:
    assert provenance(_MIX, _PROFILE, "none", hidden=False) == {}


def test_after_a_shuffle_nothing_is_said_whatever_was_asked_for() -> None:
    assert provenance(_MIX, _PROFILE, "full", hidden=True) == {}
    assert provenance(_MIX, _PROFILE, "minimal", hidden=True) == {}


_SAVED = Lineage("save", 1, {"provenance": "none"}, {"save": ((1.0, _MIX),)})


@pytest.mark.parametrize("environment", [{}, {"SOURCE_DATE_EPOCH": ""}])
def test_without_a_source_date_there_is_none(environment: dict[str, str]) -> None:
    assert source_date(environment) is None


def test_the_source_date_is_in_universal_time() -> None:
    assert source_date({"SOURCE_DATE_EPOCH": "0"}) == "1970-01-01T00:00:00Z"


@pytest.mark.parametrize("text", ["now", "1.5", "9" * 30])
def test_a_source_date_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        source_date({"SOURCE_DATE_EPOCH": text})
    assert str(caught.value) == (
        f"error: SOURCE_DATE_EPOCH is no date: '{text}' - it is a number of seconds, or unset"
    )


def test_a_date_is_written_and_is_in_the_key_where_the_file_holds_metadata() -> None:
    plain, _, said = output_key(_SAVED, _PROFILE, Path("o.safetensors"), hidden=False)
    assert said == {}
    dated, _, said = output_key(_SAVED, _PROFILE, Path("o.safetensors"), hidden=False, date="2001")
    assert said == {DATE: "2001"}
    assert dated != plain
    pickle = [output_key(_SAVED, _PROFILE, Path("o.pt"), hidden=False, date=date) for date in (None, "2001")]
    assert pickle[0] == pickle[1]


def test_a_folder_has_another_key_than_a_file_and_says_the_same_of_its_making() -> None:
    path = Path("o")
    folder, _, told = output_key(_SAVED, _PROFILE, path, hidden=False, folder=True, date="2001")
    file, _, _ = output_key(_SAVED, _PROFILE, path.with_suffix(".safetensors"), hidden=False, date="2001")
    pickle, _, _ = output_key(_SAVED, _PROFILE, path, hidden=False, date="2001")
    assert len({folder, file, pickle}) == 3
    assert told == {DATE: "2001"}


def test_provenance_tells_the_options_of_the_save_and_not_where_it_went() -> None:
    saved = Lineage("save", 1, {"provenance": "full", "dtype": "fp16"}, {"save": ((1.0, _MIX),)})
    _, _, said = output_key(saved, _PROFILE, Path("/home/me/o.safetensors"), hidden=False)
    told = json.loads(said[KEY])

    assert told["steps"]["save-1"]["params"] == {"provenance": "full", "dtype": "fp16"}
    assert told["result"] == saved.digest
    assert "/home" not in said[KEY]


@pytest.mark.parametrize(("folder", "written"), [(True, "folder"), (False, "safetensors")])
def test_provenance_tells_whether_a_folder_was_written(folder: bool, written: str) -> None:
    saved = Lineage("save", 1, {"provenance": "minimal"}, {"save": ((1.0, _MIX),)})
    _, _, said = output_key(saved, _PROFILE, Path("o.safetensors"), hidden=False, folder=folder)
    assert json.loads(said[KEY])["format"] == written
