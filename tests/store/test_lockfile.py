"""The lock beside a recipe: deterministic, merge-friendly, read with suspicion."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lorapipe.errors import LockError
from lorapipe.store.lockfile import (
    LockedInput,
    LockedOutput,
    LockedStep,
    LockFile,
    lock_path,
    parse,
    read,
    relative,
    render,
    write,
)

A, B, C, D = ("a" * 64, "b" * 64, "1" * 64, "12e4" * 16)

LOCK = LockFile(
    lorapipe="0.1.0",
    params={"strength": 0.8, "rank": 4},
    profile={"torch": "2.13.0", "device": "cpu", "compute": "float64"},
    inputs={
        "style": LockedInput("loras/style.safetensors", B, 5),
        "char": LockedInput("../char.safetensors", C, 7),
    },
    steps={
        "both": LockedStep("concat", 1, {"concat": (("char", 1.0), ("style", -0.4))}),
        "no": LockedStep("shuffle", 2, {"shuffle": (("both", 1.0),)}, {"seed": 7, "mode": "rotate"}, D),
    },
    outputs={"lora": LockedOutput("out/x.safetensors", C, 123, D)},
)

TEXT = f"""\
# Written by lorapipe: what the recipe beside this file was built from, and what came out.
# It can be merged, or deleted: `lorapipe lock` writes it again.
version: 2
lorapipe: "0.1.0"
params:
  rank: 4
  strength: 0.8
profile:
  compute: "float64"
  device: "cpu"
  torch: "2.13.0"
inputs:
  char:
    path: "../char.safetensors"
    sha256: "{C}"
    size: 7
  style:
    path: "loras/style.safetensors"
    sha256: "{B}"
    size: 5
steps:
  both:
    kind: "concat"
    version: 1
    inputs:
      concat: [["char", 1.0], ["style", -0.4]]
  "no":
    kind: "shuffle"
    version: 2
    inputs:
      shuffle: [["both", 1.0]]
    params:
      mode: "rotate"
      seed: 7
    key: "{D}"
outputs:
  lora:
    path: "out/x.safetensors"
    sha256: "{C}"
    size: 123
    key: "{D}"
"""

digests = st.text("0123456789abcdef", min_size=64, max_size=64)
ids = st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True)
words = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
sizes = st.integers(0, 2**63)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words
terms = st.lists(st.tuples(ids, st.floats(allow_nan=False, allow_infinity=False)), max_size=3).map(tuple)
steps = st.builds(
    LockedStep,
    words,
    st.integers(0, 99),
    st.dictionaries(ids, terms, max_size=2),
    st.dictionaries(ids, scalars | st.dictionaries(ids, scalars, min_size=1, max_size=2), max_size=3),
    st.none() | digests,
)
locks = st.builds(
    LockFile,
    lorapipe=words,
    date=st.none() | words,
    params=st.dictionaries(ids, scalars | st.lists(scalars, max_size=3), max_size=3),
    profile=st.dictionaries(ids, words, max_size=3),
    inputs=st.dictionaries(
        ids, st.builds(LockedInput, words, digests, sizes, st.none() | words, st.none() | words), max_size=3
    ),
    steps=st.dictionaries(ids, steps, max_size=3),
    outputs=st.dictionaries(ids, st.builds(LockedOutput, words, digests, sizes, digests), max_size=3),
)


def test_the_text_is_sorted_with_one_block_a_step() -> None:
    assert render(LOCK) == TEXT


def test_any_yaml_reader_reads_it() -> None:
    found = yaml.safe_load(TEXT)
    assert found["steps"]["no"] == {
        "kind": "shuffle",
        "version": 2,
        "inputs": {"shuffle": [["both", 1.0]]},
        "params": {"mode": "rotate", "seed": 7},
        "key": D,
    }
    assert found["inputs"]["char"] == {"path": "../char.safetensors", "sha256": C, "size": 7}


@given(locks)
@settings(max_examples=100, deadline=None)
def test_parsing_what_was_rendered_gives_the_lock_back(lock: LockFile) -> None:
    assert parse(render(lock)) == lock


@given(locks, st.randoms())
@settings(max_examples=30, deadline=None)
def test_the_order_of_mappings_does_not_show(lock: LockFile, random: Any) -> None:
    def shuffled(mapping: Any) -> dict[str, Any]:
        items = list(mapping.items())
        random.shuffle(items)
        return dict(items)

    names = ("params", "profile", "inputs", "steps", "outputs")
    other = replace(lock, **{name: shuffled(getattr(lock, name)) for name in names})
    assert render(other) == render(lock)


def test_branches_that_change_different_steps_merge_without_conflict(tmp_path: Path) -> None:
    ours = replace(LOCK, inputs={**LOCK.inputs, "char": LockedInput("../char.safetensors", A, 8)})
    theirs = replace(LOCK, outputs={"lora": LockedOutput("out/x.safetensors", A, 9, A)})
    for name, lock in [("base", LOCK), ("ours", ours), ("theirs", theirs)]:
        (tmp_path / name).write_text(render(lock))
    merged = subprocess.run(
        ["git", "merge-file", "-p", "ours", "base", "theirs"],  # noqa: S607  # whichever git there is
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert merged.returncode == 0
    assert parse(merged.stdout) == replace(ours, outputs=theirs.outputs)


def test_a_missing_lock_is_none(tmp_path: Path) -> None:
    assert read(tmp_path / "char.lock") is None


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "char.lock"
    assert write(path, LOCK)
    assert read(path) == LOCK
    assert path.read_text() == TEXT
    assert [entry.name for entry in tmp_path.iterdir()] == ["char.lock"]


def test_an_unchanged_lock_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "char.lock"
    write(path, LOCK)
    before = path.stat()
    assert not write(path, replace(LOCK, params=dict(reversed(LOCK.params.items()))))
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert write(path, replace(LOCK, lorapipe="0.2.0"))


def test_unknown_fields_of_this_version_are_passed_over() -> None:
    assert parse(TEXT + "later:\n  x: 1\n") == LOCK
    assert parse(TEXT.replace("    size: 5\n", "    size: 5\n    more: [1]\n")) == LOCK


def test_sections_may_be_missing() -> None:
    assert parse('version: 2\nlorapipe: "0"\n') == LockFile(lorapipe="0")


def test_a_lock_of_version_1_is_read_as_far_as_it_goes() -> None:
    text = f"""\
