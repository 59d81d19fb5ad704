"""A folder of shards whose build dies or is stopped: the next one goes on, and trusts nothing blindly."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from lorapipe.build.events import Event, Note, Progress
from lorapipe.build.run import Options, build, plan
from lorapipe.errors import BuildError, InputError
from lorapipe.recipe.parsing import load_recipe

from ..bench import Bench
from .scene import Scene, Server, digests

STEPS = """
    a: {load: a.safetensors}
    base: {load: base/}
    half: {scale: a, by: $(seed)}
    model: {merge-into-checkpoint: base, loras: half}
    m: {save: model, to: out/m/, shard-size: 300kB}
"""


@pytest.fixture
def scene(bench: Bench) -> Scene:
    return Scene.make(bench, STEPS)


def run(
    scene: Scene,
    seed: int = 1,
    hook: Callable[[str], None] = lambda point: None,
    listen: list[Event] | None = None,
) -> None:
    told = (lambda event: None) if listen is None else listen.append
    build(load_recipe(scene.recipe, {"seed": seed}), Options(workers=2), hook=hook, listen=told)


def stopping(at: str, nth: int, error: type[BaseException] = KeyboardInterrupt) -> Callable[[str], None]:
    """A hook that raises the ``nth`` time that a build comes to a point."""
    seen = 0

    def hook(point: str) -> None:
        nonlocal seen
        seen += point == at
        if point == at and seen == nth:
            raise error

    return hook


def stop(scene: Scene, nth: int = 2, seed: int = 1) -> Path:
    """Interrupt a build when its ``nth`` shard is finished; the hidden folder of what is."""
    with pytest.raises(KeyboardInterrupt):
        run(scene, seed, stopping("folder:kept", nth))
    part = scene.part()
    assert part is not None
    return part


def inodes(folder: Path) -> dict[str, tuple[int, int]]:
    """Which files lie in a folder: one that was written anew is another, even if it got the old number."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.iterdir()}


def undisturbed(scene: Scene, seed: int = 1) -> dict[str, str]:
    """The bytes of a build that nothing disturbed, which is then taken away."""
    run(scene, seed)
    good = digests(scene.out)
    shutil.rmtree(scene.out / "m")
    return good


def test_after_a_kill_the_next_build_keeps_the_finished_shards_and_writes_the_others(
    scene: Scene, server: Server, store: Path
) -> None:
    good = undisturbed(scene)
    points: list[str] = []
    run(scene, 1, points.append)
    shutil.rmtree(scene.out / "m")
    second = [n for n, point in enumerate(points, start=1) if point == "folder:kept"][1]

    # Two points later the third shard is open and has some bytes.
    assert server.run(scene.job(1, store, at=second + 2)) == [-signal.SIGKILL]
    part = scene.part()
    assert part is not None
    left = inodes(part)
    assert len(left) == 3
    assert not (scene.out / "m").exists()

    told: list[Event] = []
    run(scene, listen=told)

    assert digests(scene.out) == good
    kept = {name for name, inode in inodes(scene.out / "m").items() if left.get(name) == inode}
    assert kept == {name for name in left if "-00001-" in name or "-00002-" in name}
    assert [event.value for event in told if isinstance(event, Note) and event.fact == "resumed"] == [
        "2 of 4 files were finished"
    ]
    last = [event for event in told if isinstance(event, Progress)][-1]
    assert last.done == last.total
    assert scene.part() is None


def test_an_interruption_leaves_what_is_finished_and_nothing_else(scene: Scene) -> None:
    good = undisturbed(scene)
    with pytest.raises(KeyboardInterrupt):
        run(scene, hook=stopping("folder:write", 1))
    assert scene.part() is None

    part = stop(scene, 3)
    assert sorted(inodes(part)) == [f"model-0000{n}-of-00004.safetensors" for n in (1, 2, 3)]
    with pytest.raises(KeyboardInterrupt):  # and the next build is stopped, too
        run(scene, hook=stopping("folder:kept", 1))
    assert len(inodes(part)) == 4

    run(scene)
    assert digests(scene.out) == good
    assert sorted(path.name for path in scene.out.iterdir()) == ["m"]


