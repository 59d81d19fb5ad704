"""``lorapipe store``: what its commands print, remove, and end with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lorapipe.cli import main
from lorapipe.views.store import age_text

from ..bench import Bench


@pytest.fixture
def built(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    bench.lora("a")
    bench.recipe("""
        a: {load: a.safetensors}
        small: {svd-resize: a, rank: 2}
        mixed: {shuffle: small}
        out: {save: mixed, to: o.safetensors}
    """)
    monkeypatch.chdir(bench.folder)
    monkeypatch.setenv("LORAPIPE_STORE_SIZE", "10 GB")
    assert main(["run", "r.yaml", "-q"]) == 0
    return bench


Capture = pytest.CaptureFixture[str]


def listed(capsys: Capture) -> dict[str, object]:
    capsys.readouterr()
    assert main(["store", "ls", "--json"]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def results(capsys: Capture) -> list[dict[str, object]]:
    found = listed(capsys)["results"]
    assert isinstance(found, list)
    return found


def test_path_prints_the_folder(bench: Bench, tmp_path: Path, capsys: Capture) -> None:
    assert main(["store", "path"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'store'}\n"


def test_ls_prints_a_row_a_result_and_the_size(built: Bench, tmp_path: Path, capsys: Capture) -> None:
    keys = [str(each["key"]) for each in results(capsys)]

    assert main(["store", "ls"]) == 0

    heading, first, second, empty, total = capsys.readouterr().out.splitlines()
    assert heading.split() == ["key", "kind", "size", "used"]
    assert [first[:12], second[:12]] == [key[:12] for key in keys]
    assert "shuffle" in first
    assert first.endswith("just now")
    assert "svd-resize" in second
    assert empty == ""
    assert total.startswith("2 results, ")
    assert total.endswith(f" kB of at most 10 GB, in {tmp_path / 'store'}")


def test_ls_as_json_has_whole_keys_and_bytes(built: Bench, tmp_path: Path, capsys: Capture) -> None:
    found = listed(capsys)

    assert {key: found[key] for key in ("version", "path", "max_size")} == {
        "version": 1,
        "path": str(tmp_path / "store"),
        "max_size": 10**10,
    }
    (first, second) = results(capsys)
    assert set(first) == {"key", "keys", "kind", "sha256", "size", "used", "pinned"}
    assert (first["kind"], second["kind"]) == ("shuffle", "svd-resize")
    blob = tmp_path / "store" / "blobs" / str(first["sha256"])[:2] / str(first["sha256"])
    assert first["size"] == blob.stat().st_size


def test_an_empty_store_is_a_line(bench: Bench, tmp_path: Path, capsys: Capture) -> None:
    assert main(["store", "ls"]) == 0
    assert capsys.readouterr().out.startswith("0 results, 0 B of at most ")
    assert main(["store", "verify"]) == 0
    assert capsys.readouterr().out == "0 results as they were, 0 B\n"
    assert not (tmp_path / "store").exists()


def test_gc_says_what_goes_and_a_dry_run_what_would(built: Bench, capsys: Capture) -> None:
    before = results(capsys)

    assert main(["store", "gc", "--max-size", "0B", "--dry-run"]) == 0
    would = capsys.readouterr().out
    assert results(capsys) == before

    assert main(["store", "gc", "--max-size", "0B"]) == 0
    did = capsys.readouterr().out
    assert results(capsys) == []
    # The longest unused goes first.
    keys = [str(each["key"])[:12] for each in reversed(before)]
    assert [
        line.split()[2] for line in would.splitlines() if line.startswith("would go: ") and "used" in line
    ] == keys
    assert [
        line.split()[1] for line in did.splitlines() if line.startswith("removed: ") and "used" in line
    ] == keys
    assert "would be freed, 0 B of results left" in would
    assert did.splitlines()[-1].endswith(" freed, 0 B of results left")


def test_gc_keeps_to_the_stores_size_if_none_is_given(
    built: Bench, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["store", "gc"]) == 0
    assert len(results(capsys)) == 2
    monkeypatch.setenv("LORAPIPE_STORE_SIZE", "1B")
    assert main(["store", "gc"]) == 0
    assert results(capsys) == []


def test_gc_by_age(built: Bench, capsys: Capture) -> None:
    assert main(["store", "gc", "--older-than", "1h"]) == 0
    assert len(results(capsys)) == 2
    assert main(["store", "gc", "--older-than", "0s"]) == 0
    assert results(capsys) == []


def test_pinned_results_stay_until_they_are_let_go(built: Bench, capsys: Capture) -> None:
    key = str(results(capsys)[1]["key"])

    assert main(["store", "pin", key[:8]]) == 0
    assert capsys.readouterr().out == f"{key[:12]}: pinned\n"
    assert main(["store", "pin", key[:8]]) == 0
    assert capsys.readouterr().out == f"{key[:12]}: pinned already\n"
    main(["store", "gc", "--max-size", "0B"])
    assert [each["key"] for each in results(capsys)] == [key]
    assert results(capsys)[0]["pinned"] is True

    assert main(["store", "unpin", "r.yaml"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{key[:12]} small: not pinned any more"
    assert said[1].endswith(" mixed: was not pinned, not in the store yet")
    main(["store", "gc", "--max-size", "0B"])
    assert results(capsys) == []


def test_verify_has_status_8_and_names_what_was_damaged(
    built: Bench, tmp_path: Path, capsys: Capture
) -> None:
    assert main(["store", "verify"]) == 0
    assert capsys.readouterr().out.startswith("2 results as they were, ")
    (first, _) = results(capsys)
    blob = tmp_path / "store" / "blobs" / str(first["sha256"])[:2] / str(first["sha256"])
    blob.write_bytes(b"not what it was")

    assert main(["store", "verify"]) == 8

    said = capsys.readouterr()
    assert said.out.startswith("1 result as it was, ")
    assert said.err.splitlines()[-1] == f"  {str(first['key'])[:12]} shuffle"
    assert len(results(capsys)) == 1


def test_verify_as_json_says_the_same(built: Bench, tmp_path: Path, capsys: Capture) -> None:
    (first, _) = results(capsys)
    blob = tmp_path / "store" / "blobs" / str(first["sha256"])[:2] / str(first["sha256"])
    blob.write_bytes(b"not what it was")

    assert main(["store", "verify", "--json"]) == 8

    found = json.loads(capsys.readouterr().out)
    assert (found["version"], found["sound"]) == (1, 1)
    assert [each["key"] for each in found["damaged"]] == [first["key"]]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["gc", "--max-size", "much"], "error: --max-size takes a size, not 'much' - such as 1GiB"),
        (
            ["gc", "--older-than", "long"],
            "error: --older-than takes a length of time, not 'long' - such as 30d, 12h or 90min",
        ),
        (["pin", "0123456789"], "error: no key begins with '0123456789' - lorapipe store ls shows them"),
    ],
)
def test_a_wrong_command_line_has_status_2(
    bench: Bench, capsys: Capture, arguments: list[str], error: str
) -> None:
    assert main(["store", *arguments]) == 2
    assert capsys.readouterr().err == f"{error}\n"


def test_a_recipe_that_is_not_there_cannot_be_pinned(bench: Bench, capsys: Capture) -> None:
    assert main(["store", "pin", "nothing.yaml"]) == 4
    assert "nothing.yaml" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "just now"), (59, "just now"), (60, "1 minute ago"), (7200, "2 hours ago"), (86400, "1 day ago")],
)
def test_ages_are_told_in_one_unit(seconds: int, text: str) -> None:
    assert age_text(seconds * 10**9) == text


def test_a_time_to_come_is_now() -> None:
    """Clocks are set back."""
    assert age_text(-5 * 10**9) == "just now"
