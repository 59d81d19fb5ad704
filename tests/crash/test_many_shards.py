"""A model of thirty shards whose build dies, is stopped or finds no room: nothing is made twice."""

from __future__ import annotations

import errno
import json
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from benchmarks.large import Size, make_adapter, make_model
from lorapipe.build.events import Event, Hashing, Note
from lorapipe.build.run import Options, build, plan
from lorapipe.errors import BuildError
from lorapipe.formats.containers import safetensors
from lorapipe.recipe.parsing import load_recipe

from ..bench import Bench
from .scene import Job, Server, digests

SIZE = Size(layers=8, divide=64)
RECIPE = """lorapipe: 1
params: {seed: 0}
steps:
  base: {load: model/}
  lora: {load: adapter/}
  half: {scale: lora, by: $(seed)}
  merged: {merge-into-checkpoint: base, loras: half}
  m: {save: merged, to: out/m/, shard-size: 150kB}
"""
PARAMS = {"seed": 1}
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Known:
    """The inputs, and of a build that nothing disturbed the bytes, the shards, the points that it came by."""

    folder: Path
    good: dict[str, str]
    files: list[str]
    points: list[str]

    @property
    def kept(self) -> list[int]:
        """Which points are those where a shard is in the books."""
        return [number for number, point in enumerate(self.points, start=1) if point == "folder:kept"]


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Known:
    """A Llama's layers and a LoRA of them, made once."""
    folder = tmp_path_factory.mktemp("models")
    make_model(folder, "llama-70b", SIZE, empty=False).rename(folder / "model")
    make_adapter(folder, "llama-70b", 4, SIZE, empty=False).rename(folder / "adapter")
    points: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORAPIPE_STORE", str(folder / "store"))
        (folder / "r.yaml").write_text(RECIPE)
        run(folder / "r.yaml", points.append)
    good = digests(folder / "out")
    files = sorted(path.name for path in (folder / "out" / "m").glob("*.safetensors"))
    assert len(files) > 29
    return Known(folder, good, files, points)


@pytest.fixture
def recipe(known: Known, bench: Bench) -> Path:
    """The recipe with inputs of its own, which a test may change."""
    for name in ("model", "adapter"):
        shutil.copytree(known.folder / name, bench.folder / name)
    path = bench.folder / "r.yaml"
    path.write_text(RECIPE)
    return path


def run(recipe: Path, hook: Callable[[str], None] = lambda point: None) -> list[Event]:
    told: list[Event] = []
    build(load_recipe(recipe, PARAMS), Options(workers=2), hook=hook, listen=told.append)
    return told


def part(recipe: Path) -> Path:
    (found,) = (recipe.parent / "out").glob(".lorapipe-*.part")
    return found


def inodes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in folder.iterdir()}


def failing(at: str, nth: int, error: BaseException) -> Callable[[str], None]:
    seen = 0

    def hook(point: str) -> None:
        nonlocal seen
        seen += point == at
        if point == at and seen == nth:
            raise error

    return hook


def gone_on(recipe: Path, count: int, known: Known) -> list[Event]:
    """Build again: the first ``count`` shards stay as they are, the others come, and all are right."""
    left = inodes(part(recipe))
    assert set(known.files[:count]) <= set(left)
    told = run(recipe)
    assert digests(recipe.parent / "out") == known.good
    there = inodes(recipe.parent / "out" / "m")
    assert {name for name in known.files if there[name] == left.get(name)} == set(known.files[:count])
    resumed = [event.value for event in told if isinstance(event, Note) and event.fact == "resumed"]
    assert resumed == [f"{count} of {len(known.files)} files were finished"]
    assert [path.name for path in (recipe.parent / "out").iterdir()] == ["m"]
    return told


def hashed(told: list[Event], folder: Path) -> list[str]:
    """The files below a folder that were read to be hashed."""
    found = (event.path for event in told if isinstance(event, Hashing))
    return sorted({path.name for path in found if path.is_relative_to(folder)})


