"""A build dies, or its disk fills, at any point: outputs are old or new, the store is sound."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from lorapipe.store.lockfile import read
from lorapipe.store.store import open_store

from . import one_build

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def start(folder: Path, version: str, *action: str) -> subprocess.Popen[str]:
    argv = [sys.executable, one_build.__file__, str(folder), version, *action]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)


SERVER: list[subprocess.Popen[str]] = []


@pytest.fixture(scope="module", autouse=True)
def serving() -> Iterator[None]:
    """A process that forks builds, for the functions below."""
    argv, pipe = [sys.executable, one_build.__file__, "--serve"], subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True, env=ENVIRONMENT) as process:
        SERVER.append(process)
        yield
        SERVER.clear()
        assert process.stdin is not None
        process.stdin.close()


def run(folder: Path, version: str, *action: str) -> tuple[int, list[str]]:
    """The child's exit status, and the lines it printed."""
    (end,) = run_all([(folder, [version, *action])])
    return end


def run_all(jobs: Sequence[tuple[Path, list[str]]]) -> list[tuple[int, list[str]]]:
    """Several children at once, each in a folder of its own."""
    (process,) = SERVER
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps([[str(folder), *arguments] for folder, arguments in jobs]) + "\n")
    process.stdin.flush()
    return [(status, lines) for status, lines in json.loads(process.stdout.readline())]


def temporaries(folder: Path) -> list[Path]:
    return list(folder.rglob(".lorapipe-*"))


def folder_of(folder: Path) -> dict[str, bytes] | None:
    """What lies in the output folder, by relative name; ``None`` if it is not there."""
    path = folder / "out" / "m"
    files = (file for file in path.rglob("*") if file.is_file())
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files} if path.exists() else None


def check_never_partial(folder: Path, versions: tuple[str, ...]) -> None:
    """What any process may find at any time: whole files, ours; entries absent or right."""
    path = folder / "out" / "f"
    with open_store(folder / "store", looking=True) as store:
        if path.exists():
            data = path.read_bytes()
            assert data in [one_build.content(version) for version in versions]
            assert store.journal.ours(path, hashlib.sha256(data).hexdigest())
            assert store.memo.lookup(path) in (None, hashlib.sha256(data).hexdigest())
        whole = folder_of(folder)
        if whole is not None:
            assert whole in [one_build.folder_content(version) for version in versions]
            assert any(store.journal.ours(folder / "out" / "m", one_build.folder_digest(v)) for v in versions)
        for version in versions:
            entry = store.entries.get(one_build.key(version))
            assert entry is None or entry.path.read_bytes() == one_build.result(version)
    for manifest in (folder / "store" / "manifests").rglob("*.json"):
        assert manifest.stem in [one_build.key(version) for version in versions]
    read(folder / "r.lock")