def test_an_error_leaves_nothing(scene: Scene) -> None:
    with pytest.raises(RuntimeError):
        run(scene, hook=stopping("folder:kept", 2, RuntimeError))
    assert scene.part() is None


@pytest.mark.parametrize("damage", ["flipped", "cut short", "gone", "link", "a stranger's"])
def test_what_is_not_the_recorded_bytes_is_written_anew(scene: Scene, tmp_path: Path, damage: str) -> None:
    good = undisturbed(scene)
    part = stop(scene)
    shard = part / "model-00001-of-00004.safetensors"
    state, data = shard.stat(), bytearray(shard.read_bytes())
    if damage == "flipped":
        data[-5] ^= 1
        shard.write_bytes(data)
        os.utime(shard, ns=(state.st_atime_ns, state.st_mtime_ns))
    elif damage == "cut short":
        os.truncate(shard, len(data) // 2)
    elif damage == "gone":
        shard.unlink()
    elif damage == "link":
        shard.rename(tmp_path / "elsewhere")
        shard.symlink_to(tmp_path / "elsewhere")
    else:
        (part / "evil").mkdir()
        (part / "evil" / "model.safetensors").write_bytes(b"x")
        (part / "evil.py").write_text("x")

    run(scene)

    assert digests(scene.out) == good
    assert not any(path.is_symlink() for path in (scene.out / "m").iterdir())


def test_without_the_books_nothing_is_trusted(scene: Scene, store: Path) -> None:
    """Who packs a recipe with a hidden folder beside it puts nothing into the output."""
    good = undisturbed(scene)
    left = inodes(stop(scene))
    shutil.rmtree(store)
    run(scene)
    assert digests(scene.out) == good
    assert not set(left.values()) & set(inodes(scene.out / "m").values())


def test_what_another_key_left_is_swept(scene: Scene) -> None:
    old = stop(scene, seed=1)
    new = stop(scene, seed=2)
    assert old != new
    assert not old.exists()
    run(scene, seed=2)
    assert sorted(path.name for path in scene.out.iterdir()) == ["m"]


def test_what_is_finished_is_of_the_input_that_it_was_made_of(scene: Scene) -> None:
    """An input that changes meanwhile stops the build at the next shard: none is kept under its key."""
    lora = scene.bench.folder / "a.safetensors"
    before = lora.read_bytes()

    def replace(point: str) -> None:
        if point == "folder:kept" and lora.read_bytes() == before:
            lora.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))

    with pytest.raises(InputError) as caught:
        run(scene, hook=replace)
    assert caught.value.code == "input-changed"
    assert scene.part() is None


def test_what_another_process_is_writing_is_neither_taken_nor_removed(scene: Scene) -> None:
    good = undisturbed(scene)
    part = stop(scene)
    left = inodes(part)
    fd = os.open(part, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # as a build does, of another store perhaps
        run(scene)
        assert digests(scene.out) == good
        run(scene, seed=2)
        assert inodes(part) == left
    finally:
        os.close(fd)
    run(scene, seed=3)
    assert not part.exists()


def test_a_plan_tells_what_is_finished(scene: Scene) -> None:
    recipe = load_recipe(scene.recipe, {"seed": 1})
    stop(scene)
    reason = plan(recipe, read=True).steps["m"].reason
    assert reason == "the folder is not there yet; 2 of 4 files are finished"


def test_a_disk_with_room_for_the_rest_is_large_enough(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    good = undisturbed(scene)
    size = sum(path.stat().st_size for path in stop(scene).iterdir())
    whole = plan(load_recipe(scene.recipe, {"seed": 1}), read=True).steps["m"].cost.written
    usage = shutil.disk_usage(scene.out)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=whole - size - 1))
    with pytest.raises(BuildError) as caught:
        run(scene)
    assert caught.value.code == "disk-full"
    assert scene.part() is not None
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=whole - size + 2000))
    run(scene)
    assert digests(scene.out) == good
