"""What a plan finds wrong between steps: outputs that stand in each other's way."""

from __future__ import annotations

import pytest

from lorapipe.build.run import plan
from lorapipe.errors import ManyErrors
from lorapipe.recipe.parsing import load_recipe

from ..bench import Bench


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("out/x.safetensors", "out/../out/x.safetensors", "'p' and 'o' write the same file"),
        ("out/x.pt", "out/x.pt/y.pt", "'p' would write into the file that 'o' writes"),
        ("out/x.pt", "out/x.pt/deep/y.pt", "'p' would write into the file that 'o' writes"),
        ("out/x.pt/y.pt", "out/x.pt", "'o' would write into the file that 'p' writes"),
        ("a.safetensors/x.pt", "y.pt", "'a.safetensors/x.pt' cannot be in 'a.safetensors', which is a file"),
    ],
)
def test_outputs_in_each_others_way_are_found_before_anything_is_built(
    bench: Bench, first: str, second: str, said: str
) -> None:
    bench.lora("a")
    path = bench.recipe(f"""
    a: {{load: a.safetensors}}
    o: {{save: a, to: {first}}}
    p: {{save: a, to: {second}}}
    """)

    with pytest.raises(ManyErrors) as caught:
        plan(load_recipe(path, {}))

    assert [error.message for error in caught.value.errors] == [said]


def test_files_beside_each_other_are_in_nobodys_way(bench: Bench) -> None:
    bench.lora("a")
    path = bench.recipe("""
    a: {load: a.safetensors}
    o: {save: a, to: new/x.pt}
    p: {save: a, to: new/deep/x.pt}
    """)

    assert len(plan(load_recipe(path, {})).pending) == 2
