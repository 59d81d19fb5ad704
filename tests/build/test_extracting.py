"""Modules that turn out to be nothing go through every step that may follow, and are in no file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import lorapipe
from lorapipe.build.events import Event, Note, StepDone
from lorapipe.build.run import Options, build, plan
from lorapipe.errors import LorapipeError, ManyErrors
from lorapipe.recipe.parsing import load_recipe
from lorapipe.weights.specs import AdapterSpec, FileSpec

from ..bench import CONV1, KEYS, PROJ_IN, SHAPES, TE, TO_Q, Bench
from ..weights.samples import Matrix

STEPS = """
base: {load: base.safetensors}
a: {load: a.safetensors}
b: {load: b.safetensors}
m: {merge-into-checkpoint: base, loras: a}
x: {extract-lora: m, base: base, rank: 8}
"""


def run(recipe: Path, **options: object) -> list[Event]:
    heard: list[Event] = []
    build(load_recipe(recipe), Options(workers=2, **options), listen=heard.append)  # type: ignore[arg-type]  # by name
    return heard


@pytest.fixture
def kitchen(bench: Bench) -> Bench:
    """A LoRA on two of four modules, so that the other two do not differ; and one on all."""
    bench.checkpoint()
    bench.lora("a", rank=3, modules={stem: SHAPES[stem] for stem in (TO_Q, CONV1)})
    bench.lora("b", rank=2, seed=5)
    return bench


def deltas(path: Path) -> dict[str, Matrix]:
    tensors, found = load_file(path), {}
    for name, up in tensors.items():
        if name.endswith(".lora_up.weight"):
            stem = name.removesuffix(".lora_up.weight")
            down = tensors[f"{stem}.lora_down.weight"].double()
            rank = len(down)
            scale = float(tensors[f"{stem}.alpha"]) / rank
            found[stem] = (scale * up.double().reshape(-1, rank) @ down.reshape(rank, -1)).numpy()
    return found


def near(found: dict[str, Matrix], wanted: dict[str, Matrix]) -> None:
    assert found.keys() == wanted.keys()
    for stem, exact in wanted.items():
        assert np.linalg.norm(found[stem] - exact) < 1e-6 * np.linalg.norm(exact), stem


def test_the_file_has_what_differs_within_what_the_plan_foretold(kitchen: Bench) -> None:
    recipe = kitchen.recipe(STEPS + "o: {save: x, to: o.safetensors}")
    before = plan(load_recipe(recipe), read=True).steps
    assert isinstance(before["x"].spec, AdapterSpec)
    assert isinstance(before["o"].spec, FileSpec)
    assert len(before["x"].spec.modules) == 4
    assert before["o"].spec.bounded
    run(recipe)
    near(deltas(kitchen.folder / "o.safetensors"), kitchen.deltas["a"])
    assert set(load_file(kitchen.folder / "o.safetensors")) < set(before["o"].spec.tensors)
    assert plan(load_recipe(recipe), read=True).steps["o"].status.value == "up to date"


def test_the_store_gives_it_again_with_what_was_told(kitchen: Bench) -> None:
    recipe = kitchen.recipe(STEPS + "o: {save: x, to: o.safetensors}")
    first = run(recipe)
    built = (kitchen.folder / "o.safetensors").read_bytes()
    (kitchen.folder / "o.safetensors").unlink()
    second = run(recipe)
    assert {e.step: e.how for e in second if isinstance(e, StepDone)} == {"x": "store", "o": "written"}
    assert (kitchen.folder / "o.safetensors").read_bytes() == built
    told = [[e for e in heard if isinstance(e, Note) and e.step == "x"] for heard in (first, second)]
    assert [note.fact for note in told[0]] == ["energy", "ranks", "left out"]
    assert told[0] == told[1]


def test_little_memory_gives_the_same_bytes(kitchen: Bench) -> None:
    recipe = kitchen.recipe(STEPS + "o: {save: x, to: o.safetensors}")
    run(recipe, output_root=kitchen.folder / "one")
    monkey = kitchen.folder.parent / "other-store"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORAPIPE_STORE", str(monkey))
        run(recipe, output_root=kitchen.folder / "two", memory=512 << 20)
    one, two = ((kitchen.folder / name / "o.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two


@pytest.mark.parametrize(
    ("between", "weights"),
    [
        ("t: {scale: x, by: 0.5}", {"a": 0.5}),
        ("t: {scale: x, components: {te: 0.5}}", {"a": 1.0}),
        ("t: {concat: {x: 2.0, b: -0.5}}", {"a": 2.0, "b": -0.5}),
        ("t: {concat: {b: -0.5, x: 2.0}}", {"a": 2.0, "b": -0.5}),
        ("t: {concat: {x: 1.0, a: 1.0}}", {"a": 2.0}),
        ("t: {shuffle: x}", {"a": 1.0}),
        ("t: {shuffle: x, mode: permute}", {"a": 1.0}),
        ("t: {svd-resize: x, rank: 4}", {"a": 1.0}),
        ("t: {svd-resize: x, rank: 6, dynamic: {sv-fro: 1.0}}", {"a": 1.0}),
        ("t: {svd-resize: x, rank: 6, max-size: 1MB}", {"a": 1.0}),
    ],
)
def test_what_is_nothing_goes_through_what_follows(
    kitchen: Bench, between: str, weights: dict[str, float]
) -> None:
    run(kitchen.recipe(f"{STEPS}{between}\no: {{save: t, to: o.safetensors, dtype: fp32}}"))
    wanted: dict[str, Matrix] = {}
    for name, weight in weights.items():
        for stem, delta in kitchen.deltas[name].items():
            wanted[stem] = wanted.get(stem, 0) + weight * delta
    near(deltas(kitchen.folder / "o.safetensors"), wanted)


def test_numbers_beside_nothing_stay_those_of_their_file(kitchen: Bench) -> None:
    """One coefficient, so that no square root is multiplied into factors."""
    run(kitchen.recipe(f"{STEPS}t: {{concat: {{x: 1.0, b: 0.5}}}}\no: {{save: t, to: o.safetensors}}"))
    found, source = (load_file(kitchen.folder / f"{name}.safetensors") for name in ("o", "b"))
    for stem in (TE, PROJ_IN):
        assert torch.equal(found[f"{stem}.lora_up.weight"], source[f"{stem}.lora_up.weight"])


def test_what_was_extracted_can_be_merged_elsewhere(kitchen: Bench) -> None:
    kitchen.checkpoint("other", seed=4, dtype="float32")
    run(
        kitchen.recipe(
            STEPS
            + """
            other: {load: other.safetensors}
            n: {merge-into-checkpoint: other, loras: {x: 0.5}}
            o: {save: n, to: o.safetensors}
            """
        )
    )
    found = load_file(kitchen.folder / "o.safetensors")
    for stem, key in KEYS.items():
        exact = kitchen.weights["other"][key].reshape(SHAPES[stem][0], -1)
        exact = exact + 0.5 * kitchen.deltas["a"].get(stem, 0)
        np.testing.assert_allclose(found[key].numpy().reshape(exact.shape), exact, rtol=1e-6, atol=1e-6)


def test_a_file_of_nothing_is_not_written(kitchen: Bench) -> None:
    recipe = kitchen.recipe(STEPS + "t: {scale: x, components: {unet: 0}}\no: {save: t, to: o.safetensors}")
    with pytest.raises(LorapipeError) as caught:
        run(recipe)
    assert (caught.value.code, caught.value.step) == ("nothing-left", "o")
    assert not (kitchen.folder / "o.safetensors").exists()


# --- full differences -------------------------------------------------------------------

WHOLE = """
base: {load: base.safetensors}
other: {load: other.safetensors}
b: {load: b.safetensors}
x: {extract-lora: other, base: base, rank: 12, conv-rank: 8, full: true, bias: diff}
"""


@pytest.fixture
def pair(kitchen: Bench) -> Bench:
    kitchen.checkpoint("other", seed=4)
    return kitchen


@pytest.mark.parametrize(
    "between", ["t: {scale: x, by: 0.5}", "t: {scale: x, by: -0.5, components: {te: 0}}"]
)
def test_whole_differences_go_through_what_may_follow(pair: Bench, between: str) -> None:
    run(pair.recipe(f"{WHOLE}{between}\no: {{save: t, to: o.safetensors, dtype: fp32}}"))
    found = load_file(pair.folder / "o.safetensors")
    sign = -1 if "-0.5" in between else 1
    for stem in (TO_Q, PROJ_IN):
        exact = 0.5 * sign * (pair.weights["other"][KEYS[stem]] - pair.weights["base"][KEYS[stem]])
        np.testing.assert_allclose(found[f"{stem}.diff"].numpy(), exact, rtol=1e-6)


def test_they_become_loras_by_resizing(pair: Bench) -> None:
    run(pair.recipe(f"{WHOLE}t: {{svd-resize: x, rank: 5}}\no: {{save: t, to: o.safetensors, dtype: fp32}}"))
    for stem, delta in deltas(pair.folder / "o.safetensors").items():
        exact = pair.weights["other"][KEYS[stem]] - pair.weights["base"][KEYS[stem]]
        exact = exact.reshape(delta.shape)
        s = np.linalg.svd(exact, compute_uv=False)
        assert np.linalg.norm(delta - exact) < 1.0001 * np.linalg.norm(s[5:]) + 1e-6


def test_what_may_be_either_cannot_be_joined_and_the_remedy_is_said(pair: Bench) -> None:
    recipe = pair.recipe(f"{WHOLE}t: {{concat: [b, x]}}\no: {{save: t, to: o.safetensors}}")
    with pytest.raises(ManyErrors) as caught:
        plan(load_recipe(recipe), read=True)
    (error,) = caught.value.errors
    assert (error.code, error.step) == ("undecided", "t")
    assert error.hint == "svd-resize it first, which makes a LoRA of either"


def test_a_program_without_whole_differences_is_refused_before_any_work(pair: Bench) -> None:
    recipe = pair.recipe(f"{WHOLE}o: {{save: x, to: o.safetensors, layout: diffusers}}")
    with pytest.raises(LorapipeError, match="diffusers has no place for"):
        plan(load_recipe(recipe), read=True)


# --- from Python, and other models ------------------------------------------------------


def test_calls_write_the_bytes_of_the_recipe(pair: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pair.folder)
    run(
        pair.recipe(
            """
            base: {load: base.safetensors}
            other: {load: other.safetensors}
            x: {extract-lora: {other: 0.5}, base: {base: 0.25}, rank: 6, components: [unet], min-diff: 0.001}
            o: {save: x, to: o.safetensors}
            """
        )
    )
    base, other = (lorapipe.load(f"{name}.safetensors") for name in ("base", "other"))
    lora = lorapipe.extract_lora([(other, 0.5)], [(base, 0.25)], rank=6, components=["unet"], min_diff=0.001)
    path = lorapipe.save(lora, pair.folder / "by-hand.safetensors")
    assert path.read_bytes() == (pair.folder / "o.safetensors").read_bytes()


def test_a_language_models_lora_comes_back_under_pefts_names(bench: Bench) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "model.layers.0.self_attn.q_proj.weight": (12, 10), "model.layers.0.mlp.up_proj.weight": (14, 10),
        "model.layers.0.input_layernorm.weight": (10,), "lm_head.weight": (20, 10),
    }  # fmt: skip
    base = {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}
    up, down = torch.randn(12, 2, generator=generator), torch.randn(2, 10, generator=generator)
    key = "model.layers.0.self_attn.q_proj.weight"
    save_file(base, bench.folder / "base.safetensors")
    save_file({**base, key: base[key] + up @ down}, bench.folder / "tuned.safetensors")
    run(
        bench.recipe(
            """
            base: {load: base.safetensors, as: checkpoint}
            tuned: {load: tuned.safetensors, as: checkpoint}
            x: {extract-lora: tuned, base: base, rank: 8}
            o: {save: x, to: o.safetensors}
            p: {save: x, to: p/, layout: peft}
            """
        )
    )
    found = load_file(bench.folder / "o.safetensors")
    stem = f"base_model.model.{key.removesuffix('.weight')}"
    assert set(found) == {f"{stem}.lora_A.weight", f"{stem}.lora_B.weight"}
    assert found[f"{stem}.lora_A.weight"].shape == (2, 10)
    exact = (up.double() @ down.double()).numpy()
    product = found[f"{stem}.lora_B.weight"].double() @ found[f"{stem}.lora_A.weight"].double()
    assert np.linalg.norm(product.numpy() - exact) < 1e-5 * np.linalg.norm(exact)
    for source in ("o.safetensors", "p/"):
        run(
            bench.recipe(
                f"""
                base: {{load: base.safetensors, as: checkpoint}}
                x: {{load: {source}}}
                m: {{merge-into-checkpoint: base, loras: x}}
                o: {{save: m, to: again-{source[0]}.safetensors}}
                """,
                name=f"{source[0]}.yaml",
            )
        )
        again = load_file(bench.folder / f"again-{source[0]}.safetensors")
        np.testing.assert_allclose(again[key].numpy(), (base[key] + up @ down).numpy(), atol=1e-5)
