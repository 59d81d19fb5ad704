"""A shard of an output folder made alone: what one process writes, whoever makes which."""

from __future__ import annotations

import hashlib
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from safetensors.torch import load_file

from lorapipe.build.events import Event, Note, Progress
from lorapipe.build.result import BuiltOutput
from lorapipe.build.run import Options, build, plan
from lorapipe.errors import BuildError, InputError
from lorapipe.formats.containers.output import Written
from lorapipe.plan.parts import parts_of
from lorapipe.recipe.parsing import load_recipe
from lorapipe.weights.specs import FileSpec

from ...bench import CONV1, KEYS, PROJ_IN, TE, TO_Q, Bench
from ...formats.model_folders import hf_folder
from ..parting import finish, make_part, workshop

LARGER = {TE: (120, 80), TO_Q: (100, 100), PROJ_IN: (100, 100, 1, 1), CONV1: (60, 40, 3, 3)}
PARAMS = {"rank": 4}
STEPS = """
    a: {load: a.safetensors}
    base: {load: base/}
    r: {svd-resize: a, rank: $(rank)}
    model: {merge-into-checkpoint: base, loras: {r: 0.5, a: 1.0}}
    m: {save: model, to: out/m/, shard-size: 30kB%s}
"""


@pytest.fixture
def recipe(bench: Bench) -> Path:
    return made(bench)


def made(bench: Bench, options: str = "") -> Path:
    bench.lora("a", rank=8, modules=LARGER)
    folder = bench.folder / "base"
    hf_folder(folder, load_file(bench.checkpoint(shapes=LARGER)), 2)
    (folder / "tokenizer.json").write_text("{}")
    return bench.recipe(STEPS % options, head="params: {rank: 0}\n")


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def alone(recipe: Path) -> dict[str, str]:
    """The folder as one process makes it, which is then taken away."""
    build(load_recipe(recipe, PARAMS), Options(workers=2))
    good = digests(recipe.parent / "out" / "m")
    shutil.rmtree(recipe.parent / "out" / "m")
    return good


def folder_of(built: BuiltOutput) -> Path:
    assert isinstance(built.path, Path)
    return built.path


def names(recipe: Path) -> list[str]:
    return [part.name for part in parts_of(plan(load_recipe(recipe, PARAMS), read=True).steps["m"])]


# --- made apart, the same bytes ---------------------------------------------------------


@pytest.mark.parametrize(
    "options", ["", ", dtype: fp16", ", metadata: {made-by: me, format: np}"], ids=["keep", "fp16", "told"]
)
def test_parts_made_in_any_order_are_the_folder_that_one_process_makes(bench: Bench, options: str) -> None:
    recipe = made(bench, options)
    good = alone(recipe)
    told = {name: make_part(recipe, PARAMS, "m", name) for name in reversed(names(recipe))}
    for name, written in told.items():
        assert written.sha256 == good[name]
    wrote: list[str] = []
    events: list[Event] = []
    built = finish(recipe, PARAMS, "m", told, hook=wrote.append, listen=events.append)
    assert digests(folder_of(built)) == good
    assert built.written
    assert "part:write" not in wrote
    assert wrote.count("folder:write") <= 3  # index, config and tokenizer: no shard
    assert [path.name for path in folder_of(built).parent.iterdir()] == ["m"]
    assert not [event for event in events if isinstance(event, Note) and event.fact == "resumed"]


def test_what_was_made_so_is_ours_and_up_to_date(recipe: Path) -> None:
    told = {name: make_part(recipe, PARAMS, "m", name) for name in names(recipe)}
    finish(recipe, PARAMS, "m", told)
    again = build(load_recipe(recipe, PARAMS), Options(workers=2))
    assert [output.written for output in again.outputs] == [False]
    changed = build(load_recipe(recipe, {"rank": 2}), Options(workers=2))  # which replaces it
    assert all(output.written for output in changed.outputs)


def test_several_at_once_share_the_folder(recipe: Path) -> None:
    good = alone(recipe)
    files = names(recipe)
    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(lambda name: make_part(recipe, PARAMS, "m", name), [*files, *files[:2]]))
    assert told[-2:] == told[:2]
    assert digests(folder_of(finish(recipe, PARAMS, "m", dict(zip(files, told, strict=False))))) == good


@pytest.mark.parametrize("count", [0, 3])
def test_what_no_task_made_is_made_at_the_end(recipe: Path, count: int) -> None:
    good = alone(recipe)
    told = {name: make_part(recipe, PARAMS, "m", name) for name in names(recipe)[:count]}
    assert digests(folder_of(finish(recipe, PARAMS, "m", told))) == good


