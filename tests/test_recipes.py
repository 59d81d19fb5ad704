"""The recipes that come with lorapipe run, give the same bytes twice, and make what they promise."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

import lorapipe
from lorapipe.build.run import Options

ROOT = Path(__file__).resolve().parent.parent
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
DATA = ROOT / "recipes" / "data"

Tensors = Mapping[str, Any]
Build = Callable[..., dict[str, Path]]


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    """Builds a recipe of the repository in folders of its own; gives its outputs by step."""
    count = iter(range(99))

    def run(name: str, params: Mapping[str, Any] | None = None, workers: int = 1) -> dict[str, Path]:
        folder = tmp_path / str(next(count))
        monkeypatch.setenv("LORAPIPE_STORE", str(folder / "store"))
        options = Options(output_root=folder, lock=folder / "recipe.lock", device="cpu", workers=workers)
        built = lorapipe.run(ROOT / "recipes" / name, params, options)
        return {output.step: output.path for output in built.outputs}

    return run


def tensors_of(path: Path) -> dict[str, Any]:
    """A file's tensors in float64, by the safetensors library; bf16 by way of its bits."""
    import torch
    from safetensors.torch import load_file

    return {name: t.to(torch.float64).numpy() for name, t in load_file(path).items()}


def metadata_of(path: Path) -> dict[str, str]:
    with safe_open(path, "numpy") as file:
        return dict(file.metadata())


def deltas_of(tensors: Tensors) -> dict[str, Any]:
    """``alpha / r * up @ down`` of each module, ``[O, I*k]``; no alpha means alpha = r."""
    deltas = {}
    for name, down in tensors.items():
        if not name.endswith(".lora_down.weight"):
            continue
        stem, rank = name.removesuffix(".lora_down.weight"), down.shape[0]
        up = tensors[f"{stem}.lora_up.weight"].reshape(-1, rank)
        alpha = float(tensors.get(f"{stem}.alpha", rank))
        deltas[stem] = alpha / rank * up @ down.reshape(rank, -1)
    return deltas


def weighted(*terms: tuple[float, Mapping[str, Any]]) -> dict[str, Any]:
    """The weighted sum of deltas, module by module."""
    total: dict[str, Any] = {}
    for weight, deltas in terms:
        for stem, delta in deltas.items():
            total[stem] = total.get(stem, 0.0) + weight * delta
    return total


def error(found: Any, wanted: Any) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def char() -> dict[str, Any]:
    return deltas_of(tensors_of(DATA / "lantern-char.safetensors"))


def style() -> dict[str, Any]:
    return deltas_of(tensors_of(DATA / "ink-style.safetensors"))


# The data


def test_the_script_writes_the_committed_data_again(tmp_path: Path) -> None:
    make = runpy.run_path(str(DATA / "make.py"))["make"]
    written = {path.name: path.read_bytes() for path in make(tmp_path)}
    assert written == {path.name: path.read_bytes() for path in DATA.glob("*.safetensors")}


def test_the_data_is_small() -> None:
    assert sum(path.stat().st_size for path in DATA.glob("*.safetensors")) < 2_000_000


def test_the_excerpt_has_names_and_shapes_of_the_real_model(shared: Callable[[str], Path]) -> None:
    layout = json.loads(shared("layouts/sd15.json").read_text())["tensors"]
    for name, tensor in tensors_of(DATA / "sd15-excerpt.safetensors").items():
        assert layout[name][0] == list(tensor.shape)


@pytest.mark.parametrize("name", ["ink-style", "lantern-char", "sketch-1000", "sketch-3000"])
def test_the_loras_have_names_and_shapes_that_a_trainer_makes(
    name: str, shared: Callable[[str], Path]
) -> None:
    modules = json.loads(shared("layouts/sd15.lora-map.json").read_text())["modules"]
    tensors = tensors_of(DATA / f"{name}.safetensors")
    for stem, delta in deltas_of(tensors).items():
        rows, *columns = modules[stem][1]
        assert delta.shape == (rows, int(np.prod(columns)))
        assert list(tensors[f"{stem}.lora_down.weight"].shape[1:]) == columns


