"""Keys: what changes them, what does not, and how values are encoded in them."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorapipe.plan.lineage import Lineage, Profile, Source, canonical, content_key

_PROFILE = Profile(torch="2.13.0", device="cpu", compute="float64")
_A = Source("a.safetensors", "aa" * 32)
_B = Source("b.safetensors", "bb" * 32)


def _load(source: Source = _A, **params: str) -> Lineage:
    return Lineage("load", 1, params, source=source)


def _concat(*terms: tuple[float, Lineage]) -> Lineage:
    return Lineage("concat", 1, {}, {"concat": terms})


def test_a_digest_is_the_sha256_of_the_preimage() -> None:
    lineage = _concat((0.5, _load()))

    text = json.dumps(lineage.preimage(), sort_keys=True, separators=(",", ":"))

    assert lineage.digest == hashlib.sha256(text.encode()).hexdigest()


def test_a_key_is_the_sha256_of_the_text_kept_beside_the_entry() -> None:
    key, preimage = content_key(_load(), _PROFILE)

    assert key == hashlib.sha256(preimage.encode()).hexdigest()
    assert json.loads(preimage)["profile"] == {"torch": "2.13.0", "device": "cpu", "compute": "float64"}


@pytest.mark.parametrize(
    "other",
    [
        _concat((0.5, _load()), (1.0, _load(_B))),
        _concat((1.0, _load(_B)), (0.7, _load())),
        _concat((0.7, _load(_B)), (1.0, _load())),
        _concat((0.7, _load(family="sd1")), (1.0, _load(_B))),
        replace(_concat((0.7, _load()), (1.0, _load(_B))), version=2),
        replace(_concat((0.7, _load()), (1.0, _load(_B))), kind="sum"),
        replace(_concat((0.7, _load()), (1.0, _load(_B))), params={"seed": 0}),
    ],
    ids=["weight", "order", "which", "an ancestor's option", "version", "kind", "option"],
)
def test_whatever_decides_a_result_changes_its_digest(other: Lineage) -> None:
    assert _concat((0.7, _load()), (1.0, _load(_B))).digest != other.digest


def test_the_name_of_an_input_file_is_not_in_the_digest() -> None:
    renamed = Source("renamed.safetensors", _A.sha256)

    assert _load(renamed).digest == _load().digest


@pytest.mark.parametrize("field", ["torch", "device", "compute"])
def test_the_numeric_profile_is_in_the_key(field: str) -> None:
    other = replace(_PROFILE, **{field: "other"})

    assert content_key(_load(), other)[0] != content_key(_load(), _PROFILE)[0]


def test_what_decides_a_file_but_not_a_value_is_in_the_key_alone() -> None:
    assert content_key(_load(), _PROFILE, {"format": "pickle"})[0] != content_key(_load(), _PROFILE)[0]


def test_integers_floats_and_truths_are_different_values() -> None:
    texts = {canonical(value) for value in (1, 1.0, True, "1", None)}

    assert len(texts) == 5


def test_nan_has_no_canonical_text() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical(float("nan"))


@given(st.dictionaries(st.text(), st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False))))
@settings(deadline=None, max_examples=50)
def test_the_order_of_a_map_is_not_in_its_canonical_text(values: dict[str, float]) -> None:
    backwards = dict(reversed(list(values.items())))

    assert canonical(values) == canonical(backwards)
    assert json.loads(canonical(values)) == values


def test_ancestors_come_inputs_first_and_each_once() -> None:
    base = _load()
    top = _concat((1.0, _concat((2.0, base))), (3.0, base))

    found = list(top.ancestors())

    assert [lineage.digest for lineage in found] == [
        base.digest,
        _concat((2.0, base)).digest,
        top.digest,
    ]


def test_a_deep_diamond_takes_no_longer_than_its_number_of_steps() -> None:
    lineage = _load()
    started = time.monotonic()
    for _ in range(200):
        lineage = _concat((1.0, lineage), (1.0, lineage))

    assert len(list(lineage.ancestors())) == 201
    assert time.monotonic() - started < 5


def test_a_chain_longer_than_pythons_stack_has_all_its_ancestors() -> None:
    lineage = Lineage("load", 1, {}, source=Source("a.safetensors", "aa" * 32))
    for factor in range(3_000):
        lineage = Lineage("scale", 1, {"by": float(factor)}, {"scale": ((1.0, lineage),)})
    factors = [ancestor.params.get("by") for ancestor in lineage.ancestors()]
    assert factors == [None, *map(float, range(3_000))]
