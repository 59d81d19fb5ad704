"""The commands that made the goldens, imported and run: the script's numbers where they are asked for.

``--as-computed`` recipes reproduce what kohya-ss/sd-scripts 48d368f wrote, to its own precision; the
others make the exact sum. Where the script cuts its factors off, ours is nearer to the truth.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from lorapipe.build.run import Options, build
from lorapipe.drafts.kohya import kohya_recipe
from lorapipe.recipe.draft import render
from lorapipe.recipe.parsing import load_recipe

from ..bench import Bench
from .numbers import deltas, relative

Shared = Callable[[str], Path]
Run = Callable[..., dict[str, Path]]

FP32 = 2e-6
"""Of the norm: the scripts compute in fp32."""


@pytest.fixture
def run(bench: Bench, shared: Shared) -> Run:
    """Imports the command of a golden's README and runs it on copies of its inputs; outputs by name."""

    def imported(golden: str, *, as_computed: bool) -> dict[str, Path]:
        folder = shared(f"golden/{golden}")
        for path in folder.glob("*.safetensors"):
            if not path.name.startswith("expected"):
                shutil.copy(path, bench.folder)
        (command,) = re.findall(r"python networks/\S+\.py [^`\n]+", (folder / "README.md").read_text())
        words = shlex.split(command)
        draft = kohya_recipe(words, bench.folder, bench.folder, as_computed=as_computed)
        recipe = bench.folder / "imported.yaml"
        recipe.write_text(render(draft))
        built = build(load_recipe(recipe), Options(workers=1))
        return {output.path.name: output.path for output in built.outputs}

    return imported


def total(folder: Path, ratios: Mapping[str, float]) -> dict[str, np.ndarray]:
    """The weighted sum of LoRAs in float64, module by module."""
    found: dict[str, np.ndarray] = {}
    for name, ratio in ratios.items():
        for stem, delta in deltas(folder / f"{name}.safetensors").items():
            found[stem] = found.get(stem, 0) + ratio * delta
    return found


def worst(found: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]) -> float:
    """The largest relative error of a module; the modules are the same."""
    assert set(found) == set(reference)
    return max(relative(found[stem], reference[stem]) for stem in reference)


JOINS = [
    ("concat_sd15", {"a": 1.0, "b": -1.0}),
    ("concat_ratio_shuffle_sd15", {"a": 0.5, "b": -2.0}),
    ("merge_sd15", {"a": 0.6, "b": 0.8}),
    ("merge_three_noalpha_sd15", None),
]


@pytest.mark.parametrize("golden", [golden for golden, _ in JOINS])
def test_a_join_as_computed_has_the_scripts_deltas(run: Run, shared: Shared, golden: str) -> None:
    (out,) = run(golden, as_computed=True).values()
    assert worst(deltas(out), deltas(shared(f"golden/{golden}/expected.safetensors"))) < FP32


@pytest.mark.parametrize(("golden", "ratios"), [join for join in JOINS if join[1] is not None])
def test_a_join_as_meant_is_the_exact_sum(
    run: Run, shared: Shared, golden: str, ratios: Mapping[str, float]
) -> None:
    (out,) = run(golden, as_computed=False).values()
    assert worst(deltas(out), total(shared(f"golden/{golden}"), ratios)) < FP32


@pytest.mark.parametrize("as_computed", [False, True])
def test_the_slices_of_a_dylora_are_the_scripts(run: Run, shared: Shared, as_computed: bool) -> None:
    outputs = run("dylora_sd15", as_computed=as_computed)
    assert sorted(outputs) == [
        "expected-0002.safetensors",
        "expected-0004.safetensors",
        "expected-0006.safetensors",
    ]
    for name, path in outputs.items():
        assert worst(deltas(path), deltas(shared(f"golden/dylora_sd15/{name}"))) < FP32


@pytest.mark.parametrize("as_computed", [False, True])
def test_a_resize_to_a_rank_is_the_scripts(run: Run, shared: Shared, as_computed: bool) -> None:
    (out,) = run("resize_fixed_sd15", as_computed=as_computed).values()
    expected = deltas(shared("golden/resize_fixed_sd15/expected.safetensors"))
    given = deltas(shared("golden/resize_fixed_sd15/a.safetensors"))
    ours = deltas(out)
    for stem, theirs in expected.items():
        # Both are nearest; two that are equally near may differ, so errors are what is compared.
        assert relative(ours[stem], given[stem]) <= relative(theirs, given[stem]) * (1 + 1e-5) + FP32


@pytest.mark.parametrize("golden", ["merge_ckpt_flux", "merge_ckpt_flux_diffusers"])
@pytest.mark.parametrize("as_computed", [False, True])
def test_a_merge_into_flux_is_the_scripts_to_its_rounding(
    run: Run, shared: Shared, golden: str, as_computed: bool
) -> None:
    (out,) = run(golden, as_computed=as_computed).values()
    ours, theirs = load_file(out), load_file(shared(f"golden/{golden}/expected.safetensors"))
    assert {key: (t.dtype, t.shape) for key, t in ours.items()} == {
        k: (t.dtype, t.shape) for k, t in theirs.items()
    }
    for key, tensor in theirs.items():
        # The script rounds to the type that it saves after each LoRA: half a unit of 8 bits, twice.
        unit = {"torch.bfloat16": 2.0**-8, "torch.float32": 2.0**-22}[str(tensor.dtype)]
        assert relative(ours[key].double().numpy(), tensor.double().numpy()) < unit, key


CLAMPED: Sequence[tuple[str, Mapping[str, float]]] = [("svd_merge_sd15", {"a": 0.8, "b": 0.6})]


@pytest.mark.parametrize(("golden", "ratios"), CLAMPED)
def test_an_svd_merge_is_never_further_from_the_sum_than_the_scripts(
    run: Run, shared: Shared, golden: str, ratios: Mapping[str, float]
) -> None:
    (out,) = run(golden, as_computed=True).values()
    theirs, truth = (
        deltas(shared(f"golden/{golden}/expected.safetensors")),
        total(shared(f"golden/{golden}"), ratios),
    )
    for stem, ours in deltas(out).items():
        assert relative(ours, truth[stem]) <= relative(theirs[stem], truth[stem]) * (1 + 1e-6)


@pytest.mark.parametrize("rule", ["sv_cumulative", "sv_fro", "sv_ratio"])
def test_a_rule_keeps_at_most_the_rank_that_the_script_keeps(run: Run, shared: Shared, rule: str) -> None:
    (out,) = run(f"resize_{rule}_sd15", as_computed=True).values()
    ours, theirs = load_file(out), load_file(shared(f"golden/resize_{rule}_sd15/expected.safetensors"))
    downs = [key for key in theirs if key.endswith("lora_down.weight")]
    assert {key for key in ours if key.endswith("lora_down.weight")} == set(downs)
    # The script keeps one value more than its rule asks for, where its cap allows.
    assert all(0 <= len(theirs[key]) - len(ours[key]) <= 1 for key in downs)
    assert any(len(theirs[key]) - len(ours[key]) == 1 for key in downs)
