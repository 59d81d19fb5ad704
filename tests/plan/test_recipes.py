"""Two recipes by what they mean: text, ids and order are no part of it; nothing need exist."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from lorapipe.plan.recipes import RecipeDiff, diff_recipes
from lorapipe.recipe.model import Recipe, Step
from lorapipe.recipe.parsing import parse

BASE = """
lorapipe: 1
steps:
  a: {load: a.safetensors}
  b: {load: b.safetensors}
  both: {concat: {a: 0.7, b: -0.4}}
  small: {svd-resize: both, rank: 32}
  out: {save: small, to: x.safetensors, dtype: fp16}
"""


def unknown(recipe: Recipe, step: Step) -> str | None:
    return None


def by(digests: Mapping[str, str]) -> Callable[[Recipe, Step], str | None]:
    return lambda recipe, step: digests.get(f"{recipe.file}:{step.params['load']}")


def diff(new: str, old: str = BASE, digest: Callable[[Recipe, Step], str | None] = unknown) -> RecipeDiff:
    return diff_recipes(parse(old, "old.yaml"), parse(new, "new.yaml"), digest)


def test_a_recipe_means_what_it_means() -> None:
    found = diff(BASE)
    assert not found.differs
    assert found.ends == {"out": "out"}


@pytest.mark.parametrize(
    "same",
    [
        BASE.replace("lorapipe: 1", "# a comment\nlorapipe: 1\nname: x\ndescription: y"),
        BASE.replace("both", "mix").replace("small", "little").replace("out:", "end:"),
        BASE.replace("rank: 32", "rank: $(r)").replace("steps:", "params: {r: 32}\nsteps:"),
        BASE.replace("  a: {load: a.safetensors}\n", "") + "  a: {load: a.safetensors}\n",
        BASE + "  unused: {scale: b, by: 2}\n",
        BASE.replace("steps:", "defaults: {compute: float64, device: auto}\nsteps:"),
    ],
    ids=["comments", "ids", "params", "order", "a step that leads nowhere", "defaults"],
)
def test_text_alone_is_no_difference(same: str) -> None:
    assert same != BASE
    assert not diff(same).differs


@pytest.mark.parametrize(
    ("change", "step", "words"),
    [
        (("rank: 32", "rank: 16"), "small", ("rank 32 -> 16",)),
        (("-0.4", "-0.5"), "both", ("b -0.4 -> -0.5",)),
        (("{a: 0.7, b: -0.4}", "{b: -0.4, a: 0.7}"), "both", ("order a, b -> b, a",)),
        (("dtype: fp16", "dtype: bf16"), "out", ("dtype fp16 -> bf16",)),
        (("load: b.", "load: c."), "b", ("file b.safetensors -> c.safetensors",)),
        (("save: small", "save: both"), "both", ("svd-resize of it is not there any more",)),
    ],
)
def test_a_change_is_told_at_its_step_in_words(
    change: tuple[str, str], step: str, words: tuple[str, ...]
) -> None:
    found = diff(BASE.replace(*change))
    assert found.steps == {step: words}
    assert (found.added, found.removed, found.quiet, found.settings) == ((), (), {}, ())


def test_a_step_that_is_new_in_the_middle_is_told() -> None:
    new = BASE.replace("svd-resize: both", "svd-resize: mixed").replace(
        "  small", "  mixed: {shuffle: both, seed: 1}\n  small"
    )
    assert diff(new).steps == {"mixed": ("shuffle was not there",)}


def test_outputs_and_checks_that_came_or_went_are_named() -> None:
    more = BASE + "  raw: {save: both, to: y.safetensors}\n  ok: {check: small, finite: true}\n"
    assert diff(more).added == ("raw", "ok")
    assert diff(BASE, more).removed == ("raw", "ok")
    assert diff(more).steps == {}


def test_an_output_that_goes_elsewhere_changes_no_byte() -> None:
    found = diff(BASE.replace("x.safetensors", "y.safetensors"))
    assert found.quiet == {"out": ("to x.safetensors -> y.safetensors",)}
    assert (found.steps, found.ends) == ({}, {"out": "out"})
    assert found.differs


def test_outputs_are_paired_by_their_file_before_their_id() -> None:
    two = BASE + "  raw: {save: both, to: y.safetensors}\n"
    swapped = two.replace("x.safe", "z.safe").replace("y.safe", "x.safe").replace("z.safe", "y.safe")
    assert diff(swapped, two).ends == {"out": "raw", "raw": "out"}


def test_settings_are_told() -> None:
    new = BASE.replace("steps:", "defaults: {compute: float32, device: cpu}\nsteps:")
    assert diff(new).settings == ("device auto -> cpu", "compute float64 -> float32")


def test_a_file_of_another_name_and_the_same_sha256_changes_no_byte() -> None:
    digests = {
        f"{file}:{name}.safetensors": sha
        for file, name, sha in (
            ("old.yaml", "a", "1" * 64),
            ("old.yaml", "b", "2" * 64),
            ("new.yaml", "a", "1" * 64),
            ("new.yaml", "c", "2" * 64),
        )
    }
    found = diff(BASE.replace("load: b.", "load: c."), digest=by(digests))
    assert found.steps == {}
    assert found.quiet == {"b": ("load b.safetensors -> c.safetensors",)}


def test_a_file_of_the_same_name_and_another_sha256_is_another() -> None:
    digests = {
        f"{file}:{name}.safetensors": sha
        for file, name, sha in (
            ("old.yaml", "a", "1" * 64),
            ("old.yaml", "b", "2" * 64),
            ("new.yaml", "a", "1" * 64),
            ("new.yaml", "b", "3" * 64),
        )
    }
    assert diff(BASE, digest=by(digests)).steps == {"b": ("sha256 222222222222... -> 333333333333...",)}


def test_a_file_of_which_one_digest_is_missing_counts_as_the_same() -> None:
    digests = {f"old.yaml:{name}.safetensors": "1" * 64 for name in "ab"}
    assert not diff(BASE, digest=by(digests)).differs


def test_policies_change_no_byte() -> None:
    merge = """
lorapipe: 1
steps:
  base: {load: m.safetensors}
  a: {load: a.safetensors}
  m: {merge-into-checkpoint: base, loras: {a: 1.0}}
  out: {save: m, to: x.safetensors}
"""
    found = diff(merge.replace("1.0}}", "1.0}, unmatched: warn}"), merge)
    assert found.quiet == {"m": ("unmatched error -> warn",)}


def test_recipes_that_have_nothing_in_common_are_told_so() -> None:
    other = "lorapipe: 1\nsteps:\n  z: {load: z.safetensors}\n  ok: {check: z, finite: true}\n"
    found = diff(other)
    assert (found.added, found.removed, found.ends) == (("ok",), ("out",), {})
