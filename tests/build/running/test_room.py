"""A disk that is too small: said before any work where it can be known, and else a clean end."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lorapipe.build.events import Event, StepStarted
from lorapipe.build.run import Options, build
from lorapipe.errors import BuildError, LorapipeError
from lorapipe.recipe.parsing import load_recipe

from ...bench import CONV1, PROJ_IN, TE, TO_Q, Bench

SIZE = 4 << 20
"""Bytes of the small disk."""

SHAPES = {TE: (512, 512), TO_Q: (512, 512), PROJ_IN: (512, 512, 1, 1), CONV1: (256, 128, 3, 3)}
"""A checkpoint of 2.2 MB in half precision."""

TWO = """
    base: {load: base.safetensors}
    one: {save: base, to: out/one.safetensors}
    two: {save: base, to: out/two.safetensors}
"""


@pytest.fixture
def disk(bench: Bench) -> Iterator[Path]:
    """``out`` is a disk of its own, of 4 MiB."""
    out = bench.folder / "out"
    out.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(out)]
    program = shutil.which("mount")
    if program is None or subprocess.run(argv, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small disk here")
    yield out
    subprocess.run(["umount", "-l", str(out)], check=True)  # noqa: S607  # it belongs to mount


def run(recipe: Path, told: list[Event] | None = None, **options: int) -> None:
    build(load_recipe(recipe, {}), Options(workers=1, **options), listen=(told or []).append)  # type: ignore[arg-type]  # what is given is a number


def left(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir())


def test_outputs_that_fit_one_by_one_and_not_together_are_refused_before_any_work(
    bench: Bench, disk: Path
) -> None:
    bench.checkpoint(shapes=SHAPES)
    told: list[Event] = []
    with pytest.raises(BuildError) as caught:
        run(bench.recipe(TWO), told)
    assert caught.value.code == "disk-full"
    assert caught.value.exit_status == 5
    assert caught.value.message.startswith(f"no space left in {disk}: 4,")
    assert caught.value.hint == "free some space and run again"
    assert left(disk) == []
    assert not [event for event in told if isinstance(event, StepStarted)]


def test_an_output_needs_room_beside_the_one_that_it_replaces(bench: Bench, disk: Path) -> None:
    bench.checkpoint(shapes=SHAPES)
    recipe = bench.recipe(TWO.replace("two: {save: base, to: out/two.safetensors}", ""))
    run(recipe)
    before = (disk / "one.safetensors").read_bytes()
    bench.checkpoint(shapes=SHAPES, seed=5)
    with pytest.raises(BuildError) as caught:
        run(recipe)
    assert caught.value.code == "disk-full"
    assert (disk / "one.safetensors").read_bytes() == before
    assert left(disk) == ["one.safetensors"]


def test_a_disk_that_fills_meanwhile_ends_the_build_cleanly_and_the_old_output_stays(
    bench: Bench, disk: Path
) -> None:
    bench.checkpoint(shapes={**SHAPES, TE: (64, 64)})
    recipe = bench.recipe(
        "base: {load: base.safetensors}\nm: {save: base, to: out/m/, shard-size: 500kB}", "s.yaml"
    )
    run(recipe)
    before = {path.name: path.read_bytes() for path in (disk / "m").iterdir()}
    bench.checkpoint(shapes={**SHAPES, TE: (64, 64)}, seed=5)
    hog = disk / "hog"

    def fill(point: str) -> None:
        if point == "folder:kept" and not hog.exists():
            free = shutil.disk_usage(disk).free
            hog.write_bytes(bytes(max(free - 50_000, 0)))

    with pytest.raises(BuildError) as caught:
        build(load_recipe(recipe, {}), Options(workers=1), hook=fill)
    assert caught.value.code == "disk-full"
    part, *others = left(disk)
    assert part.endswith(".part")  # the shard that was finished, with which the next build goes on
    assert others == ["hog", "m"]
    assert {path.name: path.read_bytes() for path in (disk / "m").iterdir()} == before
    hog.unlink()
    run(recipe)
    assert left(disk) == ["m"]
    assert {path.name: path.read_bytes() for path in (disk / "m").iterdir()} != before


def test_what_a_killed_build_left_makes_room_before_it_is_counted(bench: Bench, disk: Path) -> None:
    bench.checkpoint(shapes=SHAPES)
    (disk / ".lorapipe-999999999-0123456789abcdef.tmp").write_bytes(bytes(3 << 20))
    run(bench.recipe(TWO.replace("two: {save: base, to: out/two.safetensors}", "")))
    assert left(disk) == ["one.safetensors"]


def test_a_store_without_room_costs_the_result_and_not_the_build(
    bench: Bench, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.lora("a", rank=8)
    monkeypatch.setenv("LORAPIPE_STORE", str(disk / "store"))
    steps = "a: {load: a.safetensors}\nm: {shuffle: a, seed: 1}\no: {save: m, to: first.safetensors}"
    run(bench.recipe(steps))
    free = shutil.disk_usage(disk).free
    (disk / "hog").write_bytes(bytes(free - 80_000))
    run(bench.recipe(steps.replace("seed: 1", "seed: 2").replace("first", "second")))
    assert (bench.folder / "second.safetensors").exists()
    assert not list((disk / "store" / "temp").iterdir())


def test_several_disks_are_named_at_once(bench: Bench, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.checkpoint(shapes=SHAPES)
    usage = shutil.disk_usage(disk)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    recipe = bench.recipe(TWO.replace("out/two", "two"))
    with pytest.raises(LorapipeError) as caught:
        run(recipe)
    assert caught.value.exit_status == 5
    assert str(caught.value).count("no space left in") == 2


def test_what_waits_on_the_disk_must_have_room_there(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """With little memory a large result waits in a file of the store's disk."""
    wide = {TE: (4096, 4096), TO_Q: (4096, 4096), PROJ_IN: (4096, 4096, 1, 1)}
    bench.lora("a", rank=1024, modules=wide)
    usage = shutil.disk_usage(bench.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100_000))
    recipe = bench.recipe(
        "a: {load: a.safetensors}\nm: {svd-resize: a, rank: 512}\no: {save: m, to: out/o.safetensors}"
    )
    with pytest.raises(BuildError) as caught:
        run(recipe, memory=1 << 30)
    assert caught.value.code == "disk-full"
    assert not (bench.folder / "out").exists()


def test_the_folder_that_is_named_is_the_outputs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not that of the store, which may lie on the same disk."""
    bench.checkpoint(shapes=SHAPES)
    recipe = bench.recipe(TWO)
    usage = shutil.disk_usage(bench.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(BuildError, match=f"no space left in {bench.folder}: "):
        run(recipe)
