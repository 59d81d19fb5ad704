"""What is in a file, on one screen and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

from lorapipe.errors import RecipeError
from lorapipe.formats.inspection import inspect_file
from lorapipe.views.inspection import inspection_json, print_inspection

from ..bench import KEYS, SHAPES, TE, TO_Q, Bench
from .screens import HOSTILE, log, steering, terminal, text_of


def drawn(path: Path, console: Console, modules: bool = False) -> str:
    print_inspection(inspect_file(path), modules, console)
    return text_of(console)


def size(path: Path) -> str:
    return f"{path.stat().st_size / 1000:.3g} kB"


def test_a_lora_is_this_text(bench: Bench) -> None:
    path = bench.lora(
        "a", rank=8, dtype="float16", metadata={"ss_network_dim": "8", "ss_base_model_version": "sd_v1"}
    )
    assert (
        drawn(path, log())
        == f"""\
file                   a.safetensors, {size(path)}
holds                  a LoRA, rank 8
family                 SD1.x (sd1)
modules                4: 1 te, 3 unet
tensors                8 F16, 4 F32
ss_base_model_version  sd_v1
ss_network_dim         8
"""
    )


def test_a_checkpoint_is_this_text(bench: Bench) -> None:
    path = bench.checkpoint()
    assert (
        drawn(path, log())
        == f"""\
file     base.safetensors, {size(path)}
holds    a checkpoint
family   SD1.x (sd1)
tensors  5 F16, 1 F32, 1 I64
format   pt
"""
    )


def test_a_lora_of_no_known_model_says_so(bench: Bench) -> None:
    text = drawn(bench.lora("a", modules={"my_net_layer": (8, 8)}, metadata={}), log())
    assert "family   unknown\n" in text
    assert "modules  1: 1 of no known model\n" in text


def test_embeddings_that_a_lora_carries_are_named(bench: Bench) -> None:
    path = bench.lora("a")
    tensors = {**load_file(path), "bundle_emb.me.string_to_param.*": torch.zeros(2, 768)}
    save_file(tensors, path, {"ss_base_model_version": "sd_v1"})
    assert "extras                 bundle_emb.me.string_to_param.*\n" in drawn(path, log())


def test_formats_and_strengths_are_told_where_they_are_not_the_usual(bench: Bench) -> None:
    path = bench.lora("a", rank=8)
    tensors = load_file(path)
    del tensors[f"{TE}.alpha"]
    tensors[f"{TO_Q}.dora_scale"] = torch.ones(SHAPES[TO_Q][0], 1)
    save_file(tensors, path, {"ss_base_model_version": "sd_v1"})
    text = drawn(path, log())
    assert "holds                  a LoRA, rank 8\n" in text
    assert "formats                3 LoRA, 1 DoRA\n" in text
    assert "strength               3 alpha in the file, 1 scale 1\n" in text
    told = inspection_json(inspect_file(path))
    assert (told["formats"], told["scales"]) == (
        {"DoRA": 1, "LoRA": 3},
        {"alpha in the file": 3, "scale 1": 1},
    )


def test_what_does_not_add_has_no_rank(bench: Bench) -> None:
    path = bench.folder / "a.safetensors"
    save_file({f"{TO_Q}.set_weight": torch.ones(SHAPES[TO_Q])}, path, {"ss_base_model_version": "sd_v1"})
    text = drawn(path, log())
    assert "holds                  a LoRA, no rank\n" in text
    assert "formats                full weight\n" in text


def test_modules_follow_where_asked_for(bench: Bench) -> None:
    text = drawn(bench.lora("a"), log(), modules=True)
    assert "\n\nmodule " in text
    assert f"{TO_Q}  {KEYS[TO_Q]}     20x20         4\n" in text


def test_a_long_entry_of_the_metadata_is_cut_and_says_how_long_it_is(bench: Bench) -> None:
    path = bench.lora("a", metadata={"ss_base_model_version": "sd_v1", "ss_tag_frequency": "x" * 5000})
    assert f"ss_tag_frequency       {'x' * 200}... (5000 characters)\n" in drawn(path, log())
    assert inspection_json(inspect_file(path))["metadata"]["ss_tag_frequency"] == "x" * 5000


@pytest.mark.parametrize("width", [40, 80])
def test_it_fits_a_terminal(bench: Bench, width: int) -> None:
    path = bench.lora("a", metadata={"k" * 300: "v" * 300, "ss_base_model_version": "sd_v1"})
    text = drawn(path, terminal(width), modules=True)
    assert max(map(len, text.splitlines())) <= width
    assert text.count("v") >= 200


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_hostile_metadata_and_names_are_shown_and_not_obeyed(bench: Bench, name: str) -> None:
    path = bench.lora("a", modules={f"x{name}": (4, 4)}, metadata={name: name})
    hostile = path.with_name(name.replace("/", "_").replace("\x00", "")[:200] + ".safetensors")
    path.rename(hostile)
    for console in (log(), terminal(40), terminal(80)):
        text = drawn(hostile, console, modules=True)
        assert not steering(text)
    assert len(drawn(hostile, log()).splitlines()) == 6


def test_the_json_of_a_lora(bench: Bench) -> None:
    path = bench.lora("a", rank=8, metadata={"ss_base_model_version": "sd_v1"})

    told = json.loads(json.dumps(inspection_json(inspect_file(path), modules=True)))

    modules = {module["name"]: module for module in told.pop("module_list")}
    assert told == {
        "file": "a.safetensors",
        "size": path.stat().st_size,
        "type": "lora",
        "family": "sd1",
        "dtypes": {"F32": 12},
        "metadata": {"ss_base_model_version": "sd_v1"},
        "modules": 4,
        "components": {"te": 1, "unet": 3},
        "extras": [],
        "formats": {"LoRA": 4},
        "scales": {"alpha in the file": 4},
        "ranks": {"8": 4},
    }
    assert modules[TE] == {
        "name": TE,
        "key": KEYS[TE],
        "rows": None,
        "shape": list(SHAPES[TE]),
        "rank": 8,
        "format": "LoRA",
    }


def test_the_json_of_a_checkpoint(bench: Bench) -> None:
    path = bench.checkpoint()
    assert inspection_json(inspect_file(path)) == {
        "file": "base.safetensors",
        "size": path.stat().st_size,
        "type": "checkpoint",
        "family": "sd1",
        "dtypes": {"F16": 5, "F32": 1, "I64": 1},
        "metadata": {"format": "pt"},
        "tensors": 7,
    }


def test_advice_about_the_family_is_for_the_command_line(bench: Bench) -> None:
    with pytest.raises(RecipeError) as caught:
        inspect_file(bench.lora("a"), "sdxl")
    assert caught.value.hint == "say `--family sd1`, or leave it out"