version: 1
lorapipe: "0.1.0"
recipe: "{A}"
steps:
  m:
    kind: "shuffle"
    version: 1
    key: "{D}"
"""
    assert parse(text) == LockFile(lorapipe="0.1.0", steps={"m": LockedStep("shuffle", 1, key=D)})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("version: 2\n", "", "'version' is missing"),
        ("version: 2\n", "version: '2'\n", "'version' is not a whole number"),
        ('lorapipe: "0.1.0"', "lorapipe: 1", "'lorapipe' is not a text"),
        ('lorapipe: "0.1.0"\n', "", "'lorapipe' is missing"),
        ('lorapipe: "0.1.0"\n', 'lorapipe: "0"\ndate: 2001\n', "'date' is not a text"),
        ("size: 5", "size: true", "'inputs: style: size' is not a whole number"),
        ("size: 5", "size: -5", "'inputs: style: size' is not a whole number"),
        ("    size: 5\n", "", "'inputs: style: size' is missing"),
        ("size: 123", "size: 1.5", "'outputs: lora: size' is not a whole number"),
        (f'key: "{D}"', 'key: "../../x"', "'steps: no: key' is not a sha256"),
        (
            '[["char", 1.0]',
            '["char", ["x", 1.0]',
            "'steps: both: inputs' is not lists of steps and weights",
        ),
        ('["char", 1.0]', '["char", "1"]', "'steps: both: inputs' is not lists of steps and weights"),
        ('["char", 1.0]', '["char", true]', "'steps: both: inputs' is not lists of steps and weights"),
        ('["char", 1.0]', '["char", 1e999]', "'steps: both: inputs' is not lists of steps and weights"),
        (
            '["char", 1.0]',
            f'["char", 1{"0" * 400}]',
            "'steps: both: inputs' is not lists of steps and weights",
        ),
        ('["char", 1.0]', "[5, 1.0]", "'steps: both: inputs' is not lists of steps and weights"),
        ("    inputs:\n      concat: [[", "    inputs: [[", "'steps: both: inputs' is not a map"),
        ("    params:\n      mode", "    params: 7\n    mode", "line 34: did not find expected key"),
        ('kind: "concat"', "kind: [concat]", "'steps: both: kind' is not a text"),
        ("  both:\n", "  both: 5\n  two:\n", "'steps: both' is not a map"),
        ("params:\n  rank: 4\n  strength: 0.8\n", "params: [1]\n", "'params' is not a map"),
        ("  style:\n", "  char:\n", "line 17: 'char' is given twice"),
        ("  rank: 4\n", "  rank: &r 4\n", "line 6: anchors and aliases have no place in it"),
        ("params:\n", "params: [\n", "line 7: did not find expected ',' or ']'"),
    ],
)
def test_a_malformed_lock_is_named_with_place_and_remedy(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in TEXT
    path = tmp_path / "char.lock"
    path.write_text(TEXT.replace(old, new, 1))
    with pytest.raises(LockError) as caught:
        read(path)
    assert caught.value.code == "lock-malformed"
    assert str(caught.value) == f"{path}: error: {message} - 'lorapipe lock' writes it again"


def test_a_lock_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "char.lock"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(LockError) as caught:
        read(path)
    assert str(caught.value) == (f"{path}: error: it is not UTF-8 text - 'lorapipe lock' writes it again")


def test_a_folder_in_its_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(LockError) as caught:
        read(tmp_path)
    assert caught.value.code == "lock-unreadable"
    assert str(caught.value) == f"{tmp_path}: error: it cannot be read: it is not a regular file"


@pytest.mark.parametrize("marker", ["<<<<<<< HEAD", "=======", ">>>>>>> branch"])
def test_conflict_markers_are_called_that(tmp_path: Path, marker: str) -> None:
    path = tmp_path / "char.lock"
    path.write_text(TEXT.replace("  both:\n", f"{marker}\n  both:\n"))
    with pytest.raises(LockError) as caught:
        read(path)
    assert caught.value.code == "lock-conflict"
    assert str(caught.value) == (
        f"{path}: error: it holds git's conflict markers - 'lorapipe lock' writes it again"
    )


def test_a_newer_format_is_not_guessed_at(tmp_path: Path) -> None:
    path = tmp_path / "char.lock"
    path.write_text(TEXT.replace("version: 2\n", "version: 3\n", 1))
    with pytest.raises(LockError) as caught:
        read(path)
    assert caught.value.code == "lock-newer"
    assert str(caught.value) == (
        f"{path}: error: its format is version 3, made by a newer lorapipe - update lorapipe"
    )


def test_the_lock_lies_beside_its_recipe() -> None:
    assert lock_path(Path("recipes/char.yaml")) == Path("recipes/char.lock")
    assert lock_path(Path("char.v2.yaml")) == Path("char.v2.lock")


def test_paths_are_relative_to_the_folder_with_forward_slashes(tmp_path: Path) -> None:
    folder = tmp_path / "recipes"
    assert relative(folder / "out" / "x", folder) == "out/x"
    assert relative(tmp_path / "models" / "x", folder) == "../models/x"
    assert os.sep not in relative(folder / "x", folder)


def test_a_name_that_is_no_text_does_not_spoil_the_lock() -> None:
    lock = replace(LOCK, inputs={"char": LockedInput(os.fsdecode(b"caf\xe9"), A, 1)})
    assert parse(render(lock)).inputs["char"].path == "caf\ufffd"


def test_a_lock_of_two_thousand_steps_is_read_soon() -> None:
    """`lorapipe plan` reads it each time; measured 0.03 s."""
    steps = {
        f"step-{n}": LockedStep("scale", 1, {"scale": (("a", 1.0),)}, {"by": 0.5}, A) for n in range(2000)
    }
    text = render(replace(LOCK, steps=steps))
    started = time.process_time()
    parse(text)
    assert time.process_time() - started < 1


def test_of_a_file_elsewhere_etag_and_revision_are_kept_and_of_one_here_nothing_is_said() -> None:
    there = LockedInput("hf://org/repo@c0ffee/a.safetensors", A, 1, '"etag"', "c0ffee")
    lock = replace(LOCK, inputs={"here": LockedInput("a.safetensors", A, 1), "there": there})
    text = render(lock)
    assert text.count("etag") == text.count("revision") + 1 == 2
    assert parse(text).inputs == lock.inputs
    with pytest.raises(LockError, match="'inputs: there: etag' is not a text"):
        parse(text.replace(r'etag: "\"etag\""', "etag: 7"))
