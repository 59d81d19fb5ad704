"""``lorapipe lock``, and runs that are held to what it wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorapipe.cli import main

from ..bench import Bench


def test_it_says_what_it_wrote_and_what_it_took_over(
    kitchen: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lock", "r.yaml"]) == 0
    assert capsys.readouterr() == ("r.lock: written\n  not built yet: out\n", "")
    assert main(["lock", "r.yaml", "--set", "by=0.25"]) == 0
    assert capsys.readouterr().out == (
        "r.lock: written\n  param by 0.5 -> 0.25\n  step half: by 0.5 -> 0.25\n  not built yet: out\n"
    )
    main(["run", "-q", "r.yaml", "--set", "by=0.25"])
    assert main(["lock", "r.yaml", "--set", "by=0.25"]) == 0
    assert capsys.readouterr().out == "r.lock: up to date\n"


def test_quiet_and_another_place(kitchen: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lock", "-q", "r.yaml", "--lock", str(tmp_path / "my.lock")]) == 0
    assert capsys.readouterr() == ("", "")
    assert (tmp_path / "my.lock").is_file()
    assert not (kitchen.folder / "r.lock").exists()


def test_a_locked_run_that_is_refused_says_everything_and_ends_with_6(
    kitchen: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--locked", "r.yaml"]) == 6
    assert capsys.readouterr().err == "r.lock: error: there is no lock - 'lorapipe lock' writes it\n"
    main(["lock", "-q", "r.yaml"])
    assert main(["run", "--locked", "r.yaml", "--set", "by=2.0"]) == 6
    assert capsys.readouterr().err == (
        "r.lock: error: it describes another build - 'lorapipe lock' takes over what is now\n"
        "  param by 0.5 -> 2.0\n  step half: by 0.5 -> 2.0\n"
    )
    assert not (kitchen.folder / "out").exists()


@pytest.mark.parametrize("how", [["--locked"], ["--frozen"], ["--locked", "--any-profile"]])
def test_a_locked_run_builds_what_is_locked(
    kitchen: Bench, capsys: pytest.CaptureFixture[str], how: list[str]
) -> None:
    main(["lock", "-q", "r.yaml"])
    assert main(["run", "r.yaml", *how]) == 0
    assert "written" in capsys.readouterr().out


def test_values_of_a_strangers_lock_do_not_steer_the_terminal(
    kitchen: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["lock", "-q", "r.yaml"])
    lock = kitchen.folder / "r.lock"
    lock.write_text(lock.read_text().replace("by: 0.5", 'by: "\\e[2Jred\\r"'))
    assert main(["run", "--locked", "r.yaml"]) == 6
    said = capsys.readouterr().err
    assert "param by \\x1b[2Jred\\r -> 0.5" in said or "param by \\\\u001b" in said
    assert "\x1b" not in said
    assert main(["lock", "r.yaml"]) == 0
    assert "\x1b" not in capsys.readouterr().out