def test_the_loras_differ_in_rank_alpha_and_parts() -> None:
    ink, lantern = (tensors_of(DATA / f"{name}.safetensors") for name in ("ink-style", "lantern-char"))
    ranks = [{t.shape[0] for n, t in f.items() if n.endswith("lora_down.weight")} for f in (ink, lantern)]
    assert ranks == [{4, 8}, {12}]
    assert not any(name.endswith(".alpha") for name in lantern)
    assert {name.split("_")[1] for name in ink} == {"unet"}
    assert {name.split("_")[1] for name in lantern} == {"unet", "te"}


# All recipes


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_it_says_in_two_lines_when_to_use_it(recipe: Path) -> None:
    modeline, *comment = recipe.read_text().split("lorapipe: 1")[0].splitlines()
    assert modeline == "# yaml-language-server: $schema=../schemas/recipe.v1.schema.json"
    assert len(comment) == 2
    assert all(line.startswith("# ") for line in comment)
    assert "Use it " in " ".join(comment)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_it_gives_the_same_bytes_twice(recipe: Path, build: Build) -> None:
    first, second = build(recipe.name, workers=1), build(recipe.name, workers=2)
    assert first
    assert {s: content(p) for s, p in first.items()} == {s: content(p) for s, p in second.items()}


def content(output: Path) -> dict[str, bytes]:
    """The bytes of an output, by name where it is a folder."""
    files = sorted(output.iterdir()) if output.is_dir() else [output]
    return {file.name: file.read_bytes() for file in files}


# Each recipe


def test_convert_keeps_the_deltas_under_other_names(build: Build) -> None:
    made = build("convert.yaml")
    wanted = char()
    for output, prefixes in (
        (made["diffusers"], {"unet.": "lora_unet_", "text_encoder.": "lora_te_"}),
        (made["peft"] / "adapter_model.safetensors", {"base_model.model.": "lora_unet_"}),
    ):
        tensors = tensors_of(output)
        found = {}
        for name in tensors:
            if name.endswith(".lora_A.weight"):
                stem = name.removesuffix(".lora_A.weight")
                prefix = next(p for p in prefixes if stem.startswith(p))
                up, down = tensors[f"{stem}.lora_B.weight"], tensors[name]
                kohya = prefixes[prefix] + stem.removeprefix(prefix).replace(".", "_")
                found[kohya] = up.reshape(up.shape[0], -1).astype(float) @ down.reshape(
                    down.shape[0], -1
                ).astype(float)
        expected = {stem for stem in wanted if stem.startswith(tuple(prefixes.values()))}
        assert found.keys() == expected
        assert max(error(found[stem], wanted[stem].reshape(found[stem].shape)) for stem in found) < 1e-12


def test_checked_is_written_only_if_its_checks_hold(build: Build, tmp_path: Path) -> None:
    tensors = tensors_of(build("checked.yaml")["lora"])
    found = deltas_of(tensors)
    wanted = weighted((1.0, char()), (0.7, style()))
    kept = {stem: 1 - error(found[stem], wanted[stem]) ** 2 for stem in wanted}
    assert min(kept.values()) > 0.9
    for rank in (4, 16):  # too little energy, too many ranks
        with pytest.raises(lorapipe.LorapipeError) as caught:
            build("checked.yaml", {"rank": rank})
        assert caught.value.exit_status == 8
    assert len(list(tmp_path.rglob("lantern-ink-checked.safetensors"))) == 1


def test_sweep_makes_a_file_for_each_strength_and_rank(build: Build) -> None:
    made = {path.name: path for path in build("sweep.yaml").values()}
    pairs = [(strength, rank) for strength in (0.4, 0.7, 1.0) for rank in (4, 8)]
    assert list(made) == [f"lantern-ink-s{strength}-r{rank}.safetensors" for strength, rank in pairs]
    for strength, rank in pairs:
        found = deltas_of(tensors_of(made[f"lantern-ink-s{strength}-r{rank}.safetensors"]))
        for stem, delta in weighted((1.0, char()), (strength, style())).items():
            u, values, v = np.linalg.svd(delta, full_matrices=False)
            assert error(found[stem], (u[:, :rank] * values[:rank]) @ v[:rank]) < 5e-4


