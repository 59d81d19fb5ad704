"""What a plan says of the recipe as a whole."""

from __future__ import annotations

from lorapipe.build.run import plan
from lorapipe.recipe.parsing import load_recipe

from ..bench import Bench


def test_a_recipe_that_saves_nothing_is_told_so(bench: Bench) -> None:
    bench.lora("a")
    nothing = bench.recipe("    a: {load: a.safetensors}")
    assert plan(load_recipe(nothing, {})).warnings == ("no step saves anything: a run makes no file",)

    saved = bench.recipe("""
    a: {load: a.safetensors}
    o: {save: a, to: o.safetensors}
    """)
    assert plan(load_recipe(saved, {})).warnings == ()
