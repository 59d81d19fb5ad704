"""Commands whose inputs lie elsewhere: what they print, and the status with which they end."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from lorapipe.cli import main

from ..bench import Bench
from ..remote.servers import Bucket, Faults, Files, Hub

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def kitchen(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.chdir(bench.folder)
    return bench


@pytest.fixture
def laid(kitchen: Bench, web: Files, hub: Hub) -> Bench:
    """A recipe of a LoRA of a web server and one of the Hub; neither lies here."""
    a, b = kitchen.lora("a"), kitchen.lora("b", seed=2)
    hub.large = 100
    hub.commit("org/repo", {"b.safetensors": b.read_bytes()})
    kitchen.recipe(
        f"""
        a: {{load: {web.put("a.safetensors", a.read_bytes())}}}
        b: {{load: hf://org/repo/b.safetensors}}
        both: {{concat: {{a: 1.0, b: 0.5}}}}
        out: {{save: both, to: o.safetensors}}
        """
    )
    a.unlink()
    b.unlink()
    return kitchen


def test_a_plan_shows_urls_and_how_far_they_are_known(laid: Bench, web: Files, capsys: Capture) -> None:
    assert main(["plan", "r.yaml"]) == 0
    said = capsys.readouterr().out
    assert f"load {web.address}/a.safetensors\n" in said
    assert "sha256 not hashed yet\n" in said
    assert "load hf://org/repo@" in said
    assert "... as its server has it\n" in said
    assert "outside the recipe's folder" not in said


def test_json_has_urls(laid: Bench, web: Files, capsys: Capture) -> None:
    assert main(["plan", "--json", "r.yaml"]) == 0
    steps = {step["id"]: step for step in json.loads(capsys.readouterr().out)["steps"]}
    assert steps["a"]["file"]["path"] == f"{web.address}/a.safetensors"
    assert steps["a"]["file"]["sha256"] is None
    assert steps["b"]["file"]["certainty"] == "as its server has it"


def test_a_build_and_what_looks_at_it(laid: Bench, web: Files, capsys: Capture) -> None:
    assert main(["run", "r.yaml"]) == 0
    digest = hashlib.sha256(Path("o.safetensors").read_bytes()).hexdigest()
    capsys.readouterr()
    for command, said in {
        "status": f"{web.address}/a.safetensors",
        "verify": digest[:12],
        "explain": "up to date",
        "attest": '"name": "a.safetensors"',
        "graph": "a.safetensors",
        "plan": "nothing to do",
    }.items():
        assert main([command, "r.yaml"]) == 0, command
        assert said in capsys.readouterr().out, command
    assert main(["status", "r.yaml"]) == 0
    assert "not hashed yet" not in capsys.readouterr().out
    assert main(["report", "r.yaml"]) == 0
    assert main(["lock", "r.yaml"]) == 0
    assert main(["recover", "o.safetensors"]) == 0


def test_what_changed_at_a_url_is_explained(laid: Bench, web: Files, capsys: Capture) -> None:
    assert main(["run", "r.yaml"]) == 0
    web.put("a.safetensors", laid.lora("c", seed=9).read_bytes())
    assert main(["plan", "--check", "--hash", "r.yaml"]) == 7
    capsys.readouterr()
    assert main(["explain", "r.yaml"]) == 0
    assert "a.safetensors" in capsys.readouterr().out


def test_validate_opens_no_connection(laid: Bench, web: Files, hub: Hub) -> None:
    assert main(["validate", "r.yaml"]) == 0
    assert (web.asked, hub.asked) == ([], [])


def test_a_file_elsewhere_is_inspected_and_compared(
    kitchen: Bench, web: Files, s3: Bucket, capsys: Capture
) -> None:
    a, b = kitchen.lora("a"), kitchen.lora("b", seed=2)
    url = web.put("a.safetensors", a.read_bytes())
    assert main(["inspect", "a.safetensors"]) == 0
    here = capsys.readouterr().out
    assert main(["inspect", url]) == 0
    assert capsys.readouterr().out == here
    assert main(["diff", "a.safetensors", "b.safetensors"]) == 0
    here = capsys.readouterr().out
    assert main(["diff", url, s3.put("b.safetensors", b.read_bytes())]) == 0
    assert capsys.readouterr().out == here


def test_a_checkpoint_elsewhere_is_inspected_by_its_header_alone(
    kitchen: Bench, web: Files, capsys: Capture
) -> None:
    data = kitchen.checkpoint().read_bytes()
    assert main(["inspect", web.put("base.safetensors", data)]) == 0
    assert "a checkpoint" in capsys.readouterr().out
    assert len(web.asked) <= 3


@pytest.mark.parametrize(
    ("url", "status", "said"),
    [
        ("{web}/none.safetensors", 4, "there is no such file - check the URL"),
        ("s4://bucket/x.safetensors", 2, "'s4://' is no place to load from"),
        ("https://me:pass@host/x.safetensors", 2, "keep credentials where their makers look for them"),
        ("http://127.0.0.1:9/x.safetensors", 4, "refuses the connection"),
        ("{web}/m/", 4, "a web server does not tell what lies in a folder"),
    ],
)
def test_errors_have_a_status_and_no_traceback(
    kitchen: Bench, web: Files, capsys: Capture, url: str, status: int, said: str
) -> None:
    assert main(["inspect", url.format(web=web.address)]) == status
    printed = capsys.readouterr()
    assert said in printed.err
    assert "Traceback" not in printed.err
    assert "pass@" not in printed.err


def test_a_refused_file_ends_a_run_with_4_and_nothing_appears(
    laid: Bench, web: Files, capsys: Capture
) -> None:
    web.faults = Faults(status=403)
    assert main(["run", "r.yaml"]) == 4
    error = capsys.readouterr().err
    assert "r.yaml:3:" in error
    assert "refuses access (403)" in error
    assert not Path("o.safetensors").exists()


def test_a_wrong_patience_is_a_wrong_use(
    laid: Bench, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("LORAPIPE_REMOTE_TIMEOUT", "soon")
    assert main(["plan", "r.yaml"]) == 2
    assert "LORAPIPE_REMOTE_TIMEOUT is 'soon'" in capsys.readouterr().err


def test_status_tells_what_is_gone_from_what_cannot_be_told(
    laid: Bench, web: Files, hub: Hub, capsys: Capture
) -> None:
    assert main(["run", "r.yaml"]) == 0
    del web.files["a.safetensors"]
    hub.faults = Faults(status=403)
    capsys.readouterr()
    main(["status", "r.yaml"])
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert "missing" in rows["a"]
    assert "cannot be told" in rows["b"]
