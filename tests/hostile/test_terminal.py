"""No name of a stranger's steers a terminal: not of files, tensors, metadata, params, shards, keys."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lorapipe.cli import main
from lorapipe.cli.main import COMMANDS

from ..bench import TO_Q, Bench
from .builders import ENTRY, safetensors, torch_zip

EVIL = "\x1b[31m\x1b]0;owned\x07\x9b2J\u202e\u200b\x08\r\x7f"
NAME = f"e{EVIL}vil.safetensors"


@pytest.fixture
def kitchen(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.chdir(bench.folder)
    bench.lora("a")
    bench.checkpoint()
    return bench


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command prints, checked: nothing but printable characters and ends of lines."""
    main(list(arguments))
    printed = capsys.readouterr()
    text = printed.out + printed.err
    bad = {char for char in text if not char.isprintable() and char != "\n"}
    assert not bad, f"{arguments}: {bad} in {text!r}"
    assert text
    assert "internal error" not in text
    return text


def with_names(path: Path, names: Iterable[str], metadata: dict[str, str] | None = None) -> None:
    tensors = {f"{name}.lora_{side}.weight": torch.ones(2, 2) for name in names for side in ("up", "down")}
    save_file(tensors, path, metadata)


def commands_on(file: str) -> list[tuple[str, ...]]:
    return [
        ("inspect", file),
        ("inspect", file, "--modules"),
        ("inspect", file, "--metadata", "--spectrum"),
        ("inspect", file, "--json"),
        ("report", file),
        ("report", file, "--json"),
        ("diff", file, "a.safetensors", "--modules"),
        ("diff", "base.safetensors", file),
        ("recover", file),
        ("attest", file),
    ]


COMMANDS_ON_A_RECIPE = [
    ("validate", "r.yaml"),
    ("plan", "r.yaml"),
    ("plan", "r.yaml", "--modules"),
    ("plan", "r.yaml", "--json"),
    ("graph", "r.yaml"),
    ("run", "r.yaml"),
    ("report", "r.yaml"),
    ("plan", "r.yaml", "--check"),
    ("attest", "r.yaml"),
    ("recover", "o.safetensors"),
    ("inspect", "o.safetensors"),
    *((name, "r.yaml") for name in ("lock", "status", "verify", "explain") if name in COMMANDS),
]


