"""``lorapipe fmt``."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import pytest

from lorapipe.cli import main

from .test_main import modules_after

UGLY = "lorapipe: 1\nsteps:\n   a: {as: 'lora',load: x.pt} # mine\n"
FORMED = "lorapipe: 1\nsteps:\n  a: {load: x.pt, as: lora}  # mine\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("ugly.yaml").write_text(UGLY, encoding="utf-8")
    Path("formed.yaml").write_text(FORMED, encoding="utf-8")
    return tmp_path


def test_it_writes_what_is_to_be_formatted_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    before = Path("formed.yaml").stat()
    assert main(["fmt", "ugly.yaml", "formed.yaml"]) == 0
    assert capsys.readouterr().out == "ugly.yaml: formatted\nformed.yaml: unchanged\n"
    assert Path("ugly.yaml").read_text() == FORMED
    assert Path("formed.yaml").stat().st_ino == before.st_ino


def test_check_writes_nothing_and_is_status_7(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fmt", "--check", "formed.yaml"]) == 0
    assert main(["fmt", "--check", "ugly.yaml", "formed.yaml"]) == 7
    assert capsys.readouterr().err == (
        "ugly.yaml: error: is not in the form of lorapipe fmt"
        " - lorapipe fmt writes it, --diff shows what changes\n"
    )
    assert Path("ugly.yaml").read_text() == UGLY


def test_diff_shows_and_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fmt", "--diff", "ugly.yaml"]) == 0
    assert (
        "-   a: {as: 'lora',load: x.pt} # mine\n+  a: {load: x.pt, as: lora}  # mine\n"
        in capsys.readouterr().out
    )
    assert main(["fmt", "--diff", "--check", "ugly.yaml"]) == 7
    assert Path("ugly.yaml").read_text() == UGLY


def test_standard_input_goes_to_standard_output(
    capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(UGLY.replace("\n", "\r\n").encode())))
    assert main(["fmt", "-"]) == 0
    assert capsysbinary.readouterr().out == FORMED.replace("\n", "\r\n").encode()


def test_one_that_cannot_be_formatted_does_not_keep_others_from_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("broken.yaml").write_text("steps: {a: \n", encoding="utf-8")
    Path("odd.yaml").write_text("? a\n: b\n", encoding="utf-8")
    assert main(["fmt", "broken.yaml", "odd.yaml", "none.yaml", "ugly.yaml"]) == 3
    captured = capsys.readouterr()
    assert captured.out == "ugly.yaml: formatted\n"
    assert "odd.yaml:1:3: error: a key behind '?' cannot be kept - write it as key: value" in captured.err
    assert "none.yaml: error: no such file or directory" in captured.err
    assert Path("odd.yaml").read_text() == "? a\n: b\n"


def test_a_byte_order_mark_is_taken_off() -> None:
    Path("marked.yaml").write_bytes(b"\xef\xbb\xbf" + FORMED.encode())
    assert main(["fmt", "marked.yaml"]) == 0
    assert Path("marked.yaml").read_bytes() == FORMED.encode()


def test_permissions_and_links_stay() -> None:
    Path("ugly.yaml").chmod(0o640)
    Path("link.yaml").symlink_to("ugly.yaml")
    assert main(["fmt", "link.yaml"]) == 0
    assert Path("link.yaml").is_symlink()
    assert Path("ugly.yaml").read_text() == FORMED
    assert Path("ugly.yaml").stat().st_mode & 0o777 == 0o640


def test_it_is_light(folder: Path) -> None:
    loaded = modules_after("fmt", "--check", str(folder / "formed.yaml"))
    assert not loaded & {"torch", "numpy", "networkx", "jsonschema", "rich"}
