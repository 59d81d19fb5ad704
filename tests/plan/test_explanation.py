"""Why a run would do a step or would not, as a user meets it: real recipes, real builds, real files."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

import lorapipe.plan.device
import lorapipe.plan.explain
import lorapipe.plan.lineage
from lorapipe.build.proving.explaining import explain_recipe
from lorapipe.build.run import Options, build, plan
from lorapipe.errors import UsageError
from lorapipe.plan.explanation import Explanation
from lorapipe.recipe.parsing import load_recipe
from lorapipe.steps import find_kind

from ..bench import Bench

STEPS = """
    a: {load: a.safetensors}
    b: {load: b.safetensors}
    both: {concat: {a: 1.0, b: $(w)}}
    small: {svd-resize: both, rank: 2}
    whole: {save: both, to: whole.safetensors}
    out: {save: small, to: out.safetensors}
"""
HEAD = "params: {w: 0.5}\n"


@pytest.fixture
def built(bench: Bench) -> Bench:
    bench.lora("a", seed=1)
    bench.lora("b", seed=2)
    bench.recipe(STEPS, head=HEAD)
    time.sleep(0.06)  # what was written just now is not remembered
    run(bench)
    return bench


def run(bench: Bench, **params: float) -> None:
    build(load_recipe(bench.folder / "r.yaml", params), Options(workers=1))


def told(bench: Bench, step: str | None = None, **params: float) -> dict[str, Explanation]:
    found = explain_recipe(load_recipe(bench.folder / "r.yaml", params), step=step)
    return {each.step.step.id: each for each in found}


def lines(explanation: Explanation) -> list[str]:
    return [f"{change.step}: {word}" for change in explanation.changes for word in change.words]


def hashed(bench: Bench) -> None:
    """As ``plan --hash``: the memo knows what is there now."""
    time.sleep(0.06)  # what was written just now is not remembered
    plan(load_recipe(bench.folder / "r.yaml"), read=True)


def test_what_is_up_to_date_is_so_because_nothing_changed(built: Bench) -> None:
    found = told(built)

    assert list(found) == ["small", "whole", "out"]
    assert found["out"].because == "the file is as it was built, of the same inputs, options and versions"
    assert found["small"].because.startswith("its result is in the store, key ")
    assert all(not each.changes for each in found.values())


def test_what_was_never_built_is_said_to_be_new(bench: Bench) -> None:
    bench.lora("a", seed=1)
    bench.lora("b", seed=2)
    bench.recipe(STEPS, head=HEAD)
    assert told(bench)["out"].because.startswith("no sha256 is known of a.safetensors, b.safetensors")

    hashed(bench)
    found = told(bench)

    assert found["out"].because == "the file is not there, and no build of it is known"
    assert found["small"].because == "its result is not in the store, and no build of it is known"


def test_a_weight_is_named_with_both_values(built: Bench) -> None:
    found = told(built, w=0.25)

    assert lines(found["out"]) == ["both: b 0.5 -> 0.25"]
    assert lines(found["small"]) == ["both: b 0.5 -> 0.25"]
    assert lines(found["whole"]) == ["both: b 0.5 -> 0.25"]
    assert found["out"].because == "this changed since it was built"


def test_an_option_concerns_only_what_depends_on_it(built: Bench) -> None:
    built.recipe(STEPS.replace("rank: 2", "rank: 3"), head=HEAD)

    found = told(built)

    assert lines(found["out"]) == ["small: rank 2 -> 3"]
    assert lines(found["whole"]) == []


def test_an_input_is_named_with_both_digests_of_twelve_digits(built: Bench) -> None:
    before = _sha256(built.folder / "b.safetensors")
    built.lora("b", seed=3)
    assert told(built)["out"].because.endswith("; if b.safetensors, not hashed, is as pinned or locked")
    (built.folder / "r.lock").rename(built.folder / "aside")
    assert lines(told(built)["out"]) == [f"b: not hashed yet, was {before[:12]}..."]
    hashed(built)

    found = told(built)["out"]

    after = _sha256(built.folder / "b.safetensors")
    assert lines(found) == [f"b: sha256 {before[:12]}... -> {after[:12]}..."]
    assert found.changes[0].file == built.folder.resolve() / "b.safetensors"


def test_a_kinds_version_is_named(built: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from lorapipe.steps import svd_resize

    kind = find_kind("svd-resize")
    monkeypatch.setattr(svd_resize, "KIND", replace(kind, version=kind.version + 1))

    versions = f"{kind.version} -> {kind.version + 1}"
    assert lines(told(built)["out"]) == [f"small: version of svd-resize {versions}"]


def test_torch_and_the_compute_type_are_named_for_the_whole_build(
    built: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    built.recipe(STEPS, head=HEAD + "defaults: {compute: float32}\n")
    now = lorapipe.plan.device.torch_version()
    monkeypatch.setattr(lorapipe.plan.device, "torch_version", lambda: "9.9.9")

    found = told(built)

    for step in ("small", "out", "whole"):
        assert lines(found[step]) == [f"None: torch {now} -> 9.9.9", "None: compute float64 -> float32"]


def test_the_schema_of_keys_is_named(built: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (lorapipe.plan.lineage, lorapipe.plan.explain):
        monkeypatch.setattr(module, "KEY_SCHEMA", 2)

    assert lines(told(built)["out"]) == ["None: key schema 1 -> 2"]


def test_a_date_is_named(built: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")

    assert lines(told(built)["out"]) == ["None: modelspec.date none -> 1970-01-01T00:00:00Z"]
    assert not told(built)["small"].changes


def test_a_renamed_input_is_named_where_the_output_tells_names(built: Bench) -> None:
    (built.folder / "b.safetensors").rename(built.folder / "c.safetensors")
    built.recipe(STEPS.replace("b.safetensors", "c.safetensors"), head=HEAD)
    hashed(built)

    found = told(built)

    assert lines(found["out"]) == ["b: file name b.safetensors -> c.safetensors"]
    assert found["small"].step.status.value == "in the store"


def test_steps_that_are_only_called_otherwise_are_no_change(built: Bench) -> None:
    built.recipe(
        STEPS.replace("both", "sum").replace("a: ", "first: ").replace("{first: 1", "{first: 1"), head=HEAD
    )

    assert told(built)["out"].because.startswith("the file is as it was built")


def test_an_output_that_is_gone_is_said_to_be_gone(built: Bench) -> None:
    (built.folder / "out.safetensors").unlink()

    assert told(built)["out"].because == "the file is not there; nothing else changed since it was built"
    assert told(built, w=0.1)["out"].because == "the file is not there, and this changed since it was built"


def test_an_output_that_was_edited_is_told_with_both_digests(built: Bench) -> None:
    path = built.folder / "out.safetensors"
    before = _sha256(path)
    path.write_bytes(path.read_bytes() + b" ")
    assert told(built)["out"].because.startswith("the file is not hashed yet; lorapipe plan --hash")
    hashed(built)

    found = told(built)["out"]

    assert found.because == (
        f"the file was changed since lorapipe wrote it, sha256 {before[:12]}... -> {_sha256(path)[:12]}...;"
        " run needs --force to replace it"
    )
    assert not found.changes


def test_a_strangers_file_is_said_to_be_one(built: Bench) -> None:
    shutil.copy(built.folder / "out.safetensors", built.folder / "new.safetensors")
    built.recipe(STEPS.replace("to: out", "to: new"), head=HEAD)

    assert told(built)["out"].because == (
        "a file is there that lorapipe did not write;"
        " run leaves it alone without --force, unless it is the same"
    )


def test_a_result_that_was_evicted_is_said_to_be_gone(built: Bench, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "store" / "manifests")
    (built.folder / "out.safetensors").unlink()

    assert told(built)["small"].because == "it was made before, and its result is not in the store any more"


def test_what_depends_on_a_result_that_may_come_out_as_before_is_told_so(built: Bench) -> None:
    built.recipe(
        STEPS + "    mixed: {shuffle: small}\n    last: {save: mixed, to: last.safetensors}", head=HEAD
    )
    run(built)

    found = told(built, w=0.3)["mixed"]

    assert found.because == (
        "this changed since it was made; if 'small' comes out as before, it may be found all the same"
    )
    assert lines(found) == ["both: b 0.5 -> 0.3"]


def test_a_lazy_step_is_explained_by_what_it_is_done_within(built: Bench) -> None:
    found = told(built, step="both", w=0.3)

    assert list(found) == ["both", "small", "whole"]
    assert found["both"].because == "done within 'small', 'whole'"
    assert lines(found["whole"]) == ["both: b 0.5 -> 0.3"]


def test_a_step_that_nothing_uses_is_said_to_be_one(built: Bench) -> None:
    built.recipe(STEPS + "    idle: {scale: a, by: 2}", head=HEAD)

    assert told(built, step="idle")["idle"].because == "nothing uses it"


def test_an_unknown_step_is_named_with_the_nearest(built: Bench) -> None:
    with pytest.raises(UsageError) as caught:
        told(built, step="smal")

    assert str(caught.value) == "error: the recipe has no step 'smal' - did you mean 'small'?"


def test_without_a_journal_the_lock_tells_what_changed(built: Bench, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "store")
    hashed(built)

    found = told(built, w=0.25)

    assert "both: b 0.5 -> 0.25" in lines(found["out"])
    assert "both: b 0.5 -> 0.25" in lines(found["small"])


def test_the_build_that_made_what_is_there_is_compared_with(built: Bench) -> None:
    """Not the one after it, whose output somebody replaced by the older one."""
    old = (built.folder / "out.safetensors").read_bytes()
    run(built, w=0.75)
    (built.folder / "out.safetensors").write_bytes(old)
    hashed(built)

    assert lines(told(built, w=0.25)["out"]) == ["both: b 0.5 -> 0.25"]


def test_explaining_writes_nothing(built: Bench, tmp_path: Path) -> None:
    before = _states(tmp_path)

    told(built)
    told(built, w=0.1)

    assert _states(tmp_path) == before


def test_a_journal_of_an_older_store_explains_no_less_than_the_lock(built: Bench, tmp_path: Path) -> None:
    import sqlite3

    with sqlite3.connect(tmp_path / "store" / "index.sqlite") as connection:
        connection.execute("UPDATE journal SET lineage = '', preimage = ''")
    connection.close()

    assert "both: b 0.5 -> 0.25" in lines(told(built, w=0.25)["out"])


def _sha256(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


def _states(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_preimage_beside_an_entry_is_what_the_key_is_the_sha256_of(built: Bench, tmp_path: Path) -> None:
    import hashlib

    manifests = list((tmp_path / "store" / "manifests").rglob("*.json"))
    assert manifests
    for path in manifests:
        manifest = json.loads(path.read_text())
        assert hashlib.sha256(manifest["preimage"].encode()).hexdigest() == path.stem
        assert json.loads(manifest["lineage"])["steps"]
