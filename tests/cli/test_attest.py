"""``lorapipe attest``: a statement, printed or written, signed or not; verified, with status 8 if not so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lorapipe.cli import main

from ..bench import Bench
from ..build.proving.test_envelopes import make, write


@pytest.fixture
def built(bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Bench:
    """A folder in which a recipe was run, with a pair of keys; the tests stand in it."""
    bench.lora("a")
    monkeypatch.chdir(bench.folder)
    bench.recipe(
        "a: {load: a.safetensors}\ns: {scale: a, by: $(w)}\nout: {save: s, to: out/o.safetensors}",
        head="params: {w: 1.0}\n",
    )
    assert main(["run", "-q", "r.yaml", "--set", "w=0.5"]) == 0
    write(bench.folder, make("ed25519"))
    capsys.readouterr()
    return bench


def test_a_statement_is_printed(built: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attest", "r.yaml", "--set", "w=0.5", "--builder", "https://example.org/me"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    made = json.loads(printed.out)
    assert made["predicate"]["runDetails"]["builder"]["id"] == "https://example.org/me"
    assert main(["attest", "out/o.safetensors"]) == 0
    assert json.loads(capsys.readouterr().out)["subject"][0]["name"] == "o.safetensors"


def test_other_params_than_those_built_with_are_refused(
    built: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["attest", "r.yaml"]) == 6
    assert "it describes another build" in capsys.readouterr().err


def test_a_signed_statement_is_verified(built: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    sign = ["attest", "r.yaml", "--set", "w=0.5", "--key", "key.pem", "-o", "r.intoto.json"]
    assert main(sign) == 0
    first = Path("r.intoto.json").read_bytes()
    assert main(sign) == 0
    assert Path("r.intoto.json").read_bytes() == first
    assert capsys.readouterr() == ("", "")

    assert main(["attest", "--verify", "r.intoto.json", "--key", "pub.pem"]) == 0
    assert capsys.readouterr().out == "out/o.safetensors: as it was built\nbuilt by pkg:pypi/lorapipe\n"
    assert main(["attest", "--verify", "r.intoto.json"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "not checked who says so: --key PUB.pem checks the signature"
    )


def test_a_change_a_forgery_and_a_missing_signature_end_in_status_8(
    built: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["attest", "r.yaml", "--set", "w=0.5", "-o", "bare.json"]) == 0
    assert main(["attest", "r.yaml", "--set", "w=0.5", "-o", "signed.json", "--key", "key.pem"]) == 0
    assert main(["attest", "--verify", "bare.json", "--key", "pub.pem"]) == 8
    assert capsys.readouterr().err == (
        "bare.json: error: it is not signed - without --key its files alone are checked\n"
    )
    write(built.folder, make("p256"))
    assert main(["attest", "--verify", "signed.json", "--key", "pub.pem"]) == 8
    assert "it was not signed by this key" in capsys.readouterr().err
    shutil.copytree("out", "elsewhere/out")
    Path("out/o.safetensors").write_bytes(b"changed")
    assert main(["attest", "--verify", "bare.json"]) == 8
    assert "out/o.safetensors: has sha256" in capsys.readouterr().err
    assert main(["attest", "--verify", "bare.json", "--root", "elsewhere"]) == 0
    assert main(["attest", "r.yaml", "--set", "w=0.5"]) == 8


def test_a_strangers_names_do_not_steer_the_terminal(
    built: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["attest", "r.yaml", "--set", "w=0.5", "-o", "x.json"]) == 0
    made = json.loads(Path("x.json").read_text())
    made["predicate"]["runDetails"]["builder"]["id"] = "\x1b]0;me\x07"
    Path("x.json").write_text(json.dumps(made))
    assert main(["attest", "--verify", "x.json"]) == 0
    made["subject"][0]["name"] = "\x1b[31m.safetensors"
    Path("x.json").write_text(json.dumps(made))
    assert main(["attest", "--verify", "x.json"]) == 8
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out + printed.err


def test_a_key_is_looked_at_before_anything_is_hashed(
    built: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["attest", "none.yaml", "--key", "pub.pem"]) == 4
    assert capsys.readouterr().err.startswith("pub.pem: error: is no private key")
