"""``lorapipe inspect``: what a file is, read from its header."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lorapipe.cli import main

from ..bench import KEYS, TO_Q, Bench
from ..formats.model_folders import hf_folder


@pytest.fixture
def kitchen(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.chdir(bench.folder)
    return bench


def test_a_file_is_told_on_one_screen(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    kitchen.lora("a", metadata={"ss_base_model_version": "sd_v1"})

    assert main(["inspect", "a.safetensors"]) == 0

    said = capsys.readouterr()
    assert said.err == ""
    lines = said.out.splitlines()
    assert lines[1:3] == [
        "holds     a LoRA, rank 4, alpha 2",
        "family    SD1.x (sd1), kohya names",
    ]
    names = [line.split()[0] for line in lines]
    assert names[-5:] == ["sha256", "hashes", "sshs", "norm", "ranks"]
    assert len(lines) < 24


def test_modules_are_listed_where_asked_for(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    kitchen.lora("a")
    main(["inspect", "a.safetensors"])
    assert KEYS[TO_Q] not in capsys.readouterr().out
    main(["inspect", "a.safetensors", "--modules", "--no-norms"])
    assert KEYS[TO_Q] in capsys.readouterr().out


def test_json_is_json(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    kitchen.lora("a", metadata={"note": "\x1b[31m"})
    assert main(["inspect", "a.safetensors", "--json", "--modules", "--family", "sd1"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    told = json.loads(out)
    assert told["metadata"] == {"note": "\x1b[31m"}
    assert len(told["module_list"]) == 4


def test_a_ckpt_is_inspected_as_well(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": load_file(kitchen.checkpoint())}, "m.ckpt")
    assert main(["inspect", "m.ckpt"]) == 0
    out = capsys.readouterr().out
    assert "m.ckpt, " in out
    assert ", a pickle\nholds     a checkpoint\nfamily    SD1.x (sd1)\n" in out


def test_only_the_header_is_read(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    path = kitchen.lora("a")
    tensors = load_file(path)
    tensors[f"{TO_Q}.lora_up.weight"].fill_(torch.nan)
    save_file(tensors, path)
    assert main(["inspect", "a.safetensors", "--family", "sd1", "--no-norms", "--no-hashes"]) == 0
    assert "NaN" not in capsys.readouterr().out
    assert main(["inspect", "a.safetensors", "--family", "sd1"]) == 0
    assert "no norms  1 tensor with NaN or Inf" in capsys.readouterr().out
    assert main(["inspect", "a.safetensors", "--family", "sd1", "--norms"]) == 4


def test_what_is_asked_of_a_checkpoint_is_done(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    path = kitchen.checkpoint()
    assert main(["inspect", path.name, "--hashes", "--norms", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["hashes"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert sum("norm" in tensor for tensor in found["tensor_list"]) == 6


def test_the_spectrum_is_drawn(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    kitchen.lora("a", rank=4)
    assert main(["inspect", "a.safetensors", "--no-norms", "--spectrum"]) == 0
    out = capsys.readouterr().out
    assert "\nunet: singular values by the largest, median of 3\n 1.0 ┤█" in out
    assert "te: singular values by the largest, median of 1\n" in out
    kitchen.checkpoint()
    assert main(["inspect", "base.safetensors", "--spectrum"]) == 0
    out = capsys.readouterr().out
    assert "singular" not in out
    assert "norm" not in out  # seven gigabytes are not read for nothing


@pytest.mark.parametrize("option", ["--png", "--svg"])
def test_a_plot_is_not_written_over_a_model(
    kitchen: Bench, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    path = kitchen.lora("a")
    before = path.read_bytes()
    assert main(["inspect", "a.safetensors", option, "a.safetensors"]) == 2
    suffix = option[2:]
    assert capsys.readouterr().err == (
        f"error: {option} writes a file that ends in .{suffix}, not 'a.safetensors' - such as a.{suffix}\n"
    )
    assert path.read_bytes() == before


def test_without_matplotlib_a_plot_says_how_to_get_it(
    kitchen: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kitchen.lora("a")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["inspect", "a.safetensors", "--png", "a.png"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "error: plots need the matplotlib library - pip install 'lorapipe[plot]'\n"


def test_plots_are_written_the_same_each_time(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    kitchen.lora("a")
    for n in (1, 2):
        assert main(["inspect", "a.safetensors", "--png", f"{n}.png", "--svg", f"{n}.svg"]) == 0
    assert Path("1.png").read_bytes() == Path("2.png").read_bytes()
    assert Path("1.svg").read_bytes() == Path("2.svg").read_bytes()
    kitchen.checkpoint()
    capsys.readouterr()
    assert main(["inspect", "base.safetensors", "--png", "b.png"]) == 2
    assert capsys.readouterr().err == (
        "error: 'base.safetensors' has no singular values to plot - plots are of LoRAs\n"
    )


def test_a_folder_is_shown_as_its_file_would_be_with_the_size_of_all_that_counts(
    kitchen: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    hf_folder(Path("m"), load_file(kitchen.checkpoint()), 2)
    size = sum(path.stat().st_size for path in Path("m").iterdir())
    Path("m/pytorch_model.bin").write_bytes(b"of another day")
    assert main(["inspect", "m/", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["size"], found["tensors"]) == (size, 7)
    assert (found["container"], len(found["files"])) == ("folder", 2)
    main(["inspect", "m/"])
    assert ", a folder with 2 files of weights\n" in capsys.readouterr().out


def test_a_folder_of_pefts_is_hashed_and_measured(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    stem = "base_model.model.model.layers.{}.self_attn.q_proj"
    Path("p").mkdir()
    tensors = {}
    for n in (0, 10, 2):
        tensors[f"{stem.format(n)}.lora_A.weight"] = torch.eye(2, 4)
        tensors[f"{stem.format(n)}.lora_B.weight"] = torch.eye(4, 2)
    save_file(tensors, "p/adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 8, "base_model_name_or_path": "org/llama"}
    Path("p/adapter_config.json").write_text(json.dumps(config))
    assert main(["inspect", "p"]) == 0
    out = capsys.readouterr().out
    assert "a LoRA, rank 2, alpha 8\n" in out
    assert "base      org/llama\n" in out
    assert "blocks    layers.0 ███ layers.10, most layers.0 5.66, least layers.0 5.66\n" in out
    assert "AutoV2" not in out


@pytest.mark.parametrize(
    ("name", "status", "says"),
    [
        ("nope.safetensors", 4, "nope.safetensors: error: no such file"),
        (
            "nope.txt",
            3,
            "error: 'nope.txt' does not end like a file of weights - such files end in .safetensors",
        ),
        (".", 4, ".: error: short.safetensors: has 3 bytes: too short for a safetensors file"),
        ("short.safetensors", 4, "short.safetensors: error: has 3 bytes: too short for a safetensors file"),
    ],
)
def test_what_is_no_file_of_weights_is_told_with_the_reason(
    kitchen: Bench, capsys: pytest.CaptureFixture[str], name: str, status: int, says: str
) -> None:
    Path("short.safetensors").write_bytes(b"abc")
    assert main(["inspect", name]) == status
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(says)


def test_a_family_that_the_names_deny_is_refused_in_the_words_of_the_command_line(
    kitchen: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    kitchen.lora("a")
    assert main(["inspect", "a.safetensors", "--family", "sdxl"]) == 3
    assert capsys.readouterr().err == (
        "a.safetensors: error: it is not for SDXL: its module names are those of SD1.x"
        " - say `--family sd1`, or leave it out\n"
    )


def test_an_unknown_family_is_refused_with_a_near_one(
    kitchen: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    kitchen.lora("a")
    assert main(["inspect", "a.safetensors", "--family", "sdx"]) == 3
    assert capsys.readouterr().err == "error: no model family 'sdx' - did you mean 'sdxl'?\n"


def test_several_files_are_a_table_with_the_figures_of_each(
    kitchen: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    import numpy as np

    kitchen.lora("a", rank=4)
    kitchen.lora("b", rank=8, alpha=None, seed=1)
    kitchen.checkpoint()
    assert main(["inspect", "a.safetensors", "b.safetensors", "base.safetensors"]) == 0
    heading, *rows = capsys.readouterr().out.splitlines()
    assert heading.split() == ["file", "size", "holds", "family", "norm", "stable", "r99"]
    assert [row.split()[0] for row in rows] == ["a.safetensors", "b.safetensors", "base.safetensors"]
    for name, row in zip("ab", rows, strict=False):
        squares = [
            np.pad(np.linalg.svd(delta, compute_uv=False) ** 2, (0, 32))[:32]
            for delta in kitchen.deltas[name].values()
        ]
        pooled = np.sum(squares, axis=0)
        norm, stable, r99 = row.split()[-3:]
        assert float(norm) == pytest.approx(pooled.sum() ** 0.5, rel=1e-3)
        assert float(stable) == pytest.approx(pooled.sum() / pooled[0], rel=1e-2)
        assert int(r99) == int(np.argmax(np.cumsum(pooled) >= 0.99 * pooled.sum())) + 1
    assert rows[0].split()[3:7] == ["4", "modules,", "rank", "4"]
    assert rows[2].split()[-3:] == ["7", "tensors", "SD1.x"]


def test_several_files_as_json_are_a_list(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    kitchen.lora("a")
    kitchen.lora("b", seed=1)
    assert main(["inspect", "a.safetensors", "b.safetensors", "--json", "--modules", "--hashes"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["file"] for one in told] == ["a.safetensors", "b.safetensors"]
    assert all(len(one["module_list"]) == 4 and one["hashes"]["sha256"] for one in told)


def test_a_file_that_is_damaged_does_not_hide_the_others(
    kitchen: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    kitchen.lora("a")
    kitchen.lora("b", seed=1)
    Path("bad.safetensors").write_bytes(b"no")
    assert main(["inspect", "a.safetensors", "bad.safetensors", "none.safetensors", "b.safetensors"]) == 4
    said = capsys.readouterr()
    assert [line.split()[0] for line in said.out.splitlines()[1:]] == ["a.safetensors", "b.safetensors"]
    assert "bad.safetensors" in said.err
    assert "none.safetensors" in said.err


@pytest.mark.parametrize("option", ["--modules", "--metadata", "--spectrum"])
def test_what_is_of_one_file_is_refused_for_several(
    kitchen: Bench, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    kitchen.lora("a")
    assert main(["inspect", "a.safetensors", "a.safetensors", option]) == 2
    assert "are of one file, not of 2" in capsys.readouterr().err