def check_finished(folder: Path, version: str) -> None:
    assert (folder / "out" / "f").read_bytes() == one_build.content(version)
    assert folder_of(folder) == one_build.folder_content(version)
    lock = read(folder / "r.lock")
    assert lock is not None
    assert {output.path: output.sha256 for output in lock.outputs.values()} == {
        "out/m": one_build.folder_digest(version),
        "out/f": hashlib.sha256(one_build.content(version)).hexdigest(),
    }
    assert temporaries(folder) == []
    with open_store(folder / "store", looking=True) as store:
        assert store.entries.get(one_build.key(version)) is not None
        assert store.memo.lookup(folder / "out" / "f") is not None
        assert store.memo.lookup(folder / "out" / "m" / "unet" / "weights") is not None


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the version ``old`` was built."""
    folder = tmp_path_factory.mktemp("old")
    assert run(folder, "old")[0] == 0
    check_finished(folder, "old")
    return folder


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """Each point that a build passes, with a count for those it passes more than once."""
    _, lines = run(tmp_path_factory.mktemp("points"), "new")
    seen: Counter[str] = Counter()
    found = []
    for point in lines[:-1]:
        seen[point] += 1
        found.append((point, str(seen[point])))
    return found


def test_the_points_are_those_that_matter(points: list[tuple[str, str]]) -> None:
    names = list(dict.fromkeys(point for point, _ in points))
    staged = ["created", "write", "seal", "sealed", "publish", "renamed", "published"]
    blob = [f"blob:{point}" for point in staged]
    # What fits the buffer is written when it is sealed.
    manifest = [f"manifest:{p}" for p in ("created", "seal", "write", *staged[3:])]
    output = [f"output:{point}" for point in staged]
    output[4:4] = ["journal:record", "journal:recorded"]
    # No folder is moved aside for the first one; the journal's points are passed a second time.
    assert names == blob + manifest + output + [f"folder:{point}" for point in staged]
    assert points.count(("blob:write", "3")) == points.count(("output:write", "3")) == 1
    assert points.count(("folder:write", "3")) == points.count(("journal:recorded", "2")) == 1


def test_where_a_folder_is_replaced_there_is_one_point_more(old: Path, tmp_path: Path) -> None:
    _, lines = run(copied(old, tmp_path / "again"), "new")
    assert "folder:aside" in lines


def copied(folder: Path, target: Path) -> Path:
    """A copy in which the outputs are still ours: journals go by path, so it is recorded again."""
    shutil.copytree(folder, target)
    data = (target / "out" / "f").read_bytes()
    with open_store(target / "store") as store:
        store.journal.record(target / "out" / "f", hashlib.sha256(data).hexdigest(), one_build.key("old"))
        store.journal.record(target / "out" / "m", one_build.folder_digest("old"), one_build.key("old"))
    return target


def test_killed_at_each_point_it_leaves_old_or_new_and_the_next_run_finishes(
    old: Path, points: list[tuple[str, str]], tmp_path: Path
) -> None:
    points = [*points, ("folder:aside", "1")]
    folders = [copied(old, tmp_path / str(number)) for number in range(len(points))]
    killed = run_all([(folder, ["new", *at, "kill"]) for folder, at in zip(folders, points, strict=True)])
    for folder, (point, _), (status, lines) in zip(folders, points, killed, strict=True):
        assert (status, lines[-1]) == (-signal.SIGKILL, point)
        check_never_partial(folder, ("old", "new"))
        later = point in ("output:renamed", "output:published", "folder:aside") or passed(lines, "output")
        assert (folder / "out" / "f").read_bytes() == one_build.content("new" if later else "old")
        if point == "folder:aside":
            assert folder_of(folder) is None
            continue
        renamed = point in ("folder:renamed", "folder:published")
        assert folder_of(folder) == one_build.folder_content("new" if renamed else "old")
    again = run_all([(folder, ["new"]) for folder in folders])
    kept = points.index(("manifest:renamed", "1"))
    assert outcomes_of(again) == ["built"] * kept + ["found"] * (len(points) - kept)
    for folder in folders:
        check_never_partial(folder, ("old", "new"))
        check_finished(folder, "new")


def passed(lines: list[str], label: str) -> bool:
    return f"{label}:published" in lines


def outcomes_of(runs: list[tuple[int, list[str]]]) -> list[str]:
    assert all(status == 0 for status, _ in runs)
    return [lines[-1] for _, lines in runs]


def test_killed_at_each_point_of_the_first_build_it_leaves_nothing_or_the_output(
    points: list[tuple[str, str]], tmp_path: Path
) -> None:
    chosen = points[::5]
    folders = [tmp_path / str(number) for number in range(len(chosen))]
    for folder in folders:
        folder.mkdir()
    killed = run_all([(folder, ["new", *at, "kill"]) for folder, at in zip(folders, chosen, strict=True)])
    assert {status for status, _ in killed} == {-signal.SIGKILL}
    for folder in folders:
        check_never_partial(folder, ("new",))
    assert {status for status, _ in run_all([(folder, ["new"]) for folder in folders])} == {0}
    for folder in folders:
        check_finished(folder, "new")


def test_a_disk_full_at_each_write_is_exit_5_and_leaves_the_old_output(
    old: Path, points: list[tuple[str, str]], tmp_path: Path
) -> None:
    writes = [(point, nth) for point, nth in points if point.endswith(":write")]
    assert len(writes) == 12
    folders = [copied(old, tmp_path / str(number)) for number in range(len(writes))]
    full = run_all([(folder, ["new", *at, "full"]) for folder, at in zip(folders, writes, strict=True)])
    for folder, (status, lines) in zip(folders, full, strict=True):
        assert (status, lines[-1]) == (5, "disk-full")
        assert temporaries(folder) == []
        check_never_partial(folder, ("old", "new"))
        done = passed(lines, "output")
        assert (folder / "out" / "f").read_bytes() == one_build.content("new" if done else "old")
        assert folder_of(folder) == one_build.folder_content("old")
    assert run(folders[0], "new")[0] == 0
    check_finished(folders[0], "new")


def test_killed_at_random_moments_the_next_run_finishes(tmp_path: Path) -> None:
    chance = random.Random(5)  # noqa: S311  # moments, not secrets
    versions = ("a", "b", "c")
    started = time.monotonic()
    assert run(tmp_path, "a")[0] == 0
    took = time.monotonic() - started
    for number in range(10):
        child = start(tmp_path, versions[number % 3])
        time.sleep(chance.uniform(0.3, 1.0) * took)
        child.kill()
        child.communicate()
        check_never_partial(tmp_path, versions)
    assert run(tmp_path, "b")[0] == 0
    check_finished(tmp_path, "b")


def test_several_processes_that_want_one_result_build_it_once(tmp_path: Path) -> None:
    children = [start(tmp_path, "same") for _ in range(4)]
    ended = [(*child.communicate(timeout=60), child.returncode) for child in children]
    outcomes = [out.splitlines()[-1] for out, _, _ in ended]
    assert {(err, status) for _, err, status in ended} == {("", 0)}
    assert sorted(outcomes) == ["built", "found", "found", "found"]
    check_never_partial(tmp_path, ("same",))
    check_finished(tmp_path, "same")


def test_several_processes_with_different_results_share_a_store(tmp_path: Path) -> None:
    """They write one output in turn: it is one of theirs, whole, and each knows it as ours."""
    versions = ("a", "b", "c", "d")
    children = [start(tmp_path, version) for version in versions]
    for child in children:
        child.communicate(timeout=60)
    check_never_partial(tmp_path, versions)
    with open_store(tmp_path / "store", looking=True) as store:
        assert sum(store.entries.get(one_build.key(v)) is not None for v in versions) == 4
    assert run(tmp_path, "a")[0] == 0
    check_finished(tmp_path, "a")


def test_the_death_of_the_builder_frees_those_who_wait(tmp_path: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from lorapipe.store.store import open_store
from tests.crash.one_build import key
with open_store(Path(sys.argv[1]) / "store") as store, store.entries.lock(key("new")):
    print("holds", flush=True)
    time.sleep(60)
"""
    argv = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "holds\n"
        waiter = start(tmp_path, "new")
        time.sleep(0.5)
        assert waiter.poll() is None
        holder.kill()
    out, _ = waiter.communicate(timeout=30)
    assert out.splitlines()[-1] == "built"
    check_finished(tmp_path, "new")
