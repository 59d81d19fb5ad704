"""Two lineages side by side: each difference is named at the step where it is, and nothing else is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorapipe.plan.explain import Before, walk
from lorapipe.plan.lineage import Lineage, Profile, Source, content_key
from lorapipe.plan.provenance import account
from lorapipe.store.journal import Making, Record

_PROFILE = Profile(torch="2.13.0", device="cpu", compute="float64")


def load(name: str = "a", digit: str = "a", **params: str) -> Lineage:
    return Lineage("load", 1, params, source=Source(f"{name}.safetensors", digit * 64))


def concat(*terms: tuple[float, Lineage]) -> Lineage:
    return Lineage("concat", 1, {}, {"concat": terms})


def resize(of: Lineage, rank: int = 8, version: int = 1) -> Lineage:
    return Lineage("svd-resize", version, {"rank": rank}, {"svd-resize": ((1.0, of),)})


def scale(of: Lineage, by: float) -> Lineage:
    return Lineage("scale", 1, {"by": by}, {"scale": ((1.0, of),)})


def found(now: Lineage, before: Lineage, **names: Lineage) -> dict[str, tuple[str, ...]]:
    """The words by step; steps are called by ``names``, else by kind and file."""
    called = {each.digest: each.source.name[0] if each.source else each.kind for each in now.ancestors()}
    called |= {lineage.digest: name for name, lineage in names.items()}
    return dict(walk(now, before, called)[0])


A, B, C = load("a", "a"), load("b", "b"), load("c", "c")


def test_equal_lineages_differ_in_nothing() -> None:
    assert found(resize(concat((1.0, A), (0.5, B))), resize(concat((1.0, A), (0.5, B)))) == {}


@pytest.mark.parametrize(
    ("now", "before", "words"),
    [
        (resize(A, 8), resize(A, 16), {"svd-resize": ("rank 16 -> 8",)}),
        (resize(A, version=2), resize(A), {"svd-resize": ("version of svd-resize 1 -> 2",)}),
        (concat((1.0, A), (0.5, B)), concat((1.0, A), (0.7, B)), {"concat": ("b 0.7 -> 0.5",)}),
        (resize(load("a", "f")), resize(A), {"a": ("sha256 aaaaaaaaaaaa... -> ffffffffffff...",)}),
        (
            resize(B),
            resize(A),
            {"b": ("sha256 aaaaaaaaaaaa... -> bbbbbbbbbbbb...", "file a.safetensors -> b.safetensors")},
        ),
        (resize(load("a", family="sd1")), resize(A), {"a": ("family unset -> sd1",)}),
        (concat((1.0, A), (1.0, B)), concat((1.0, A)), {"concat": ("b unset -> 1.0",)}),
        (concat((1.0, A)), concat((1.0, A), (1.0, B)), {"concat": ("b.safetensors 1.0 -> unset",)}),
        (concat((1.0, B), (1.0, A)), concat((1.0, A), (1.0, B)), {"concat": ("order a, b -> b, a",)}),
        (resize(scale(A, 0.5)), resize(A), {"scale": ("scale was not there",)}),
        (resize(A), resize(scale(A, 0.5)), {"a": ("scale of it is not there any more",)}),
        (Lineage("shuffle", 1, {}), resize(A), {"shuffle": ("kind svd-resize -> shuffle",)}),
    ],
    ids=[
        "option", "version", "weight", "content of an input", "another input", "option of an input",
        "a term more", "a term less", "order", "a step more", "a step less", "another kind",
    ],
)  # fmt: skip
def test_each_difference_is_told_where_it_is(
    now: Lineage, before: Lineage, words: dict[str, tuple[str, ...]]
) -> None:
    assert found(now, before) == words


def test_several_differences_are_all_told_from_the_result_up() -> None:
    now = resize(concat((1.0, A), (0.5, scale(load("b", "f"), 2.0))), rank=4)
    before = resize(concat((1.0, A), (0.7, scale(B, 3.0))), rank=8)

    assert list(found(now, before).items()) == [
        ("svd-resize", ("rank 8 -> 4",)),
        ("concat", ("scale 0.7 -> 0.5",)),
        ("scale", ("by 3.0 -> 2.0",)),
        ("b", ("sha256 bbbbbbbbbbbb... -> ffffffffffff...",)),
    ]


def test_an_input_that_is_not_hashed_is_not_said_to_have_changed() -> None:
    unread = Lineage("load", 1, {}, source=Source("a.safetensors", ""))

    assert found(resize(unread), resize(A)) == {"a": ("not hashed yet, was aaaaaaaaaaaa...",)}


def test_one_input_that_two_steps_take_is_told_of_once() -> None:
    now, before = load("a", "f"), A

    told = found(concat((1.0, scale(now, 2.0)), (1.0, now)), concat((1.0, scale(before, 2.0)), (1.0, before)))

    assert told == {"a": ("sha256 aaaaaaaaaaaa... -> ffffffffffff...",)}


def test_each_step_knows_what_it_was() -> None:
    inner, was = resize(B, 4), resize(B, 8)
    now, before = concat((1.0, inner), (1.0, A)), concat((1.0, was), (1.0, A))

    _, pairs = walk(now, before, {each.digest: each.kind for each in now.ancestors()})

    assert pairs[inner.digest] is was
    assert pairs[A.digest].digest == A.digest


def test_a_deep_diamond_and_a_long_chain_are_walked_once() -> None:
    now, before = load("a", "f"), A
    for _ in range(1500):
        now, before = concat((1.0, now), (1.0, now)), concat((1.0, before), (1.0, before))

    assert found(now, before) == {"a": ("sha256 aaaaaaaaaaaa... -> ffffffffffff...",)}


lineages = st.recursive(
    st.builds(load, st.sampled_from("ab"), st.sampled_from("abc")),
    lambda inner: st.one_of(
        st.builds(resize, inner, st.integers(1, 3), st.integers(1, 2)),
        st.builds(scale, inner, st.sampled_from([0.5, 1.0])),
        st.lists(st.tuples(st.sampled_from([0.5, 1.0]), inner), min_size=1, max_size=3).map(
            lambda terms: concat(*terms)
        ),
    ),
    max_leaves=6,
)


@given(lineages, lineages)
@settings(deadline=None, max_examples=200)
def test_lineages_differ_in_words_just_where_they_differ_in_digest(now: Lineage, before: Lineage) -> None:
    called = {each.digest: f"s{n}" for n, each in enumerate(now.ancestors())}

    words, _ = walk(now, before, called)

    assert bool(words) == (now.digest != before.digest)


@given(lineages)
@settings(deadline=None, max_examples=50)
def test_what_the_store_keeps_beside_a_key_tells_the_whole_lineage(lineage: Lineage) -> None:
    key, preimage = content_key(lineage, _PROFILE)

    before = Before.of(Record("s" * 64, key, Making(preimage, account(lineage, _PROFILE))))

    assert before.told is not None
    assert before.told.lineage.digest == lineage.digest
    assert (before.told.profile, before.schema) == (_PROFILE, 1)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"version":2}', "[" * 100_000])
def test_a_record_that_cannot_be_read_tells_its_key_alone(text: str) -> None:
    key, preimage = content_key(A, _PROFILE)

    assert Before.of(Record("s", key, Making(preimage, text))) == Before("s", key)
    good = account(A, _PROFILE)
    assert Before.of(Record("s", key, Making(text, good))) == Before("s", key)


def test_a_digest_that_is_not_of_its_steps_is_not_believed() -> None:
    key, preimage = content_key(A, _PROFILE)
    forged = account(A, _PROFILE).replace("a" * 64, "b" * 64)

    assert Before.of(Record("s", key, Making(preimage, forged))).told is None


def test_a_version_is_an_own_difference_beside_the_options() -> None:
    assert found(replace(resize(A), version=3, params={"rank": 2}), resize(A)) == {
        "svd-resize": ("version of svd-resize 1 -> 3", "rank 8 -> 2")
    }
