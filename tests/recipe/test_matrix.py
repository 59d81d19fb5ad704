"""A recipe with a matrix: its axes, and the combinations of their values."""

from __future__ import annotations

from lorapipe.recipe.parsing import parse

SWEEP = """\
lorapipe: 1
matrix:
  strength: [0.4, 0.8]
  rank: [4, 8, 16]
  exclude: [{strength: 0.4, rank: 16}]
  include: [{strength: 1.2, rank: 64}]
steps:
  a: {load: a.safetensors}
  b: {load: b.safetensors}
  both: {concat: {a: $(strength), b: -1.0}}
  small: {svd-resize: both, rank: $(rank)}
  lora: {save: small, to: out/$(strength)-$(rank).safetensors}
"""


def test_every_value_goes_with_every_other_but_what_is_excluded_and_with_what_is_included() -> None:
    recipe = parse(SWEEP)
    assert [tuple(variant.values()) for variant in recipe.variants] == [
        (0.4, 4),
        (0.4, 8),
        (0.8, 4),
        (0.8, 8),
        (0.8, 16),
        (1.2, 64),
    ]
    assert recipe.matrix == {"strength": (0.4, 0.8, 1.2), "rank": (4, 8, 16, 64)}


def test_a_recipe_without_a_matrix_has_no_axes_and_no_variants() -> None:
    recipe = parse("{lorapipe: 1, steps: {a: {load: f}}}")
    assert (recipe.matrix, recipe.variants) == ({}, ())
    assert (recipe.steps["a"].written, recipe.steps["a"].axes) == ("a", {})
