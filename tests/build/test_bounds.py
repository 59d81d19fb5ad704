"""Ranks that only the data tell: a plan foretells bounds, a build keeps within them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from lorapipe.build.events import Event, Note, StepDone
from lorapipe.build.run import Options, build, plan
from lorapipe.errors import LorapipeError, ManyErrors, RecipeError
from lorapipe.plan.plan import Plan
from lorapipe.recipe.parsing import load_recipe
from lorapipe.steps import find_kind, svd_resize
from lorapipe.store.paths import store_root
from lorapipe.weights.specs import AdapterSpec, FileSpec

from ..bench import KEYS, SHAPES, Bench

STEPS = """
a: {load: a.safetensors}
s: {svd-resize: a, rank: 6, dynamic: {sv-fro: 0.8}}
o: {save: s, to: o.safetensors}
"""


def planned(recipe: Path) -> Plan:
    return plan(load_recipe(recipe), read=True)


def run(recipe: Path) -> list[Event]:
    heard: list[Event] = []
    build(load_recipe(recipe), Options(workers=1), listen=heard.append)
    return heard


def ranks(path: Path) -> dict[str, int]:
    suffix = ".lora_down.weight"
    return {n.removesuffix(suffix): t.shape[0] for n, t in load_file(path).items() if n.endswith(suffix)}


def dense_ranks(bench: Bench, share: float) -> dict[str, int]:
    """What sv-fro gives, by search through the dense deltas' singular values."""
    found = {}
    for stem, exact in bench.deltas["a"].items():
        squares = np.linalg.svd(exact, compute_uv=False) ** 2
        due = share**2 * squares.sum()
        found[stem] = next(n for n in range(1, 99) if squares[:n].sum() >= due)
    return found


def test_the_file_has_the_ranks_of_the_data_within_those_of_the_plan(bench: Bench) -> None:
    bench.lora("a", rank=8)
    recipe = bench.recipe(STEPS)
    before = planned(recipe).steps
    assert isinstance(before["s"].spec, AdapterSpec)
    assert isinstance(before["o"].spec, FileSpec)
    assert before["s"].spec.bounded
    assert before["o"].spec.bounded
    assert {known.rank for known in before["s"].spec.modules.values()} == {6}

    run(recipe)

    found = ranks(bench.folder / "o.safetensors")
    assert found == dense_ranks(bench, 0.8)
    assert max(found.values()) < 6
    assert planned(recipe).steps["o"].status.value == "up to date"


@pytest.mark.parametrize(
    "between",
    [
        "t: {scale: s, by: 0.5}",
        "t: {concat: {s: 1.0, a: -0.5}}",
        "t: {shuffle: s}",
        "t: {shuffle: s, mode: permute}",
        "t: {svd-resize: s, rank: 2}",
    ],
)
def test_a_bound_goes_through_what_follows(bench: Bench, between: str) -> None:
    bench.lora("a", rank=8)
    steps = STEPS.replace("o: {save: s", f"{between}\no: {{save: t")
    recipe = bench.recipe(steps)
    foretold = planned(recipe).steps["t"].spec
    assert isinstance(foretold, AdapterSpec)
    assert foretold.bounded
    run(recipe)
    highest = max(known.rank for known in foretold.modules.values())
    assert max(ranks(bench.folder / "o.safetensors").values()) <= highest


def test_a_bound_ends_in_a_checkpoint(bench: Bench) -> None:
    bench.lora("a", rank=8)
    bench.checkpoint()
    recipe = bench.recipe(
        """
        base: {load: base.safetensors}
        a: {load: a.safetensors}
        s: {svd-resize: a, rank: 6, dynamic: {sv-ratio: 2}}
        m: {merge-into-checkpoint: base, loras: s}
        o: {save: m, to: o.safetensors}
        """
    )
    spec = planned(recipe).steps["o"].spec
    assert isinstance(spec, FileSpec)
    assert not spec.bounded
    run(recipe)
    assert (bench.folder / "o.safetensors").exists()


