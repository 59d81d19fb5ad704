"""``lorapipe verify``: what it prints, as text and as JSON, and how it ends."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from lorapipe.cli import main
from lorapipe.store.lockfile import read, write

from ..bench import TO_Q, Bench

STEPS = """
    a: {load: a.safetensors}
    out: {save: a, to: out/o.safetensors}
    more: {save: a, to: out/p.safetensors, dtype: fp16}
"""


@pytest.fixture
def kitchen(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    bench.lora("a")
    bench.recipe(STEPS)
    monkeypatch.chdir(bench.folder)
    main(["run", "-q", "r.yaml"])
    return bench


def said_of(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_a_row_an_output(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    digest = hashlib.sha256(Path("out/o.safetensors").read_bytes()).hexdigest()
    assert main(["verify", "r.yaml"]) == 0
    heading, out, more = said_of(capsys)
    assert heading == ["output", "size", "sha256"]
    assert (out[0], out[-2], out[-1]) == ("out/o.safetensors", digest[:12], "ok")
    assert more[-1] == "ok"


def test_what_is_not_ok_ends_with_8(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    Path("out/o.safetensors").write_bytes(b"edited")
    Path("out/p.safetensors").unlink()
    assert main(["verify", "r.yaml"]) == 8
    said = capsys.readouterr()
    assert [line.split()[-1] for line in said.out.splitlines()[1:]] == ["changed", "missing"]
    hint = "move away what changed: 'lorapipe run' makes what is not there"
    assert said.err.splitlines() == [
        f"error: 2 of 2 outputs are not what the lock says - {hint}",
        "  out: changed",
        "  more: missing",
    ]


def test_as_json(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    Path("out/p.safetensors").unlink()
    assert main(["verify", "--json", "r.yaml"]) == 8
    told = json.loads(capsys.readouterr().out)
    out, more = told["outputs"]
    assert (out["step"], out["path"], out["state"]) == ("out", "out/o.safetensors", "ok")
    assert out["sha256"] == out["locked"]["sha256"]
    assert out["locked"]["size"] == Path("out/o.safetensors").stat().st_size
    assert (more["state"], more["sha256"]) == ("missing", None)


def test_built_again(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--rebuild", "r.yaml", "--workers", "1"]) == 0
    heading, *rows = said_of(capsys)
    assert heading == ["output", "size", "sha256", "built", "again"]
    assert [row[-3:] for row in rows] == [["ok", "same", "bytes"]] * 2


def test_built_again_otherwise_is_told_by_tensor(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("out/o.safetensors")
    tensors = load_file(path)
    name = f"{TO_Q}.lora_up.weight"
    tensors[name] *= 2
    save_file(tensors, path, {"only": "\x1b[31m"})
    lock = read(Path("r.lock"))
    assert lock is not None
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    write(
        Path("r.lock"),
        replace(lock, outputs={**lock.outputs, "out": replace(lock.outputs["out"], sha256=sha256)}),
    )

    assert main(["verify", "--rebuild", "r.yaml"]) == 8

    said = capsys.readouterr()
    assert "out: 1 of 12 tensors differ" in said.out
    assert f"{name}  F32    80 of 80" in said.out
    assert "out: metadata only differs" in said.out
    assert "error: built again, outputs are not what the lock says - the lock names " in said.err
    assert said.err.endswith("\n  out: other bytes\n")
    assert "\x1b" not in said.out

    assert main(["verify", "--rebuild", "--json", "r.yaml"]) == 8
    told = json.loads(capsys.readouterr().out)["outputs"][0]["rebuilt"]
    assert told["result"] == "other bytes"
    (difference,) = told["differing"]
    assert (difference["tensor"], difference["shape"], difference["differing"]) == (name, [20, 4], 80)
    assert difference["max-rel"] == 0.5
