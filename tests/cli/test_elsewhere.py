"""``--output-root`` with a URL, as a user sees it."""

from __future__ import annotations

import json

import pytest

from lorapipe.cli import main

from ..bench import Bench
from ..remote.servers import Bucket, Faults

pytestmark = pytest.mark.usefixtures("small_parts")


@pytest.fixture
def kitchen(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    bench.lora("a")
    bench.recipe("a: {load: a.safetensors}\nout: {save: a, to: out/x.safetensors}")
    monkeypatch.chdir(bench.folder)
    return bench


def test_run_plan_status_and_verify_name_the_url(
    kitchen: Bench, s3: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    root, url = ["--output-root", s3.url("team")], s3.url("team/out/x.safetensors")
    for command in ("run", "plan", "status", "verify", "explain"):
        assert main([command, "r.yaml", *root]) == 0, command
        assert url in capsys.readouterr().out, command
    assert main(["plan", "r.yaml", "--check", *root]) == 0
    capsys.readouterr()
    for command, path in (
        ("plan", lambda told: told["steps"][1]["file"]["path"]),
        ("status", lambda told: told["steps"][1]["path"]),
        ("verify", lambda told: told["outputs"][0]["path"]),
    ):
        assert main([command, "r.yaml", "--json", *root]) == 0
        assert path(json.loads(capsys.readouterr().out)) == url


def test_a_folder_is_named_with_or_without_a_slash(kitchen: Bench, s3: Bucket) -> None:
    assert main(["run", "r.yaml", "-q", "--output-root", s3.url("team/")]) == 0
    assert main(["plan", "r.yaml", "--check", "--output-root", s3.url("team")]) == 0


@pytest.mark.parametrize(
    ("root", "said"),
    [
        ("ftp://host/x", "nothing is written to 'ftp://host/x' - name a folder, s3://bucket/prefix or gs://"),
        ("s3://", "names no bucket"),
        ("s3://key:secret@bucket/x", "names a user"),
        ("https://host/x?token=abc", "has 'token' in its query"),
    ],
)
def test_a_url_that_is_none_is_a_fault_of_the_line(
    kitchen: Bench, capsys: pytest.CaptureFixture[str], root: str, said: str
) -> None:
    assert main(["run", "r.yaml", "--output-root", root]) == 2
    error = capsys.readouterr().err
    assert "error: --output-root: " in error
    assert said in error


def test_an_output_that_cannot_be_written_is_shown_in_its_recipe(
    kitchen: Bench, s3: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    s3.faults = Faults(status=403, only=lambda method, path: method == "POST")
    assert main(["run", "r.yaml", "--output-root", s3.url("team")]) == 5
    assert capsys.readouterr().err == (
        f"r.yaml:4:15: error: {s3.url('team/out/x.safetensors')}: the server refuses access (403) - "
        "give credentials: AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; "
        "FSSPEC_S3_ANON=true reads a public bucket\n"
        "     4 |   out: {save: a, to: out/x.safetensors}\n"
        "       |               ^\n"
    )


def test_the_hub_is_refused_with_another_way(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "r.yaml", "--output-root", "hf://org/repo"]) == 3
    assert "'hf upload REPO FOLDER' makes one commit of it" in capsys.readouterr().err