def test_the_store_gives_the_same_bytes_and_facts(bench: Bench) -> None:
    bench.lora("a", rank=8)
    recipe = bench.recipe(STEPS)
    first = run(recipe)
    built = (bench.folder / "o.safetensors").read_bytes()
    (bench.folder / "o.safetensors").unlink()
    second = run(recipe)
    assert {e.step: e.how for e in second if isinstance(e, StepDone)} == {"s": "store", "o": "written"}
    assert (bench.folder / "o.safetensors").read_bytes() == built
    told = [[e for e in heard if isinstance(e, Note) and e.step == "s"] for heard in (first, second)]
    assert [note.fact for note in told[0]] == ["energy", "ranks"]
    assert told[0] == told[1]
    energy = told[1][0].value
    assert isinstance(energy, dict)
    assert set(energy) == {KEYS[stem] for stem in bench.deltas["a"]}


def test_notes_in_a_damaged_manifest_are_passed_over(bench: Bench) -> None:
    bench.lora("a", rank=8)
    recipe = bench.recipe(STEPS)
    run(recipe)
    (bench.folder / "o.safetensors").unlink()
    for manifest in store_root().rglob("*.json"):
        text = manifest.read_text()
        assert '"notes"' in text
        manifest.write_text(text.replace('"notes": {', '"notes": [], "older": {'))
    heard = run(recipe)
    assert not [e for e in heard if isinstance(e, Note) and e.step == "s"]
    assert (bench.folder / "o.safetensors").exists()


def test_another_machines_output_is_adopted_though_only_its_bound_is_foretold(bench: Bench) -> None:
    bench.lora("a", rank=8)
    recipe = bench.recipe(STEPS)
    run(recipe)
    built = (bench.folder / "o.safetensors").read_bytes()
    shutil.rmtree(store_root())
    recipe.with_suffix(".lock").unlink()
    run(recipe)
    assert (bench.folder / "o.safetensors").read_bytes() == built


def test_a_result_above_its_bound_is_a_fault(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.lora("a", rank=8)
    recipe = bench.recipe(STEPS)
    kind = find_kind("svd-resize")
    loose = replace(kind, work=lambda inputs, params, context: inputs.one("svd-resize"))
    monkeypatch.setattr(svd_resize, "KIND", loose)
    with pytest.raises(LorapipeError) as caught:
        run(recipe)
    assert (caught.value.code, caught.value.step) == ("spec-not-kept", "s")


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_size_holds_for_the_file_with_all_its_metadata(bench: Bench, share: float) -> None:
    shapes = {stem: (10 * out, 10 * into, *kernel) for stem, (out, into, *kernel) in SHAPES.items()}
    told = {"ss_base_model_version": "sd_v1", "ss_v2": "False", "ss_training_comment": "x" * 500}
    path = bench.lora("a", rank=8, dtype="float16", modules=shapes, metadata=told)
    size = int(path.stat().st_size * share)
    recipe = bench.recipe(
        f"a: {{load: a.safetensors}}\ns: {{svd-resize: a, rank: 64, max-size: {size}}}\n"
        "o: {save: s, to: o.safetensors, provenance: minimal}"
    )
    run(recipe)
    out = bench.folder / "o.safetensors"
    assert 0.8 * size < out.stat().st_size <= size
    assert len(set(ranks(out).values())) > 1


def test_a_size_that_is_too_small_is_an_error_of_the_plan_at_its_place(bench: Bench) -> None:
    bench.lora("a", rank=8)
    recipe = bench.recipe(
        "a: {load: a.safetensors}\ns: {svd-resize: a, rank: 4, max-size: 1kB}\no: {save: s, to: o.ckpt}"
    )
    with pytest.raises(ManyErrors) as caught:
        planned(recipe)
    (error,) = caught.value.errors
    assert isinstance(error, RecipeError)
    assert error.code == "max-size-too-small"
    assert str(error.where).endswith("r.yaml:4:41")
    assert error.hint is not None
    assert error.hint.startswith("'max-size' must be ")