def test_a_part_that_is_there_is_not_made_again(recipe: Path) -> None:
    first = names(recipe)[0]
    points: list[str] = []
    told = make_part(recipe, PARAMS, "m", first, hook=points.append)
    assert "part:kept" in points
    points.clear()
    events: list[Event] = []
    assert make_part(recipe, PARAMS, "m", first, hook=points.append, listen=events.append) == told
    assert not [point for point in points if point.startswith("part:")]
    assert [event.done for event in events if isinstance(event, Progress) and event.step == "m"] == [
        parts_of(plan(load_recipe(recipe, PARAMS), read=True).steps["m"])[0].nbytes
    ]


def test_an_interrupted_build_leaves_parts_and_takes_those_of_tasks(recipe: Path) -> None:
    good = alone(recipe)
    files, seen = names(recipe), 0

    def stop(point: str) -> None:
        nonlocal seen
        seen += point == "folder:kept"
        if seen == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(load_recipe(recipe, PARAMS), Options(workers=1), hook=stop)
    points: list[str] = []
    made_before = [make_part(recipe, PARAMS, "m", name, hook=points.append) for name in files[:3]]
    assert points.count("part:kept") == 1
    assert [written.sha256 for written in made_before] == [good[name] for name in files[:3]]
    told: list[Event] = []
    build(load_recipe(recipe, PARAMS), Options(workers=1), listen=told.append)
    assert [event.value for event in told if isinstance(event, Note) and event.fact == "resumed"] == [
        f"3 of {len(files)} files were finished"
    ]
    assert digests(recipe.parent / "out" / "m") == good


def test_where_the_makers_books_are_others_their_word_is_enough(recipe: Path, tmp_path: Path) -> None:
    """On other machines the store may be another one: what a task returned is then all that is known."""
    good = alone(recipe)
    files = names(recipe)
    told = {
        name: make_part(recipe, PARAMS, "m", name, store=tmp_path / f"store{number % 2}")
        for number, name in enumerate(files)
    }
    points: list[str] = []
    assert digests(folder_of(finish(recipe, PARAMS, "m", told, hook=points.append))) == good
    assert points.count("folder:kept") == 0


def test_a_word_that_does_not_fit_the_file_is_not_taken(recipe: Path, tmp_path: Path) -> None:
    good = alone(recipe)
    first = names(recipe)[0]
    written = make_part(recipe, PARAMS, "m", first, store=tmp_path / "other")
    built = finish(recipe, PARAMS, "m", {first: Written(written.size + 1, written.sha256)})
    assert digests(folder_of(built)) == good


# --- what goes wrong --------------------------------------------------------------------


def test_an_input_that_changes_meanwhile_ends_the_part_and_nothing_is_kept(recipe: Path) -> None:
    lora = recipe.parent / "a.safetensors"
    before = lora.read_bytes()

    def replace(point: str) -> None:
        if point == "part:created" and lora.read_bytes() == before:
            lora.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))

    with pytest.raises(InputError) as caught:
        make_part(recipe, PARAMS, "m", names(recipe)[1], hook=replace)
    assert caught.value.code == "input-changed"
    assert not list((recipe.parent / "out").glob(".lorapipe-*"))


def test_an_error_of_the_step_is_raised_and_leaves_what_others_made(bench: Bench) -> None:
    recipe = made(bench, ", dtype: fp16")
    tensors = load_file(bench.checkpoint(shapes=LARGER, dtype="float32"))
    tensors[KEYS[TO_Q]][0, 0] = 1e6  # which fp16 does not hold
    hf_folder(bench.folder / "base", tensors, 2)
    parts = parts_of(plan(load_recipe(recipe, PARAMS), read=True).steps["m"])
    bad = next(part.name for part in parts if KEYS[TO_Q] in part.tensors)
    for part in parts:
        if part.name != bad:
            make_part(recipe, PARAMS, "m", part.name)
    with pytest.raises(BuildError) as caught:
        make_part(recipe, PARAMS, "m", bad)
    assert caught.value.code == "overflow"
    (folder,) = (bench.folder / "out").glob(".lorapipe-*")
    assert sorted(path.name for path in folder.iterdir()) == [p.name for p in parts if p.name != bad]


def test_a_part_waits_for_a_build_of_the_whole_folder(recipe: Path) -> None:
    events: list[Event] = []
    first = names(recipe)[0]
    with workshop(recipe, PARAMS) as (shop, _), ThreadPoolExecutor(1) as pool:
        planned = shop.plan.steps["m"]
        assert isinstance(planned.output, Path)
        assert isinstance(planned.spec, FileSpec)
        with shop.records.stage(planned.output, planned.spec, planned.key):
            waits = pool.submit(make_part, recipe, PARAMS, "m", first, listen=events.append)
            while not any(isinstance(event, Note) and event.fact == "waiting" for event in tuple(events)):
                assert not waits.done()
        assert isinstance(waits.result(10), Written)
