"""What a user does with the store: see, pin, trim, verify."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from lorapipe.build.run import Options, build, plan
from lorapipe.build.upkeep import collect, contents, kind_of, pin, require_sound, unpin, verified
from lorapipe.errors import CheckFailed, UsageError
from lorapipe.recipe.parsing import load_recipe
from lorapipe.store.store import open_store

from ..bench import Bench

STEPS = """
    a: {load: a.safetensors}
    small: {svd-resize: a, rank: $(r)}
    mixed: {shuffle: small}
    out: {save: mixed, to: out.safetensors}
"""


@pytest.fixture
def built(bench: Bench) -> Bench:
    bench.lora("a")
    bench.recipe(STEPS, head="params: {r: 2}\n")
    run(bench)
    return bench


def run(bench: Bench, **params: int) -> None:
    build(load_recipe(bench.folder / "r.yaml", params), Options(workers=1))


def kinds() -> list[str | None]:
    return [kind_of(kept) for kept in contents().results]


def test_contents_are_results_by_last_use_with_their_kinds(built: Bench, tmp_path: Path) -> None:
    found = contents()

    assert kinds() == ["shuffle", "svd-resize"]
    assert found.root == tmp_path / "store"
    assert found.size == sum(
        p.stat().st_size for p in (tmp_path / "store" / "blobs").rglob("*") if p.is_file()
    )


def test_a_store_that_is_not_there_is_empty_and_stays_away(bench: Bench, tmp_path: Path) -> None:
    assert contents().results == ()
    assert collect().size == 0
    assert collect(dry=True).size == 0
    assert verified().sound == 0
    assert not (tmp_path / "store").exists()


def test_a_manifest_that_does_not_tell_its_kind_is_listed_all_the_same(built: Bench, tmp_path: Path) -> None:
    for path in (tmp_path / "store" / "manifests").rglob("*.json"):
        manifest = json.loads(path.read_text())
        path.write_text(json.dumps({**manifest, "preimage": "[" * 10_000}))

    assert kinds() == [None, None]


def test_collecting_brings_the_store_to_a_size(built: Bench) -> None:
    run(built, r=3)
    sizes = [kept.size for kept in contents().results]
    assert len(sizes) == 4

    found = collect(most=sum(sizes[:2]))

    assert (len(found.results), found.size, found.left) == (2, sum(sizes[2:]), sum(sizes[:2]))
    assert len(contents().results) == 2


def test_a_dry_collection_tells_the_same_and_removes_nothing(built: Bench) -> None:
    foretold = collect(most=0, dry=True)

    assert len(contents().results) == 2
    assert [kept.key for kept in foretold.results] == [kept.key for kept in collect(most=0).results]
    assert contents().results == ()


def test_what_was_not_used_for_some_time_goes_whatever_the_size(built: Bench) -> None:
    with open_store() as store:
        store.database.write(("UPDATE entries SET used_ns = used_ns - 3600 * 1000000000", ()))
    run(built, r=3)

    assert len(collect(unused_s=7200).results) == 0
    assert len(collect(unused_s=1800).results) == 2
    assert len(contents().results) == 2


def test_after_a_collection_the_next_build_has_the_same_bytes(built: Bench) -> None:
    before = (built.folder / "out.safetensors").read_bytes()
    collect(most=0)
    (built.folder / "out.safetensors").unlink()

    run(built)

    assert (built.folder / "out.safetensors").read_bytes() == before


def test_the_results_of_a_pinned_recipe_stay(built: Bench) -> None:
    run(built, r=3)

    pinned = pin(str(built.folder / "r.yaml"))

    assert [(each.step, each.there, each.changed) for each in pinned] == [
        ("small", True, True),
        ("mixed", True, True),
    ]
    assert [each.changed for each in pin(str(built.folder / "r.yaml"))] == [False, False]
    assert len(collect(most=0).results) == 2
    assert {kept.key for kept in contents().results} == {each.key for each in pinned}
    assert all(kept.pinned for kept in contents().results)

    unpin(str(built.folder / "r.yaml"))
    assert len(collect(most=0).results) == 2


def test_a_result_is_pinned_before_it_is_built(built: Bench) -> None:
    pinned = pin(str(built.folder / "r.yaml"), {"r": 4})
    assert [each.there for each in pinned] == [False, False]

    run(built, r=4)
    collect(most=0)

    assert {kept.key for kept in contents().results} == {each.key for each in pinned}


def test_a_key_is_named_by_its_first_digits(built: Bench) -> None:
    key = contents().results[0].key

    (pinned,) = pin(key[:12])

    assert (pinned.key, pinned.step) == (key, None)
    assert [each.key for each in unpin(key[:6])] == [key]
    with pytest.raises(UsageError) as caught:
        unpin(key)
    assert caught.value.code == "unknown-key"


def test_digits_that_fit_no_key_or_several_are_refused(built: Bench) -> None:
    with pytest.raises(UsageError) as caught:
        pin("0123456789ab")
    assert str(caught.value) == "error: no key begins with '0123456789ab' - lorapipe store ls shows them"

    with open_store() as store:
        for key in ("abcdef" + "0" * 58, "abcdef" + "1" * 58):
            store.entries.put(key, lambda file: [file.write(b"x"), None][1], "p")
    with pytest.raises(UsageError) as caught:
        pin("abcdef")
    assert str(caught.value) == "error: 2 keys begin with 'abcdef' - give more digits"


def test_a_recipe_whose_inputs_are_not_hashed_cannot_be_pinned(bench: Bench) -> None:
    bench.lora("a")
    path = bench.recipe(STEPS, head="params: {r: 2}\n")
    with pytest.raises(UsageError) as caught:
        pin(str(path))
    assert caught.value.code == "inputs-not-hashed"

    time.sleep(0.06)
    plan(load_recipe(path), read=True)
    assert [each.there for each in pin(str(path))] == [False, False]


def test_damage_is_dropped_and_told_and_the_next_build_mends_it(built: Bench) -> None:
    blob = open_store().paths.blob(contents().results[0].sha256)
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)

    found = verified()

    assert found.sound == 1
    with pytest.raises(CheckFailed) as caught:
        require_sound(found)
    assert caught.value.exit_status == 8
    assert str(caught.value) == (
        "error: 1 result was not what the store had been given"
        " - what was dropped is built again when it is needed; the disk may be failing\n"
        f"  {found.damaged[0].key[:12]} shuffle"
    )
    (built.folder / "out.safetensors").unlink()
    run(built)
    require_sound(verified())
    assert kinds() == ["shuffle", "svd-resize"]
