from __future__ import annotations

import sys
from pathlib import Path
from types import MappingProxyType

import pytest

from benchmarks import peers, works
from benchmarks.machine import facts
from benchmarks.rounds import run_work
from benchmarks.work import Contestant, Setting, Work


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"none": peers.Peer("lorapipe-has-no-such-peer", "1"), "some": peers.Peer("numpy", "1")}
    monkeypatch.setattr(peers, "PEERS", MappingProxyType(known))


@pytest.mark.usefixtures("nowhere")
def test_a_peer_that_is_not_there_is_told_not_raised(tmp_path: Path) -> None:
    assert peers.find("none", tmp_path).missing == "not installed"


@pytest.mark.usefixtures("nowhere")
def test_why_a_peer_could_not_be_installed_is_kept(tmp_path: Path) -> None:
    (tmp_path / "none.failed").write_text("not installable: no torch")
    assert peers.find("none", tmp_path).missing == "not installable: no torch"


@pytest.mark.usefixtures("nowhere")
def test_a_peer_of_this_environment_is_found_with_its_version(tmp_path: Path) -> None:
    import numpy
    import torch

    found = peers.find("some", tmp_path)
    assert (found.python, found.version, found.torch) == (
        sys.executable,
        numpy.__version__,
        torch.__version__,
    )


@pytest.mark.parametrize("name", ["startup", "sdxl-concat", "llama-merge"])
def test_without_any_peer_a_work_still_stands(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(works, "apart", lambda function, *arguments: function(*arguments))
    gone = peers.Place(missing="not installed")
    work = works.WORKS[name](Setting(True, tmp_path, tmp_path, dict.fromkeys(peers.PEERS, gone)))
    missing = [contestant.name for contestant in work.contestants if contestant.missing]
    ready = [contestant for contestant in work.contestants if not contestant.missing]
    assert missing
    assert all(contestant.command[0] for contestant in ready)


def test_facts_of_the_machine_are_words_without_folders(tmp_path: Path) -> None:
    found = facts(tmp_path)
    assert found["cores"].isdigit()
    assert not any("/" in value or str(tmp_path) in value for value in found.values())


def test_what_needs_more_memory_than_there_is_is_not_started(tmp_path: Path) -> None:
    hungry = Contestant("hungry", "peer", ("touch", str(tmp_path / "started")), needs=2**60)
    (row,) = run_work(Work("none", "", (hungry,)), Setting(True, tmp_path, tmp_path, {}), 1, lambda _: None)
    assert row["missing"].startswith("needs 1073741824 GiB of memory, ")
    assert not row["samples"]
    assert not (tmp_path / "started").exists()
