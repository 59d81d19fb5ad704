"""The comparison of bits finds a bit that differs, and says where."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from benchmarks.same_bits import COMPUTE, DTYPES, VARIANTS, Row, differing, recipe, report
from lorapipe.recipe.parsing import parse


def test_one_value_that_differs_is_counted(tmp_path: Path) -> None:
    one = {"a": torch.zeros(3, 4), "b": torch.ones(2, dtype=torch.float16)}
    two = {"a": one["a"].clone(), "b": one["b"].clone()}
    two["a"][1, 2] = 1e-30
    save_file(one, tmp_path / "one.safetensors")
    save_file(two, tmp_path / "two.safetensors")

    assert differing(tmp_path / "one.safetensors", tmp_path / "one.safetensors") == (0, 14)
    assert differing(tmp_path / "one.safetensors", tmp_path / "two.safetensors") == (1, 14)


@pytest.mark.parametrize("compute", COMPUTE)
def test_the_recipe_has_each_kind_that_computes_in_each_dtype(compute: str) -> None:
    found = parse(recipe({"base": Path("b.pt"), "a": Path("a.pt"), "b": Path("c.pt")}, compute))

    kinds = {"concat", "shuffle", "svd-resize", "merge-into-checkpoint"}
    assert {f"{kind}-{dtype}" for kind in kinds for dtype in DTYPES} <= set(found.steps)
    assert found.defaults["compute"] == compute


def test_the_table_names_the_variants_under_which_bits_differed() -> None:
    text = report([("float32", "svd-resize-fp16", Row(7, 1000, ["2 workers"]))], VARIANTS[:2])

    assert "| float32 | svd-resize | fp16 | 1,000 | 7 | `2 workers` |" in text
    assert "`1 worker`, `2 workers`" in text
