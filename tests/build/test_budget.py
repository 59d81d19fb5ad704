"""How large the store may be, and that a build keeps to it."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path

import pytest

from lorapipe.build import budget as module
from lorapipe.build.budget import DEFAULT, store_budget
from lorapipe.build.run import Options, build
from lorapipe.build.upkeep import contents, kind_of
from lorapipe.errors import UsageError
from lorapipe.recipe.parsing import load_recipe

from ..bench import Bench

Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(
    ("text", "size"), [("20GiB", 20 * 2**30), ("1.5 GB", 1_500_000_000), ("4096", 4096), ("0", 0)]
)
def test_the_variable_names_a_size(text: str, size: int, tmp_path: Path) -> None:
    assert store_budget({"LORAPIPE_STORE_SIZE": text}, tmp_path) == size


@pytest.mark.parametrize("text", ["much", "-1", "10 giga", "1e9", "10GiB "])
def test_what_is_no_size_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        store_budget({"LORAPIPE_STORE_SIZE": text}, tmp_path)
    assert str(caught.value) == (
        f"error: LORAPIPE_STORE_SIZE is no size: '{text}' - such as 20GiB, or unset it"
    )


@pytest.mark.parametrize(("disk", "size"), [(10**14, DEFAULT), (10**11, 10**10)])
def test_by_default_it_is_50_gib_and_on_a_small_disk_a_tenth(
    disk: int, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: Usage(disk, 0, disk))

    assert store_budget({}, tmp_path / "not" / "there") == size
    assert store_budget({"LORAPIPE_STORE_SIZE": ""}, tmp_path) == size


STEPS = """
    a: {load: a.safetensors}
    small: {svd-resize: a, rank: $(r)}
    mixed: {shuffle: small}
    out: {save: mixed, to: out.safetensors}
"""


def run(bench: Bench, rank: int) -> None:
    build(load_recipe(bench.folder / "r.yaml", {"r": rank}), Options(workers=1))


@pytest.fixture
def kitchen(bench: Bench) -> Bench:
    bench.lora("a")
    bench.recipe(STEPS, head="params: {r: 2}\n")
    return bench


def test_a_build_lets_go_of_what_is_too_much_but_for_what_it_used(
    kitchen: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORAPIPE_STORE_SIZE", "1")
    run(kitchen, 2)
    first = {kept.sha256 for kept in contents().results}
    assert len(first) == 2, "its own results stay, whatever the size"

    run(kitchen, 3)

    second = contents().results
    assert sorted(str(kind_of(kept)) for kept in second) == ["shuffle", "svd-resize"]
    assert not first & {kept.sha256 for kept in second}


def test_within_its_size_nothing_goes(kitchen: Bench) -> None:
    run(kitchen, 2)
    run(kitchen, 3)

    assert len(contents().results) == 4


def test_a_build_that_makes_no_result_lets_nothing_go(
    kitchen: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(kitchen, 2)
    run(kitchen, 3)
    monkeypatch.setenv("LORAPIPE_STORE_SIZE", "1")

    run(kitchen, 3)

    assert len(contents().results) == 4


def test_a_size_that_is_none_is_refused_before_any_work(
    kitchen: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORAPIPE_STORE_SIZE", "much")
    with pytest.raises(UsageError):
        run(kitchen, 2)
    assert not (kitchen.folder / "out.safetensors").exists()
