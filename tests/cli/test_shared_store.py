"""``lorapipe`` with a shared store: what its commands print, and with what they end."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from lorapipe.cli import main

from ..bench import Bench

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "server").mkdir()
    monkeypatch.setenv("LORAPIPE_SHARED_STORE", f"file://{tmp_path}/server")
    return tmp_path / "server"


@pytest.fixture
def built(bench: Bench, server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A recipe that another machine has built; this one has nothing of it but the inputs."""
    bench.lora("a")
    bench.recipe("""
        a: {load: a.safetensors}
        small: {svd-resize: a, rank: 2}
        fine: {check: small, norm: {max: 1000}}
        out: {save: small, to: o.safetensors}
    """)
    monkeypatch.chdir(bench.folder)
    assert main(["run", "r.yaml", "-q"]) == 0
    (bench.folder / "o.safetensors").unlink()
    (bench.folder / "r.lock").unlink()
    monkeypatch.setenv("LORAPIPE_STORE", str(tmp_path / "another"))
    return bench


def age(server: Path, days: int) -> None:
    for path in server.rglob("*"):
        at = path.stat().st_mtime - days * 86_400
        os.utime(path, (at, at))


def test_a_run_tells_what_was_fetched(built: Bench, capsys: Capture) -> None:
    capsys.readouterr()
    assert main(["run", "r.yaml", "--progress", "plain"]) == 0
    said = capsys.readouterr()

    assert "small: fetched in" in said.err
    assert "1 from the shared store, 1 written" in said.err


def test_a_plan_tells_what_would_be_fetched(built: Bench, capsys: Capture) -> None:
    capsys.readouterr()
    assert main(["plan", "--hash", "r.yaml"]) == 0
    said = capsys.readouterr().out
    assert "to fetch\n       in the shared store: key " in said
    assert " to read, " in said.splitlines()[-1]
    assert " to fetch, " in said.splitlines()[-1]

    assert main(["plan", "--json", "r.yaml"]) == 0
    (step,) = [each for each in json.loads(capsys.readouterr().out)["steps"] if each["id"] == "small"]
    assert step["status"] == "in the store"
    assert step["fetch"] > 0


def test_status_and_explain_say_where_it_is(built: Bench, capsys: Capture) -> None:
    assert main(["plan", "--hash", "r.yaml"]) == 0
    capsys.readouterr()
    assert main(["status", "r.yaml"]) == 0
    assert "small  in the shared store" in capsys.readouterr().out
    assert main(["explain", "r.yaml", "small"]) == 0
    assert "in the shared store: its result is in the shared store, key " in capsys.readouterr().out


def test_events_are_those_of_the_schema(built: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    import jsonschema

    from lorapipe.recipe.schemas import find_schemas

    schema = json.loads((find_schemas() / "events.v1.schema.json").read_text())
    capfd.readouterr()
    assert main(["run", "r.yaml", "--progress", "json"]) == 0
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]

    for line in lines:
        jsonschema.Draft7Validator(schema).validate(line)
    (planned,) = [line for line in lines if line["event"] == "planned"]
    fetched = [line for line in lines if line["event"] == "progress" and line["unit"] == "fetched"]
    assert fetched[-1]["done"] == planned["fetch"] > 0
    assert {line["how"] for line in lines if line["event"] == "step-done"} == {"fetched", "written"}


def test_trouble_is_a_warning_and_status_0(built: Bench, server: Path, capsys: Capture) -> None:
    shutil.rmtree(server)
    capsys.readouterr()
    assert main(["run", "r.yaml"]) == 0
    said = capsys.readouterr().err
    assert said.count(f"warning: the shared store file://{server} is not asked: there is no such folder") == 1