def test_quickstart_adds_the_loras_at_their_strengths(build: Build) -> None:
    found = deltas_of(tensors_of(build("quickstart.yaml")["exact"]))
    wanted = weighted((1.0, char()), (0.7, style()))
    assert found.keys() == wanted.keys()
    assert max(error(found[stem], wanted[stem]) for stem in wanted) < 5e-4  # fp16 has 11 bits


def test_quickstart_takes_another_strength(build: Build) -> None:
    found = deltas_of(tensors_of(build("quickstart.yaml", {"strength": -0.25})["exact"]))
    wanted = weighted((1.0, char()), (-0.25, style()))
    assert max(error(found[stem], wanted[stem]) for stem in wanted) < 5e-4


def test_quickstart_resizes_as_well_as_can_be(build: Build) -> None:
    """The error is that of the truncated SVD, which no LoRA of that rank can beat."""
    tensors = tensors_of(build("quickstart.yaml")["compact"])
    found = deltas_of(tensors)
    for stem, exact in weighted((1.0, char()), (0.7, style())).items():
        rank = tensors[f"{stem}.lora_down.weight"].shape[0]
        assert rank <= 8
        least = np.sqrt(np.sum(np.linalg.svd(exact, compute_uv=False)[rank:] ** 2)) / np.linalg.norm(exact)
        assert error(found[stem], exact) < 1.0001 * least + 5e-4


def test_subtract_and_shuffle_saves_the_difference_without_its_sources(build: Build) -> None:
    path = build("subtract-and-shuffle.yaml")["lora"]
    found = deltas_of(tensors_of(path))
    wanted = weighted((1.0, char()), (-1.0, style()))
    assert max(error(found[stem], wanted[stem]) for stem in wanted) < 5e-3  # bf16 has 8 bits
    told = json.dumps(metadata_of(path))
    assert not [word for word in ("lantern-char", "ink-style", "provenance", "seed") if word in told]


def test_subtract_and_shuffle_keeps_no_row_of_a_source(build: Build) -> None:
    found = tensors_of(build("subtract-and-shuffle.yaml")["lora"])
    for source in ("lantern-char", "ink-style"):
        for name, tensor in tensors_of(DATA / f"{source}.safetensors").items():
            if name.endswith("lora_down.weight"):
                ours, theirs = (_unit_rows(t) for t in (found[name], tensor))
                assert np.abs(ours @ theirs.T).max() < 0.99


def _unit_rows(tensor: Any) -> Any:
    rows = tensor.reshape(tensor.shape[0], -1)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_merge_into_model_adds_what_has_a_place_and_touches_nothing_else(build: Build) -> None:
    path = build("merge-into-model.yaml")["model"]
    base, merged = (tensors_of(p) for p in (DATA / "sd15-excerpt.safetensors", path))
    sums = weighted((0.8, char()), (0.5, style()))
    block = "model.diffusion_model.input_blocks.1.1."
    stem = "lora_unet_down_blocks_0_attentions_0_"
    places = {
        f"{block}proj_in.weight": f"{stem}proj_in",
        f"{block}transformer_blocks.0.attn1.to_q.weight": f"{stem}transformer_blocks_0_attn1_to_q",
        f"{block}transformer_blocks.0.attn2.to_k.weight": f"{stem}transformer_blocks_0_attn2_to_k",
    }
    assert list(base) == list(merged)
    for name, weight in base.items():
        if name in places:
            exact = weight + sums[places[name]].reshape(weight.shape)
            assert np.array_equal(merged[name], exact.astype(np.float16).astype(np.float64))
        else:
            assert np.array_equal(merged[name], weight)


