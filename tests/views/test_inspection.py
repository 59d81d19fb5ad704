"""What is in a file, on one screen and as JSON."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jsonschema import Draft7Validator
from rich.console import Console
from safetensors.torch import load_file, save_file

from lorapipe.build.looking.inspecting import Look, look
from lorapipe.errors import InputError, ManyErrors, RecipeError
from lorapipe.formats.hashes import FileHashes
from lorapipe.recipe.schemas import schema_file
from lorapipe.views.inspection import print_metadata, print_modules, print_stage
from lorapipe.views.inspection_json import inspection_json

from ..bench import CONV1, KEYS, PROJ_IN, SHAPES, TE, TO_Q, Bench
from ..formats.test_training import KOHYA
from .screens import HOSTILE, log, steering, terminal, text_of

HEADER = {"hashes": False, "norms": False}


def last(path: Path, **asked: bool | None) -> Look:
    return list(look(path, **asked))[-1]  # type: ignore[arg-type]  # family is not asked for


def drawn(
    path: Path, console: Console, *, modules: bool = False, metadata: bool = False, **asked: bool
) -> str:
    found = None
    for found in look(path, **asked):  # type: ignore[arg-type]  # family is not asked for
        print_stage(found, console)
    assert found is not None
    if modules:
        print_modules(found, console)
    if metadata:
        print_metadata(found.inspection.metadata, console)
    return text_of(console)


def told(path: Path, *, modules: bool = False, spectra: bool = False, **asked: bool) -> dict[str, Any]:
    """The JSON, as its schema has it."""
    found = inspection_json(last(path, **asked), modules=modules, spectra=spectra)
    read: dict[str, Any] = json.loads(json.dumps(found, allow_nan=False))
    Draft7Validator(json.loads(schema_file("inspection.v1.schema.json").read_text())).validate(read)
    return read


def size(path: Path) -> str:
    return f"{path.stat().st_size / 1000:.3g} kB"


def test_the_schema_is_a_schema() -> None:
    Draft7Validator.check_schema(json.loads(schema_file("inspection.v1.schema.json").read_text()))


def test_a_header_is_this_text(bench: Bench) -> None:
    metadata = {"ss_steps": "100", "ss_base_model_version": "sd_v1", "ss_v2": "False"}
    path = bench.lora("a", rank=8, dtype="float16", metadata=metadata)
    assert (
        drawn(path, log(), **HEADER)
        == f"""\
file      a.safetensors, {size(path)}
holds     a LoRA, rank 8, alpha 2
family    SD1.x (sd1), kohya names
base      sd_v1
modules   4: 1 te, 3 unet
tensors   8 F16, 4 F32; 3 entries of metadata, which --metadata lists
trained   100 steps
"""
    )


def test_hashes_and_norms_follow_from_the_numbers(bench: Bench) -> None:
    path = bench.lora("a", rank=3)
    text = drawn(path, log())
    found = last(path)
    assert found.hashes is not None
    assert f"sha256    {found.hashes.sha256}\n" in text
    assert f"AutoV2 {found.hashes.sha256[:10]}, AutoV3 {found.hashes.data[:12]}\n" in text
    norms = {stem: float(np.linalg.norm(delta)) for stem, delta in bench.deltas["a"].items()}
    unet = np.hypot.reduce([norms[stem] for stem in (TO_Q, PROJ_IN, CONV1)])
    assert f"norm      {np.hypot(unet, norms[TE]):.4g}: unet {unet:.4g}, te {norms[TE]:.4g}\n" in text
    assert "\nunet " not in text


def test_blocks_are_bars_in_the_order_of_the_model(bench: Bench) -> None:
    stem = "lora_unet_{}_attentions_0_transformer_blocks_0_attn1_to_q"
    parts = ("up_blocks_1", "mid_block", "down_blocks_0", "down_blocks_1")
    path = bench.folder / "a.safetensors"
    tensors = {}
    for scale, part in zip((1.0, 8.0, 4.0, 2.0), parts, strict=True):
        tensors[f"{stem.format(part)}.lora_up.weight"] = scale * torch.eye(4)
        tensors[f"{stem.format(part)}.lora_down.weight"] = torch.eye(4)
    save_file(tensors, path, {"ss_base_model_version": "sd_v1"})
    assert "unet      IN01 ▄▂█▁ OUT03, most MID 16, least OUT03 2\n" in drawn(path, log())


def test_the_same_in_a_terminal_that_has_only_ascii(bench: Bench) -> None:
    path = bench.lora("a", modules={TO_Q: (4, 4), TO_Q.replace("down_blocks_0", "down_blocks_1"): (4, 4)})
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    for found in look(path):
        print_stage(found, Console(file=stream, highlight=False))
    text = stream.buffer.getvalue().decode()  # type: ignore[attr-defined]  # a BytesIO, made above
    assert "unet      IN01 " in text
    assert "@" in text


def test_a_trainers_file_is_one_screen(bench: Bench) -> None:
    layers = {
        f"lora_unet_{side}_blocks_{n}_attentions_0_proj_in": (4, 4) for side, n in (("down", 0), ("up", 1))
    }
    path = bench.lora(
        "a",
        modules={**layers, TE: (4, 4)},
        metadata={
            **KOHYA,
            "ss_base_model_version": "sd_v1",
            "ss_sd_model_name": "v1-5",
            "ss_v2": "False",
            "sshs_model_hash": "0" * 64,
        },
    )
    text = drawn(path, terminal(80))
    assert len(text.splitlines()) < 24, text
    assert "trained   2000 of 4000 steps" in text
    assert "unet      IN01 " in text


def test_a_checkpoint_is_this_text_and_is_not_read(bench: Bench) -> None:
    path = bench.checkpoint()
    assert (
        drawn(path, log())
        == f"""\
