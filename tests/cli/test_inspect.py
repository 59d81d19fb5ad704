"""``lorapipe inspect``: what a file is, read from its header."""

from __future__ import annotations

import json
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
    assert said.out.splitlines()[1:3] == [
        "holds                  a LoRA, rank 4",
        "family                 SD1.x (sd1)",
    ]


def test_modules_are_listed_where_asked_for(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    kitchen.lora("a")
    main(["inspect", "a.safetensors"])
    assert KEYS[TO_Q] not in capsys.readouterr().out
    main(["inspect", "a.safetensors", "--modules"])
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
    assert "holds    a checkpoint\nfamily   SD1.x (sd1)\n" in capsys.readouterr().out


def test_only_the_header_is_read(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    path = kitchen.lora("a")
    tensors = load_file(path)
    tensors[f"{TO_Q}.lora_up.weight"].fill_(torch.nan)
    save_file(tensors, path)
    assert main(["inspect", "a.safetensors", "--family", "sd1"]) == 0


def test_a_folder_is_shown_as_its_file_would_be_with_the_size_of_all_that_counts(
    kitchen: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    hf_folder(Path("m"), load_file(kitchen.checkpoint()), 2)
    size = sum(path.stat().st_size for path in Path("m").iterdir())
    Path("m/pytorch_model.bin").write_bytes(b"of another day")
    assert main(["inspect", "m/", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["size"], found["tensors"]) == (size, 7)


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
