"""A build that dies at any point: the next one ends with the right bytes, and no file is ever partial."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.context import BaseContext
from pathlib import Path

import pytest
from safetensors import SafetensorError, safe_open

from lorapipe.build.run import Options, build
from lorapipe.recipe.parsing import load_recipe

from ..bench import Bench

STEPS = """
    a: {load: a.safetensors}
    m: {shuffle: a, seed: $(seed)}
    one: {save: m, to: out/one.safetensors, dtype: fp16}
    two: {save: a, to: out/two.safetensors}
"""


@pytest.fixture(scope="module")
def spawner() -> BaseContext:
    """Children from a server that has loaded torch once, so that each death costs little."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "lorapipe.build.run", "lorapipe.build.executor"])
    return context


def _build(recipe: Path, seed: int, hook: Callable[[str], None] = lambda point: None) -> None:
    build(load_recipe(recipe, {"seed": seed}), Options(workers=1), hook=hook)


def _die_at(recipe: Path, store: str, seed: int, number: int) -> None:
    os.environ["LORAPIPE_STORE"] = store
    passed = 0

    def hook(point: str) -> None:
        nonlocal passed
        passed += 1
        if passed == number:
            os.kill(os.getpid(), signal.SIGKILL)

    _build(recipe, seed, hook)


def _points(bench: Bench) -> list[str]:
    points: list[str] = []
    _build(bench.recipe(STEPS, head="params: {seed: 0}\n"), 0, points.append)
    return points


def _digests(bench: Bench) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((bench.folder / "out").glob("*"))
    }


def _assert_whole(bench: Bench) -> None:
    """Every visible output is a file that the safetensors library reads to the end."""
    for path in (bench.folder / "out").glob("*.safetensors"):
        try:
            with safe_open(path, "pt") as file:
                for name in file.keys():  # noqa: SIM118 - a safetensors handle is no mapping
                    file.get_tensor(name)
        except SafetensorError as error:
            pytest.fail(f"{path.name} is partial: {error}")


def test_a_kill_at_any_point_of_a_first_build_is_made_good_by_the_next(
    bench: Bench, spawner: BaseContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.lora("a", rank=4)
    points = _points(bench)
    good = _digests(bench)
    assert {point.partition(":")[0] for point in points} >= {"output", "journal", "blob", "manifest"}

    # The first and the last pass of each point; in between lie writes like them.
    last = {point: number for number, point in enumerate(points, start=1)}
    first = {point: number for number, point in reversed(list(enumerate(points, start=1)))}
    for number in sorted({*first.values(), *last.values()}):
        point = points[number - 1]
        for path in (bench.folder / "out").iterdir():
            path.unlink()
        store = str(tmp_path / f"store-{number}")
        child = spawner.Process(target=_die_at, args=(bench.folder / "r.yaml", store, 0, number))
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL, point
        _assert_whole(bench)

        monkeypatch.setenv("LORAPIPE_STORE", store)
        _build(bench.folder / "r.yaml", 0)
        assert _digests(bench) == good, f"after a death at {point}"


def test_a_kill_while_an_output_is_replaced_leaves_the_old_one_or_the_new(
    bench: Bench, spawner: BaseContext, tmp_path: Path
) -> None:
    bench.lora("a", rank=4)
    points = _points(bench)
    old = _digests(bench)
    _build(bench.folder / "r.yaml", 1)
    new = _digests(bench)
    assert old["one.safetensors"] != new["one.safetensors"]

    for number in range(1, len(points) + 1, 4):
        _build(bench.folder / "r.yaml", 0)
        assert _digests(bench) == old
        # A seed that no build had: its results are not in the store.
        args = (bench.folder / "r.yaml", str(tmp_path / "store"), 100 + number, number)
        child = spawner.Process(target=_die_at, args=args)
        child.start()
        child.join()
        _assert_whole(bench)

    _build(bench.folder / "r.yaml", 1)
    assert _digests(bench) == new


def test_two_processes_that_build_one_recipe_at_once_both_end_well(
    bench: Bench, spawner: BaseContext, tmp_path: Path
) -> None:
    bench.lora("a", rank=4)
    recipe = bench.recipe(STEPS, head="params: {seed: 5}\n")
    children = [
        spawner.Process(target=_die_at, args=(recipe, str(tmp_path / "store"), 5, 0)) for _ in range(3)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()

    assert [child.exitcode for child in children] == [0, 0, 0]
    _assert_whole(bench)
    shared = _digests(bench)
    for path in (bench.folder / "out").iterdir():
        path.unlink()
    _build(recipe, 5)
    assert _digests(bench) == shared
