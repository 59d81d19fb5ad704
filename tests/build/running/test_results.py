"""Early cutoff: where a stored result comes out as before, what depends on it is found and not made again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lorapipe.build.events import Event, OutputReady, StepDone
from lorapipe.build.run import Options, build
from lorapipe.recipe.parsing import load_recipe
from lorapipe.steps import find_kind, svd_resize
from lorapipe.store.journal import Record
from lorapipe.store.store import open_store

from ...bench import Bench

STEPS = """
    a: {load: a.safetensors}
    b: {load: b.safetensors}
    small: {svd-resize: a, rank: 2}
    both: {concat: {small: 1.0, b: 0.5}}
    mixed: {shuffle: both, seed: 7}
    out: {save: mixed, to: out.safetensors}
"""


@pytest.fixture
def built(bench: Bench) -> Bench:
    bench.lora("a", seed=1)
    bench.lora("b", seed=2)
    bench.recipe(STEPS)
    run(bench)
    return bench


def run(bench: Bench) -> dict[str, str]:
    events: list[Event] = []
    build(load_recipe(bench.folder / "r.yaml"), Options(workers=1), listen=events.append)
    return {event.step: event.how for event in events if isinstance(event, StepDone)}


def raise_version(monkeypatch: pytest.MonkeyPatch, by: int = 1, **changed: Any) -> None:
    kind = find_kind("svd-resize")
    monkeypatch.setattr(svd_resize, "KIND", replace(kind, version=kind.version + by, **changed))


def test_a_rebuilt_result_of_the_same_bytes_stops_the_rebuilding(
    built: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (built.folder / "out.safetensors").read_bytes()
    raise_version(monkeypatch)

    done = run(built)

    assert done == {
        "a": "built",
        "b": "built",
        "both": "built",
        "small": "built",
        "mixed": "store",
        "out": "found",
    }
    assert (built.folder / "out.safetensors").read_bytes() == before
    assert run(built) == {}, "and the next run finds both by their plan keys"


def test_the_second_time_the_result_is_found_by_its_plan_key(
    built: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    raise_version(monkeypatch)
    run(built)
    (built.folder / "out.safetensors").unlink()

    assert run(built) == {"mixed": "store", "out": "written"}


def test_a_rebuilt_result_of_other_bytes_has_all_below_it_made_anew(
    built: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = find_kind("svd-resize").work
    raise_version(
        monkeypatch, work=lambda inputs, params, context: real(inputs, {**params, "rank": 1}, context)
    )
    monkeypatch.setattr(svd_resize, "KIND", replace(svd_resize.KIND, infer=_of_rank_1(svd_resize.KIND.infer)))

    done = run(built)

    assert (done["small"], done["mixed"], done["out"]) == ("built", "built", "written")


def _of_rank_1(infer: Any) -> Any:
    return lambda inputs, params: infer(inputs, {**params, "rank": 1})


@pytest.mark.parametrize(
    ("old", "new"),
    [("b: 0.5", "b: 0.6"), ("seed: 7", "seed: 8")],
    ids=["a weight between the two results", "an option of the lower one"],
)
def test_what_stands_between_two_results_is_in_the_content_key(
    built: Bench, monkeypatch: pytest.MonkeyPatch, old: str, new: str
) -> None:
    raise_version(monkeypatch)
    built.recipe(STEPS.replace(old, new))

    done = run(built)

    assert (done["small"], done["mixed"], done["out"]) == ("built", "built", "written")


def test_another_input_beside_the_result_is_in_the_content_key(
    built: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    raise_version(monkeypatch)
    built.lora("b", seed=3)

    assert run(built)["mixed"] == "built"


def test_an_output_that_tells_the_version_of_its_steps_is_written_anew(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it tells is in its bytes: equal numbers are not equal files."""
    bench.lora("a", seed=1)
    bench.recipe("""
        a: {load: a.safetensors}
        small: {svd-resize: a, rank: 2}
        told: {save: small, to: told.safetensors}
        silent: {save: small, to: silent.safetensors, provenance: none}
    """)
    run(bench)
    raise_version(monkeypatch)

    done = run(bench)

    assert (done["small"], done["told"], done["silent"]) == ("built", "written", "found")


def test_an_output_that_was_changed_meanwhile_is_not_taken_for_what_it_was(
    built: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    raise_version(monkeypatch)
    (built.folder / "out.safetensors").unlink()

    done = run(built)

    assert (done["mixed"], done["out"]) == ("store", "written")


def test_an_output_that_is_found_is_told_of_as_not_written(
    built: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    raise_version(monkeypatch)
    events: list[Event] = []

    made = build(load_recipe(built.folder / "r.yaml"), Options(workers=1), listen=events.append)

    assert [event.written for event in events if isinstance(event, OutputReady)] == [False]
    assert [output.written for output in made.outputs] == [False]


def test_without_a_stored_result_above_there_is_one_key(built: Bench, tmp_path: Path) -> None:
    manifests = [json.loads(p.read_text()) for p in (tmp_path / "store" / "manifests").rglob("*.json")]

    assert len(manifests) == 3, "one for 'small', two for 'mixed'"
    (alias,) = [each for each in manifests if "of" in each]
    (mixed,) = [each for each in manifests if each["key"] == alias["of"]]
    (small,) = [each for each in manifests if each not in (alias, mixed)]
    assert alias["sha256"] == mixed["sha256"]
    assert json.loads(mixed["preimage"])["result"]["kind"] == "shuffle"
    assert small["sha256"] not in mixed["preimage"]
    # The content key names the result by its bytes; between the two stands the concat, by its digest.
    assert (
        json.loads(alias["preimage"])["result"]["params"] == json.loads(mixed["preimage"])["result"]["params"]
    )


def test_a_store_without_its_aliases_only_works_more(
    built: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (tmp_path / "store" / "manifests").rglob("*.json"):
        if "of" in json.loads(path.read_text()):
            path.unlink()
    raise_version(monkeypatch)

    assert run(built)["mixed"] == "built"


def test_the_journal_tells_what_an_output_was_made_of(built: Bench) -> None:
    with open_store(looking=True) as store:
        (record,) = store.journal.last(built.folder / "out.safetensors")

    assert isinstance(record, Record)
    told = json.loads(record.making.lineage)
    assert set(told["steps"]) == {"load-1", "load-2", "svd-resize-1", "concat-1", "shuffle-1", "save-1"}
    assert json.loads(record.making.preimage)["file"]["format"] == "safetensors"
    assert record.making.content not in ("", record.key)


def test_a_result_that_cannot_be_read_as_one_is_dropped_and_built_again(built: Bench) -> None:
    """Whole by its sha256, but of a format that this lorapipe does not know."""
    with open_store() as store:
        for entry in tuple(store.entries.all()):
            store.entries.put(entry.key, lambda file: [file.write(b"of the future"), None][1], entry.preimage)
    (built.folder / "out.safetensors").unlink()

    done = run(built) if (built.folder / "r.lock").unlink() is None else {}

    assert (done["small"], done["mixed"], done["out"]) == ("built", "built", "written")
