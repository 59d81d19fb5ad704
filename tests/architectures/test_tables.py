"""Laws that every table keeps, whatever it is of."""

from __future__ import annotations

import re
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorapipe.architectures import Target, families, family
from lorapipe.architectures.catalogue import heads

NAMES = families()
NUMBER = re.compile(r"[._]\d+(?:[._]|$)")


@pytest.mark.parametrize("name", NAMES)
def test_no_name_means_two_modules_and_no_module_comes_twice(name: str) -> None:
    family(name).check()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_spelled_is_found_again_and_no_two_modules_share_a_name(name: str) -> None:
    known = family(name)
    for naming in known.namings:
        spelled = {t: stem for t in known.targets() if (stem := known.spell(t, naming)) is not None}
        assert len(set(spelled.values())) == len(spelled), naming
        assert all(known.lookup(stem) == target for target, stem in spelled.items()), naming


@pytest.mark.parametrize("name", NAMES)
def test_every_module_has_a_name_in_one_of_the_namings_or_is_the_checkpoints_alone(name: str) -> None:
    known = family(name)
    for target in known.targets():
        spelled = [known.spell(target, naming) for naming in known.namings]
        assert any(spelled) or known.place(target.key) is not None, target


@pytest.mark.parametrize("name", NAMES)
def test_reference_keys_are_in_their_own_place(name: str) -> None:
    known = family(name)
    for key in known.tensors:
        target = known.place(key)
        assert target is not None
        assert (target.key, target.parts, target.transpose) == (key, (), False)


@pytest.mark.parametrize("name", NAMES)
def test_the_modules_of_a_naming_cut_a_key_without_gap_or_overlap(name: str) -> None:
    known = family(name)
    for naming in known.namings:
        for key in known.tensors:
            parts = [part for target in known.on_key(naming, key) for part in target.parts]
            assert_covers(parts, f"{naming}: {key}")


@pytest.mark.parametrize("name", NAMES)
def test_the_tensors_of_a_folder_cover_the_keys_that_they_are_of(name: str) -> None:
    known = family(name)
    found: dict[str, list[Target]] = defaultdict(list)
    for layout in known.layouts():
        for key in layout:
            if "/" in key:
                target = known.place(key)
                assert target is not None
                found[target.key].append(target)
    for key, targets in found.items():
        assert_covers([part for target in set(targets) for part in target.parts], key)


def assert_covers(parts: list[tuple[int, int, int]], where: str) -> None:
    if not parts:
        return
    (n,) = {n for _, _, n in parts}
    assert [row for a, b, _ in sorted(parts) for row in range(a, b)] == list(range(n)), where


@pytest.mark.parametrize("name", NAMES)
def test_every_name_and_key_begins_with_a_sign_of_its_family(name: str) -> None:
    """Else recognition would not even read the table."""
    known = family(name)
    (head,) = (head for head in heads() if head.name == name)
    names = [stem for naming in known.spellings() for stem in naming]
    keys = [key for layout in known.layouts() for key in layout]
    beginnings = {NUMBER.split(text, maxsplit=1)[0] for text in (*names, *keys)}
    assert {text for text in beginnings if not head.may_know(text)} == set()


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_a_bias_stands_beside_each_weight_that_can_have_one(data: st.DataObject) -> None:
    known = family(data.draw(st.sampled_from(NAMES)))
    target = data.draw(st.sampled_from(known.targets()))
    if target.bias is None:
        assert target.kind in {"embedding", "parameter", "norm"} or not target.key.endswith("weight")
        return
    assert known.place(target.bias.key) == Target(target.component, target.bias.key, kind="bias")
    for naming in known.namings:
        assert known.spell(target.bias, naming) == known.spell(target, naming)
        beside = [t.bias for t in known.on_key(naming, target.key)]
        assert list(known.on_key(naming, target.bias.key)) == beside