def test_resize_keeps_what_it_need_not_touch(build: Build) -> None:
    path = build("resize.yaml", {"rank": 8})["lora"]
    before, after = (tensors_of(p) for p in (DATA / "ink-style.safetensors", path))
    linear = [name for name in before if "conv" not in name]
    assert all(np.array_equal(before[name], after[name]) for name in linear)
    ranks = {t.shape[0] for name, t in after.items() if "conv" in name and name.endswith("down.weight")}
    assert ranks == {2}


def test_strengths_weighs_the_text_encoder_apart(build: Build) -> None:
    found, source = deltas_of(tensors_of(build("strengths.yaml")["lora"])), char()
    for stem, delta in source.items():
        factor = 0.8 * 0.5 if stem.startswith("lora_te_") else 0.8
        assert error(found[stem], factor * delta) < 1e-7


def test_merge_methods_elects_signs_and_keeps_the_nearest_of_the_rank(build: Build) -> None:
    found = deltas_of(tensors_of(build("merge-methods.yaml", {"density": 0.25, "rank": 4})["ties"]))
    for stem, delta in found.items():
        thinned = []
        for weight, source in ((1.0, char()), (0.7, style())):
            given = source.get(stem, 0.0 * delta)
            least = np.sort(np.abs(given).ravel())[::-1][int(0.25 * given.size) - 1]
            thinned.append(weight * np.where(np.abs(given) >= least, given, 0.0))
        sign = np.where(sum(thinned) >= 0, 1.0, -1.0)
        agree = [np.where(np.sign(one) == sign, one, 0.0) for one in thinned]
        exact = sum(agree) / np.maximum(sum((np.sign(one) == sign) for one in thinned), 1)
        s = np.linalg.svd(exact, compute_uv=False)
        assert error(delta, exact) < 1.0001 * np.linalg.norm(s[4:]) / np.linalg.norm(s) + 1e-3


def test_merge_methods_keeps_the_character_off_what_the_style_reads(build: Build) -> None:
    found = deltas_of(tensors_of(build("merge-methods.yaml")["off"]))
    for stem, delta in style().items():
        _, s, vt = np.linalg.svd(delta, full_matrices=False)
        reads = vt[s > 1e-6 * s[0]].T
        assert error(found[stem] @ reads, delta @ reads) < 2e-3  # fp16 has 11 bits


def test_extract_finds_what_was_merged_where_the_two_differ(build: Build) -> None:
    tensors = tensors_of(build("extract.yaml", {"rank": 64})["lora"])
    found = deltas_of(tensors)
    sums = weighted((0.8, char()), (0.5, style()))
    assert 3 <= len(found) < len(sums)  # the excerpt has places for some
    assert max(error(found[stem], sums[stem]) for stem in found) < 2e-3  # fp16 has 11 bits
    ranks = {stem: tensors[f"{stem}.lora_down.weight"].shape[0] for stem in found}
    assert max(ranks.values()) <= 12 + 8  # no more than both have


def test_extract_keeps_the_nearest_of_the_rank_asked_for(build: Build) -> None:
    found = deltas_of(tensors_of(build("extract.yaml", {"rank": 4})["lora"]))
    sums = weighted((0.8, char()), (0.5, style()))
    for stem, delta in found.items():
        s = np.linalg.svd(sums[stem], compute_uv=False)
        assert error(delta, sums[stem]) < 1.0001 * np.linalg.norm(s[4:]) / np.linalg.norm(s) + 1e-3


BLOCKS = {
    "lora_te": "BASE", "down_blocks_0": "IN01", "down_blocks_1": "IN04",
    "mid_block": "MID", "up_blocks_2": "OUT06", "up_blocks_3": "OUT09",
}  # fmt: skip


def sketch(step: int = 3000) -> tuple[dict[str, Any], dict[str, str]]:
    """The deltas, and each module's block."""
    found = deltas_of(tensors_of(DATA / f"sketch-{step}.safetensors"))
    return found, {stem: next(b for part, b in BLOCKS.items() if part in stem) for stem in found}