file      base.safetensors, {size(path)}
holds     a checkpoint
family    SD1.x (sd1)
tensors   5 F16, 1 F32, 1 I64; 1 entry of metadata, which --metadata lists
"""
    )


def test_a_checkpoint_is_hashed_and_measured_on_request(bench: Bench) -> None:
    path = bench.checkpoint()
    text = drawn(path, log(), hashes=True, norms=True)
    norms = {
        name: float(np.linalg.norm(values))
        for name, values in bench.weights["base"].items()
        if "position_ids" not in name
    }
    most, least = max(norms, key=norms.__getitem__), min(norms, key=norms.__getitem__)
    assert f"norm      most {norms[most]:.4g} ({most}), least {norms[least]:.4g} ({least})\n" in text
    assert "finite    all 6 tensors\n" in text
    assert "sha256    " in text


def test_a_sha256_that_is_known_is_told_of_a_checkpoint_too(bench: Bench) -> None:
    path = bench.checkpoint()
    os.utime(path, (1e9, 1e9))
    whole = last(path, hashes=True).hashes
    assert whole is not None
    again = last(path).hashes
    assert again in (None, FileHashes(whole.sha256, whole.autov1))  # None: too young to be remembered


def test_a_hash_that_is_not_the_metadatas_own_says_that_the_file_was_changed(bench: Bench) -> None:
    path = bench.lora("a", metadata={"ss_base_model_version": "sd_v1"})
    found = last(path, norms=False).hashes
    assert found is not None
    for said, words in (
        (found.sshs, ", as the metadata say\n"),
        ("0" * 64, "; the metadata say 000000000000: it was changed since\n"),
    ):
        save_file(load_file(path), path, {"ss_base_model_version": "sd_v1", "sshs_model_hash": said})
        assert f"sshs      {found.sshs[:12]}, legacy {found.sshs_legacy}{words}" in drawn(
            path, log(), norms=False
        )


def test_a_lora_of_no_known_model_says_so(bench: Bench) -> None:
    text = drawn(bench.lora("a", modules={"my_net_layer": (8, 8)}, metadata={}), log())
    assert "family    unknown\n" in text
    assert "modules   1: 1 of no known model\n" in text
    assert "norm      " in text


def test_formats_strengths_and_what_has_no_norm_are_told_where_they_are_not_the_usual(bench: Bench) -> None:
    path = bench.lora("a", rank=8)
    tensors = load_file(path)
    del tensors[f"{TE}.alpha"]
    tensors[f"{TO_Q}.dora_scale"] = torch.ones(SHAPES[TO_Q][0], 1)
    tensors |= {
        f"{PROJ_IN}.set_weight": torch.ones(SHAPES[PROJ_IN]),
        "bundle_emb.me.string_to_param.*": torch.zeros(2, 768),
    }
    for role in ("lora_up.weight", "lora_down.weight", "alpha"):
        del tensors[f"{PROJ_IN}.{role}"]
    save_file(tensors, path, {"ss_base_model_version": "sd_v1"})
    text = drawn(path, log())
    assert "holds     a LoRA, rank 8, alpha 2\n" in text
    assert "formats   2 LoRA, 1 DoRA, 1 full weight\n" in text
    assert "strength  2 alpha in the file, 2 scale 1\n" in text
    assert "extras    bundle_emb.me.string_to_param.*\n" in text
    assert "no norm   1 module, since what they do depends on the weight\n" in text
    assert "DoRA      1 module, whose norms are those of the deltas, before lengths are set\n" in text


def test_a_broken_lora_is_told_and_the_rest_of_it_too(bench: Bench) -> None:
    path = bench.lora("a")
    tensors = load_file(path)
    tensors[f"{TO_Q}.lora_up.weight"].fill_(torch.nan)
    save_file(tensors, path, {"ss_base_model_version": "sd_v1"})
    text = drawn(path, log())
    assert "holds     a LoRA, rank 4" in text
    assert "no norms  1 tensor with NaN or Inf" in text
    assert told(path)["trouble"].startswith("1 tensor with NaN or Inf")
    with pytest.raises((InputError, ManyErrors)):
        last(path, norms=True)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64", "int64"])
def test_an_alpha_is_read_in_any_type(bench: Bench, dtype: str) -> None:
    path = bench.lora("a")
    tensors = load_file(path)
    tensors[f"{TE}.alpha"] = torch.tensor(12).to(getattr(torch, dtype))
    tensors[f"{TO_Q}.alpha"] = torch.tensor([7]).to(getattr(torch, dtype))
    save_file(tensors, path, {"ss_base_model_version": "sd_v1"})
    assert told(path, **HEADER)["alphas"] == {"2": 2, "7": 1, "12": 1}
    assert "a LoRA, rank 4, alpha 2-12\n" in drawn(path, log(), **HEADER)


def test_modules_follow_where_asked_for_in_the_order_of_the_model(bench: Bench) -> None:
    path = bench.lora("a")
    lines = drawn(path, log(), modules=True).split("\n\n")[1].splitlines()
    assert lines[0].split() == ["module", "block", "shape", "rank", "norm", "stable", "r99"]
    assert [line.split()[0] for line in lines[1:]] == [CONV1, PROJ_IN, TO_Q, TE]
    delta = bench.deltas["a"][CONV1]
    squares = np.linalg.svd(delta, compute_uv=False) ** 2
    expected = ["IN01", "20x12x3x3", "4", f"{np.linalg.norm(delta):.4g}", f"{squares.sum() / squares[0]:.3g}"]
    assert lines[1].split()[1:6] == expected
    header = drawn(path, log(), modules=True, **HEADER)
    assert f"{TO_Q}  {KEYS[TO_Q]}     20x20         4\n" in header


def test_tensors_of_a_checkpoint_follow_where_asked_for(bench: Bench) -> None:
    text = drawn(bench.checkpoint(), log(), modules=True)
    assert f"{KEYS[CONV1]}  " in text
    assert "  F16    20x12x3x3\n" in text


def test_a_long_entry_of_the_metadata_is_cut_and_says_how_long_it_is(bench: Bench) -> None:
    path = bench.lora("a", metadata={"ss_base_model_version": "sd_v1", "ss_tag_frequency": "x" * 5000})
    assert f"ss_tag_frequency       {'x' * 300}... (5000 characters)\n" in drawn(
        path, log(), metadata=True, **HEADER
    )
    assert told(path, **HEADER)["metadata"]["ss_tag_frequency"] == "x" * 5000


@pytest.mark.parametrize("width", [20, 40, 80])
def test_it_fits_a_terminal(bench: Bench, width: int) -> None:
    path = bench.lora("a", metadata={"k" * 300: "v" * 300, "ss_base_model_version": "sd_v1"})
    text = drawn(path, terminal(width), modules=True, metadata=True)
    assert max(map(len, text.splitlines())) <= width
    assert text.count("v") >= 200


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_hostile_metadata_and_names_are_shown_and_not_obeyed(bench: Bench, name: str) -> None:
    keys = ("ss_output_name", "modelspec.author", "ss_sd_model_name", "ss_optimizer", "sshs_model_hash")
    metadata = {name: name, **dict.fromkeys(keys, name), "ss_tag_frequency": json.dumps({"a": {name: 1}})}
    path = bench.lora("a", modules={f"x{name}": (4, 4)}, metadata=metadata)
    hostile = path.with_name(name.replace("/", "_").replace("\x00", "")[:200] + ".safetensors")
    path.rename(hostile)
    for console in (log(), terminal(40), terminal(80)):
        assert not steering(drawn(hostile, console, modules=True, metadata=True))
    assert len(drawn(hostile, log(), **HEADER).splitlines()) == 9
    assert told(hostile, modules=True)["file"] == hostile.name


def test_the_json_of_a_lora(bench: Bench) -> None:
    path = bench.lora("a", rank=8, metadata={"ss_base_model_version": "sd_v1", "ss_steps": "5"})

    found = told(path, modules=True, **HEADER)

    modules = {module["name"]: module for module in found.pop("module_list")}
    assert found == {
        "version": 1,
        "file": "a.safetensors",
        "size": path.stat().st_size,
        "container": "safetensors",
        "files": [],
        "type": "lora",
        "family": "sd1",
        "base": "sd_v1",
        "dtypes": {"F32": 12},
        "training": {"trained": "5 steps"},
        "metadata": {"ss_base_model_version": "sd_v1", "ss_steps": "5"},
        "hashes": None,
        "trouble": None,
        "naming": "kohya",
        "modules": 4,
        "extras": [],
        "components": {"te": 1, "unet": 3},
        "formats": {"LoRA": 4},
        "scales": {"alpha in the file": 4},
        "alphas": {"2": 4},
        "ranks": {"8": 4},
        "norm": None,
        "blocks": None,
    }
    assert modules[TE] == {
        "name": TE,
        "component": "te",
        "block": "BASE",
        "key": KEYS[TE],
        "rows": None,
        "shape": list(SHAPES[TE]),
        "rank": 8,
        "format": "LoRA",
    }


def test_the_json_of_figures(bench: Bench) -> None:
    path = bench.lora("a", rank=3)
    found = told(path, spectra=True)
    norms = {stem: float(np.linalg.norm(delta)) for stem, delta in bench.deltas["a"].items()}
    assert found["norm"] == pytest.approx(np.hypot.reduce(list(norms.values())), rel=1e-12)
    assert [(b["component"], b["block"], b["modules"]) for b in found["blocks"]] == [
        ("unet", "IN01", 3),
        ("te", "BASE", 1),
    ]
    for module in found["module_list"]:
        values = np.linalg.svd(bench.deltas["a"][module["name"]], compute_uv=False)[:3]
        assert module["singular_values"] == pytest.approx(list(values), rel=1e-11)
        assert (module["true_rank"], module["norm"]) == (3, pytest.approx(norms[module["name"]], rel=1e-12))


def test_the_json_of_a_checkpoint(bench: Bench) -> None:
    path = bench.checkpoint()
    found = told(path, norms=True)
    listed = {tensor["name"]: tensor for tensor in found.pop("tensor_list")}
    assert (found["type"], found["tensors"], found["hashes"]) == ("checkpoint", 7, None)
    name = KEYS[TO_Q]
    assert listed[name]["norm"] == pytest.approx(np.linalg.norm(bench.weights["base"][name]), rel=1e-12)
    assert "norm" not in listed["cond_stage_model.transformer.text_model.embeddings.position_ids"]
    assert "tensor_list" not in told(path)


def test_advice_about_the_family_is_for_the_command_line(bench: Bench) -> None:
    with pytest.raises(RecipeError) as caught:
        list(look(bench.lora("a"), "sdxl"))
    assert caught.value.hint == "say `--family sd1`, or leave it out"