def test_trouble_after_the_plan_is_told_too(
    built: Bench, server: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (server / "blobs").rglob("*"):
        if path.is_file():
            path.write_bytes(bytes(path.stat().st_size))
    capsys.readouterr()
    assert main(["run", "r.yaml", "--progress", "plain"]) == 0
    said = capsys.readouterr().err
    assert said.count(f"warning: the shared store file://{server} has damaged results") == 1


def test_ls_says_what_is_there(built: Bench, server: Path, capsys: Capture) -> None:
    capsys.readouterr()
    assert main(["store", "ls"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("shared: 2 results, ")
    assert last.endswith(f" in file://{server}")

    assert main(["store", "ls", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["shared"]
    assert (found["url"], found["results"]) == (f"file://{server}", 2)


def test_ls_shows_its_own_results_though_the_shared_ones_cannot_be_asked(
    built: Bench, server: Path, capsys: Capture
) -> None:
    shutil.rmtree(server)
    capsys.readouterr()
    assert main(["store", "ls"]) == 0
    assert f"shared: file://{server} cannot be asked: there is no such folder" in capsys.readouterr().out
    assert main(["store", "ls", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["shared"] == {
        "url": f"file://{server}",
        "error": "there is no such folder",
    }


def test_path_is_the_folder_whatever_is_shared(
    server: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LORAPIPE_STORE", raising=False)
    monkeypatch.delenv("LORAPIPE_SHARED_STORE")
    assert main(["store", "path"]) == 0
    usual = capsys.readouterr().out
    monkeypatch.setenv("LORAPIPE_STORE", f"file://{server}")
    assert main(["store", "path"]) == 0
    assert capsys.readouterr().out == usual


def test_pull_fetches_what_is_there_and_lacks_here(built: Bench, capsys: Capture) -> None:
    capsys.readouterr()
    assert main(["store", "pull", "r.yaml"]) == 0
    first = capsys.readouterr().out.splitlines()
    assert ["fetched" in line for line in first] == [True, False]  # a check's figures come with the plan
    assert main(["store", "pull", "r.yaml", "--set", "x=1"]) != 0
    capsys.readouterr()
    assert main(["store", "pull", "r.yaml"]) == 0
    assert all("there already" in line for line in capsys.readouterr().out.splitlines())


def test_pull_says_what_nobody_gave(built: Bench, server: Path, capsys: Capture) -> None:
    for path in server.rglob("*.json"):
        if path.parent.parent.name == "manifests":
            path.unlink()
    capsys.readouterr()
    assert main(["store", "pull", "r.yaml"]) == 0
    assert all(line.endswith("not there") for line in capsys.readouterr().out.splitlines())


def test_push_gives_what_was_made_before(
    built: Bench, server: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("blobs", "manifests"):
        shutil.rmtree(server / name)
    capsys.readouterr()
    assert main(["store", "push", "r.yaml"]) == 0
    assert all(line.endswith("not here") for line in capsys.readouterr().out.splitlines())

    monkeypatch.setenv("LORAPIPE_STORE", str(tmp_path / "store"))
    assert main(["store", "push", "r.yaml"]) == 0
    assert all(": given, " in line for line in capsys.readouterr().out.splitlines())
    assert main(["store", "push", "r.yaml"]) == 0
    assert all(": there already, " in line for line in capsys.readouterr().out.splitlines())
    monkeypatch.setenv("LORAPIPE_STORE", str(tmp_path / "third"))
    assert main(["run", "r.yaml"]) == 0
    assert "1 from the shared store" in capsys.readouterr().err


def test_push_fails_where_not_all_could_be_given(
    built: Bench, server: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(server)
    monkeypatch.setenv("LORAPIPE_STORE", str(tmp_path / "store"))
    capsys.readouterr()
    assert main(["store", "push", "r.yaml"]) == 5
    assert f"error: the shared store file://{server} is not asked: there is no such folder" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["push", "r.yaml"], "no shared store is named"),
        (["pull", "r.yaml"], "no shared store is named"),
        (["gc", "--shared", "--older-than", "1d"], "no shared store is named"),
        (["gc", "--shared"], "it is not said what of the shared store may go"),
    ],
)
def test_what_cannot_be_asked_for_is_status_2(
    built: Bench, capsys: Capture, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.delenv("LORAPIPE_SHARED_STORE")
    capsys.readouterr()
    assert main(["store", *words]) == 2
    assert message in capsys.readouterr().err


def test_gc_shared_lets_go_of_what_is_old_and_says_so(built: Bench, server: Path, capsys: Capture) -> None:
    age(server, 100)
    capsys.readouterr()
    assert main(["store", "gc", "--shared", "--older-than", "90d", "--dry-run"]) == 0
    foretold = capsys.readouterr().out
    assert foretold.count("would go: ") == 2
    assert "given 100 days ago" in foretold
    assert main(["store", "gc", "--shared", "--older-than", "90d"]) == 0
    assert capsys.readouterr().out == foretold.replace("would go", "removed").replace(
        "would be freed", "freed"
    )
    assert not any(path.is_file() for path in (server / "blobs").rglob("*"))


def test_a_bad_name_is_said_before_anything_else(
    built: Bench, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORAPIPE_SHARED_STORE", "ftp://host/x")
    capsys.readouterr()
    for words in (["run", "r.yaml"], ["plan", "r.yaml"], ["store", "ls"]):
        assert main(words) == 2
        assert "LORAPIPE_SHARED_STORE names no shared store: 'ftp://host/x'" in capsys.readouterr().err