def test_block_weights_are_strengths(build: Build) -> None:
    made = {step: deltas_of(tensors_of(path)) for step, path in build("block-weights.yaml").items()}
    source, blocks = sketch()
    listed = {"BASE": 1.0, "IN01": 0.5, "IN04": 0.8, "MID": 1.0, "OUT06": 0.7, "OUT09": 0.3}
    named = {"BASE": 1.0, "IN01": 1.0, "IN04": 1.0, "MID": 0.5, "OUT06": 0.7, "OUT09": 0.7}
    for stem, delta in source.items():
        assert error(made["one"][stem], listed[blocks[stem]] * delta) < 1e-6
        factor = 0.9 * named[blocks[stem]] * (0.5 if "ff" in stem else 1.0)
        assert error(made["two"][stem], factor * delta) < 1e-6
    assert {blocks[stem] for stem in made["three"]} == {"BASE", "OUT06", "OUT09"}


def test_block_ranks_are_each_blocks(build: Build) -> None:
    made = {step: tensors_of(path) for step, path in build("block-ranks.yaml").items()}
    source, blocks = sketch()
    named = {"BASE": 2, "IN01": 2, "IN04": 2, "MID": 4, "OUT06": 1, "OUT09": 1}
    listed = {"BASE": 2, "IN01": 2, "IN04": 3, "MID": 4, "OUT06": 2, "OUT09": 1}
    for step, ranks in (("one", named), ("two", listed)):
        found = {stem: made[step][f"{stem}.lora_down.weight"].shape[0] for stem in source}
        assert found == {stem: ranks[block] for stem, block in blocks.items()}


def test_filter_keeps_a_part_bit_for_bit(build: Build) -> None:
    found, source = tensors_of(build("filter.yaml")["lora"]), tensors_of(DATA / "lantern-char.safetensors")
    kept = {name for name in source if "attn" in name and not name.startswith("lora_te")}
    assert len(kept) == 16
    assert {name for name in found if not name.endswith(".alpha")} == kept
    assert all(np.array_equal(found[name], source[name]) for name in kept)


def test_dylora_takes_the_first_components(build: Build) -> None:
    source = tensors_of(DATA / "sketch-3000.safetensors")
    for components in (1, 3):
        found = tensors_of(build("dylora.yaml", {"components": components})["lora"])
        for name in source:
            first = (slice(None), slice(components)) if "lora_up" in name else slice(components)
            assert np.array_equal(found[name], source[name][... if name.endswith(".alpha") else first])


def test_ema_averages_the_factors_or_the_deltas(build: Build) -> None:
    made = build("ema.yaml")
    files = [tensors_of(DATA / f"sketch-{step}.safetensors") for step in (1000, 2000, 3000)]
    gamma = max(np.roots([1, 7, 16 - 25, 12 - 25]).real)  # sigma_rel 0.2
    ends = [(n / 3) ** (gamma + 1) for n in range(4)]
    for name, tensor in tensors_of(made["lora"]).items():
        wanted = sum((b - a) * file[name] for a, b, file in zip(ends, ends[1:], files, strict=False))
        assert error(tensor, wanted) < 5e-4  # fp16 has 11 bits
    sums = weighted(*zip((0.25, 0.25, 0.5), map(deltas_of, files), strict=True))
    for stem, delta in deltas_of(tensors_of(made["exact"])).items():
        if max(delta.shape) > 768:
            continue  # an SVD of these takes a second each
        s = np.linalg.svd(sums[stem], compute_uv=False)
        least = np.linalg.norm(s[4:]) / np.linalg.norm(s)
        assert error(delta, sums[stem]) < 1.0001 * least + 1e-3


def test_ema_is_nearer_to_what_was_learnt_than_the_last_checkpoint(build: Build) -> None:
    """The example's run strays about the learnt factors by 500 / step, anew each time."""
    make = runpy.run_path(str(DATA / "make.py"))
    learnt = {name: t.astype(float) for name, t in make["lora"]("sketch", make["SKETCH"], 4, 4.0).items()}
    average = tensors_of(build("ema.yaml", {"width": 0.25})["lora"])
    last = tensors_of(DATA / "sketch-3000.safetensors")
    for name, values in learnt.items():
        if not name.endswith(".alpha"):
            assert error(average[name], values) < error(last[name], values)
