"""Steps of a lineage as a recipe writes them."""

from __future__ import annotations

import pytest

from lorapipe.plan.lineage import Lineage, Source
from lorapipe.plan.restoring import Found, restored_steps

A = Lineage("load", 1, {"alpha": "missing-is-rank"}, source=Source("a.safetensors", "a" * 64))
FILES = {"a" * 64: Found("loras/$(a).safetensors", "fp16")}
LOADED = {
    "load": "loras/$$(a).safetensors",
    "sha256": "a" * 64,
    "variant": "fp16",
    "alpha": "missing-is-rank",
}


def saved(value: Lineage) -> Lineage:
    return Lineage("save", 1, {"dtype": "fp16"}, {"save": ((1.0, value),)})


def test_a_step_has_its_kind_first_and_texts_stand_for_themselves() -> None:
    half = Lineage("scale", 1, {"by": 0.5}, {"scale": ((1.0, A),)})
    found = dict(restored_steps(saved(half), FILES, "o$(x).safetensors"))
    assert found == {
        "load-1": LOADED,
        "scale-1": {"scale": "load-1", "by": 0.5},
        "save-1": {"save": "scale-1", "to": "o$$(x).safetensors", "dtype": "fp16"},
    }
    assert [next(iter(body)) for body in found.values()] == ["load", "scale", "save"]


def test_what_a_port_takes_twice_is_written_twice_each_with_its_weight() -> None:
    twice = Lineage("concat", 1, {}, {"concat": ((1.0, A), (-2.0, A))})
    found = dict(restored_steps(saved(twice), FILES, "o.safetensors"))
    assert found["load-1"] == found["load-2"] == LOADED
    assert found["concat-1"] == {"concat": {"load-1": 1.0, "load-2": -2.0}}


def test_options_that_change_no_byte_are_those_with_which_no_build_is_refused() -> None:
    base = Lineage("load", 1, {}, source=Source("b.safetensors", "b" * 64))
    merge = Lineage(
        "merge-into-checkpoint", 1, {}, {"merge-into-checkpoint": ((1.0, base),), "loras": ((0.5, A),)}
    )
    files = {**FILES, "b" * 64: Found("b.safetensors")}
    found = dict(restored_steps(saved(merge), files, "o.safetensors"))
    assert found["merge-into-checkpoint-1"]["unmatched"] == "warn"


@pytest.mark.parametrize("last", [A, Lineage("scale", 1, {"by": 0.5}, {"scale": ((1.0, A),)})])
def test_the_last_step_writes_a_file(last: Lineage) -> None:
    with pytest.raises(ValueError, match="writes no file"):
        dict(restored_steps(last, FILES, "o.safetensors"))


def test_what_has_a_source_reads_a_file() -> None:
    odd = Lineage("scale", 1, {"by": 0.5}, {"scale": ((1.0, A),)}, Source("a.safetensors", "a" * 64))
    with pytest.raises(ValueError, match="'scale' reads no file"):
        dict(restored_steps(saved(odd), FILES, "o.safetensors"))