def test_names_of_files_of_tensors_and_in_metadata(
    kitchen: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    file = kitchen.folder / NAME
    with_names(
        file, [f"x{EVIL}", f"lora_unet_{EVIL}_to_q"], {f"k{EVIL}": f"v{EVIL}", "ss_base_model_version": EVIL}
    )
    for command in commands_on(NAME):
        said(capsys, *command)


def test_a_checkpoint_of_such_names(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    save_file({f"model{EVIL}": torch.ones(2)}, kitchen.folder / NAME, {EVIL: EVIL})
    for command in commands_on(NAME):
        said(capsys, *command)


@pytest.mark.parametrize("command", COMMANDS_ON_A_RECIPE, ids=" ".join)
def test_an_input_of_such_a_name_in_a_recipe(
    command: tuple[str, ...], kitchen: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    (kitchen.folder / "a.safetensors").rename(kitchen.folder / "a\u202e\u200b.safetensors")
    kitchen.recipe('a: {load: "a\\u202e\\u200b.safetensors"}\nout: {save: a, to: o.safetensors}')
    main(["run", "-q", "r.yaml"])
    capsys.readouterr()
    main(list(command))
    printed = capsys.readouterr()
    assert all(c.isprintable() or c == "\n" for c in printed.out + printed.err), printed


@pytest.mark.parametrize("command", COMMANDS_ON_A_RECIPE[:6], ids=" ".join)
def test_modules_of_such_names_in_a_recipe(
    command: tuple[str, ...], kitchen: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = load_file(kitchen.folder / "a.safetensors")
    evil = {key.replace(TO_Q, f"{TO_Q}{EVIL}"): tensor for key, tensor in tensors.items()}
    save_file(evil, kitchen.folder / "a.safetensors", {EVIL: EVIL})
    kitchen.recipe(
        "base: {load: base.safetensors}\na: {load: a.safetensors, family: sd1}\n"
        "m: {merge-into-checkpoint: base, loras: a, unmatched: warn}\nout: {save: m, to: o.safetensors}"
    )
    said(capsys, *command)


def test_modules_of_such_names_that_go_through_every_step(
    kitchen: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    with_names(kitchen.folder / "x.safetensors", [f"layer.{EVIL}.q", "layer.1.q"], {EVIL: EVIL})
    kitchen.recipe(
        "a: {load: x.safetensors}\nb: {scale: a, by: 2}\nc: {concat: [a, b]}\nd: {shuffle: c}\n"
        "e: {svd-resize: d, rank: 1}\nout: {save: e, to: o.safetensors}\nplain: {save: c, to: p.safetensors}"
    )
    for command in COMMANDS_ON_A_RECIPE:
        said(capsys, *command)
    for command in commands_on("p.safetensors"):
        said(capsys, *command)


def test_a_recipes_own_words(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters are refused in a recipe; what only turns or hides text is not."""
    odd = "\u202e\u200b\u2066"
    kitchen.recipe(
        f'a: {{load: "a{odd}.safetensors", description: "{odd}", family: "{odd}"}}\n'
        f'b: {{lo{odd}d: x}}\nout: {{save: a, to: "{odd}.safetensors"}}',
        head=f'name: "{odd}"\nparams: {{w: "{odd}"}}\n',
    )
    for command in COMMANDS_ON_A_RECIPE:
        said(capsys, *command)
    said(capsys, "plan", "r.yaml", "--set", f"w{EVIL}=1")
    said(capsys, "plan", f"{EVIL}.yaml")
    said(capsys, f"x{EVIL}")
    said(capsys, "steps", EVIL)
    kitchen.recipe(f"a: {{load: '{EVIL}'}}")
    said(capsys, "validate", "r.yaml")
    (kitchen.folder / f"{EVIL}.yaml").write_text("lorapipe: 1\nsteps: {}\n")
    said(capsys, "validate", f"{EVIL}.yaml")


HEADERS = {
    "a tensor": {f"a{EVIL}": {**ENTRY, "dtype": EVIL}},
    "a dtype": {"a": {**ENTRY, "dtype": EVIL}},
    "a field": {"a": {**ENTRY, EVIL: 1}},
    "an overlap": {f"a{EVIL}": ENTRY, f"b{EVIL}": ENTRY},
    "a size": {f"a{EVIL}": {**ENTRY, "shape": [7]}},
}


@pytest.mark.parametrize("name", HEADERS)
def test_errors_about_a_file_that_lies(name: str, kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    (kitchen.folder / NAME).write_bytes(safetensors(HEADERS[name]))
    for command in commands_on(NAME):
        said(capsys, *command)


def test_names_twice_in_a_header(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    key = json.dumps(f"a{EVIL}")
    (kitchen.folder / NAME).write_bytes(safetensors(f"{{{key}:1,{key}:2}}"))
    said(capsys, "inspect", NAME)


def test_names_in_a_pickle(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    for number, text in enumerate((f"os{EVIL}", "os")):
        pickled = f"\x80\x02c{text}\n{EVIL.replace(chr(13), '')}\n.".encode("latin-1", "replace")
        (kitchen.folder / f"{number}{EVIL}.pt").write_bytes(torch_zip(pickled))
        said(capsys, "inspect", f"{number}{EVIL}.pt")


def test_names_in_an_index(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    folder = kitchen.folder / f"m{EVIL}"
    folder.mkdir()
    index = {"weight_map": {f"t{EVIL}": f"x{EVIL}.safetensors", EVIL: "../../etc/passwd"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for command in commands_on(folder.name):
        said(capsys, *command)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {f"t{EVIL}": EVIL}}))
    said(capsys, "inspect", folder.name)


def test_names_in_a_lock_and_in_an_attestation(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = kitchen.recipe("a: {load: a.safetensors}\nout: {save: a, to: o.safetensors}")
    main(["run", "-q", "r.yaml"])
    lock = recipe.with_suffix(".lock")
    lock.write_text(lock.read_text().replace("o.safetensors", "\\u001b[31m\\u202e.safetensors"))
    capsys.readouterr()
    for command in COMMANDS_ON_A_RECIPE:
        main(list(command))
        printed = capsys.readouterr()
        assert all(c.isprintable() or c == "\n" for c in printed.out + printed.err), printed