@contextmanager
def reading() -> Iterator[set[str]]:
    """The tensors that are read of any safetensors file meanwhile."""
    real = safetensors.SafetensorsFile.read
    seen: set[str] = set()

    def read(self: safetensors.SafetensorsFile, name: str, *args: int | None) -> bytearray:
        seen.add(name)
        return real(self, name, *args)  # type: ignore[arg-type]  # passed on as it came

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(safetensors.SafetensorsFile, "read", read)
        yield seen


@pytest.mark.parametrize("count", [1, 29])
def test_a_kill_costs_the_shard_at_work_and_no_other(
    known: Known, recipe: Path, server: Server, store: Path, count: int
) -> None:
    # One point later the next shard is open.
    job = Job(recipe, store, 1, at=known.kept[count - 1] + 1)
    assert server.run(job) == [-signal.SIGKILL]
    folder = part(recipe)
    told = gone_on(recipe, count, known)
    # The memo does not take what is younger than the clock's tick, which in memory are a few.
    assert len(hashed(told, folder)) <= count


def test_ctrl_c_keeps_what_is_finished(known: Known, recipe: Path, server: Server, store: Path) -> None:
    count = 20
    job = Job(recipe, store, 1, at=known.kept[count - 1], sends=signal.SIGINT)
    assert server.run(job) == [130]
    assert sorted(inodes(part(recipe))) == known.files[:count]
    gone_on(recipe, count, known)


def test_shards_that_were_finished_are_neither_read_nor_made_again(known: Known, recipe: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(recipe, failing("folder:kept", 25, KeyboardInterrupt()))
    places = json.loads((known.folder / "out" / "m" / INDEX).read_text())["weight_map"]
    with reading() as seen:
        gone_on(recipe, 25, known)
    late = {name for name, file in places.items() if file in known.files[25:]}
    assert seen & set(places) == late


def test_a_full_disk_in_the_middle_keeps_what_is_finished_and_says_so(known: Known, recipe: Path) -> None:
    seen = 0

    def full(point: str) -> None:
        nonlocal seen
        seen += point == "folder:kept"
        if point == "folder:write" and seen == 17:
            raise OSError(errno.ENOSPC, "full")

    with pytest.raises(BuildError) as caught:
        run(recipe, full)
    assert caught.value.code == "disk-full"
    assert "what is finished" in str(caught.value)
    assert sorted(inodes(part(recipe))) == known.files[:17]
    assert "17 of " in plan(load_recipe(recipe, PARAMS), read=True).steps["m"].reason
    gone_on(recipe, 17, known)


def test_when_an_input_shard_changed_nothing_of_the_old_is_kept(known: Known, recipe: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(recipe, failing("folder:kept", 20, KeyboardInterrupt()))
    old = part(recipe)
    left = set(inodes(old).values())
    shard = sorted((recipe.parent / "model").glob("*.safetensors"))[3]
    tensors = load_file(shard)
    name = min(tensors)
    tensors[name] = tensors[name] + 1
    save_file(tensors, shard, {"format": "pt"})

    told = run(recipe)

    assert not [event for event in told if isinstance(event, Note) and event.fact == "resumed"]
    assert not old.exists()
    assert not left & set(inodes(recipe.parent / "out" / "m").values())
    found = digests(recipe.parent / "out")
    place = json.loads((recipe.parent / "out" / "m" / INDEX).read_text())["weight_map"][name]
    # The first file tells of the inputs, too.
    assert {file for file in found if known.good[file] != found[file]} == {
        f"m/{place}",
        f"m/{known.files[0]}",
    }


def test_the_plan_counts_only_what_is_still_to_be_written(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(recipe, failing("folder:kept", 20, KeyboardInterrupt()))
    written = plan(load_recipe(recipe, PARAMS), read=True).steps["m"].cost.written
    needed = written - sum(path.stat().st_size for path in part(recipe).iterdir())
    assert needed < written / 2
    usage = shutil.disk_usage(recipe.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=needed + 5000))
    run(recipe)
