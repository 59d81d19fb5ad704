"""What came of a sweep: each variant with what was told of it, and nothing computed anew."""

from __future__ import annotations

import shutil
from collections import Counter
from typing import Any

import pytest
from safetensors.numpy import load_file

from lorapipe.build.events import Event, StepStarted, Swept
from lorapipe.build.result import Built
from lorapipe.build.run import Options, build, plan
from lorapipe.build.sweep import Quantity, Sweep
from lorapipe.build.sweeping import Came, swept
from lorapipe.errors import LorapipeError
from lorapipe.plan.plan import Status
from lorapipe.recipe.parsing import load_recipe
from lorapipe.recipe.selection import parse_only

from ..bench import Bench

MATRIX = "matrix: {strength: [0.5, 1.0], rank: [2, 4, 6]}\n"
STEPS = """
    a: {load: a.safetensors}
    b: {load: b.safetensors}
    both: {concat: {a: $(strength), b: 1.0}}
    small: {svd-resize: both, rank: $(rank)}
    good: {check: small, energy: {of: both, total: 0.0}}
    lora: {save: small, to: out/s$(strength)-r$(rank).safetensors}
    mixed: {save: both, to: out/both-$(strength).safetensors}
    plain: {save: a, to: out/a.safetensors}
"""


@pytest.fixture
def kitchen(bench: Bench) -> Bench:
    bench.lora("a", rank=8)
    bench.lora("b", rank=8, seed=1)
    return bench


def made(bench: Bench, steps: str = STEPS, head: str = MATRIX, **options: Any) -> Built:
    return build(load_recipe(bench.recipe(steps, head=head)), Options(workers=1, **options))


def sweep_of(built: Built) -> Sweep:
    assert built.sweep is not None
    return built.sweep


def heard(bench: Bench, steps: str) -> tuple[list[Event], LorapipeError]:
    """What a build tells that ends with an error."""
    events: list[Event] = []
    with pytest.raises(LorapipeError) as raised:
        build(load_recipe(bench.recipe(steps, head=MATRIX)), Options(workers=1), listen=events.append)
    return events, raised.value


def test_each_output_is_a_table_over_the_axes_that_it_depends_on(kitchen: Bench) -> None:
    built = made(kitchen)
    sweep = sweep_of(built)

    assert sweep.axes == {"strength": (0.5, 1.0), "rank": (2, 4, 6)}
    lora, mixed = sweep.tables  # 'plain' depends on none
    assert (lora.written, mixed.written) == ("lora", "mixed")
    assert lora.axes == sweep.axes
    assert mixed.axes == {"strength": (0.5, 1.0)}
    assert [dict(one.values) for one in lora.variants] == [
        {"strength": strength, "rank": rank} for strength in (0.5, 1.0) for rank in (2, 4, 6)
    ]
    outputs = {output.step: output for output in built.outputs}
    for one in (*lora.variants, *mixed.variants):
        output = outputs[one.step]
        assert (one.state, one.path, one.size, one.sha256) == (
            "written",
            output.path,
            output.path.stat().st_size,
            output.sha256,
        )


def test_figures_are_those_of_the_steps_above_and_agree_with_the_numbers_written(kitchen: Bench) -> None:
    """Energy kept, against singular values of the sums that numpy makes of the inputs' factors."""
    import numpy as np

    (lora, mixed) = sweep_of(made(kitchen)).tables
    assert mixed.quantities == ()
    assert [quantity.name for quantity in lora.quantities] == [
        "energy kept", "least kept", "energy in all", "least energy",
    ]  # fmt: skip
    for one in lora.variants:
        strength, rank = one.values["strength"], one.values["rank"]
        kept, whole = [], []
        for stem, of_a in kitchen.deltas["a"].items():
            values = np.linalg.svd(strength * of_a + kitchen.deltas["b"][stem], compute_uv=False) ** 2
            kept.append(values[:rank].sum())
            whole.append(values.sum())
        shares = np.array(kept) / np.array(whole)
        assert one.figures["energy kept"] == pytest.approx(shares.mean(), rel=1e-6)
        assert one.figures["least kept"] == pytest.approx(shares.min(), rel=1e-6)
        assert one.figures["energy in all"] == pytest.approx(sum(kept) / sum(whole), rel=1e-6)
        assert one.path is not None
        stored = load_file(one.path)
        assert {t.shape[0] for name, t in stored.items() if name.endswith("lora_down.weight")} == {rank}


def test_a_second_run_tells_the_same_of_what_is_up_to_date_and_does_nothing(kitchen: Bench) -> None:
    first, events = sweep_of(made(kitchen)), list[Event]()
    built = build(load_recipe(kitchen.folder / "r.yaml"), listen=events.append)

    assert not [event for event in events if isinstance(event, StepStarted)]
    assert {one.state for table in sweep_of(built).tables for one in table.variants} == {"up to date"}
    for before, now in zip(first.tables, sweep_of(built).tables, strict=True):
        assert before.quantities == now.quantities
        assert [one.figures for one in before.variants] == [one.figures for one in now.variants]
    assert [event.sweep for event in events if isinstance(event, Swept)] == [built.sweep]
    assert isinstance(events[-1], Swept)


def test_where_the_store_lost_what_was_noted_there_is_no_figure(kitchen: Bench) -> None:
    steps = STEPS.replace("good: {check: small, energy: {of: both, total: 0.0}}", "")
    made(kitchen, steps)
    shutil.rmtree(kitchen.folder.parent / "store")
    (lora, _) = sweep_of(made(kitchen, steps)).tables
    assert [(one.state, one.figures) for one in lora.variants] == [("up to date", {})] * 6
    assert lora.quantities == ()


def test_a_value_more_writes_its_variants_alone(kitchen: Bench) -> None:
    made(kitchen)
    built = made(kitchen, head="matrix: {strength: [0.5, 1.0, 1.5], rank: [2, 4, 6]}\n")
    (lora, mixed) = sweep_of(built).tables
    states = Counter((one.values["strength"], one.state) for one in (*lora.variants, *mixed.variants))
    assert states == {(0.5, "up to date"): 4, (1.0, "up to date"): 4, (1.5, "written"): 4}


def test_only_what_is_asked_for_is_in_the_tables(kitchen: Bench) -> None:
    (lora, mixed) = sweep_of(made(kitchen, only=parse_only(["rank=4"]))).tables
    assert lora.axes == {"strength": (0.5, 1.0), "rank": (4,)}
    assert [one.values["rank"] for one in lora.variants] == [4, 4]
    assert mixed.axes == {"strength": (0.5, 1.0)}


def test_without_a_matrix_there_is_no_sweep_and_none_is_told(kitchen: Bench) -> None:
    events: list[Event] = []
    steps = "a: {load: a.safetensors}\no: {save: a, to: o.safetensors}"
    built = build(load_recipe(kitchen.recipe(steps)), listen=events.append)
    assert built.sweep is None
    assert not [event for event in events if isinstance(event, Swept)]


def test_a_check_holds_back_its_own_variants_and_they_are_told_with_what_was_measured(kitchen: Bench) -> None:
    free = sweep_of(made(kitchen)).tables[0]
    least = sorted(one.figures["energy in all"] for one in free.variants)[2:4]
    steps = STEPS.replace("total: 0.0", f"total: {sum(least) / 2}").replace("out/", "strict/")
    events, error = heard(kitchen, steps)

    assert error.exit_status == 8
    (sweep,) = (event.sweep for event in events if isinstance(event, Swept))
    lora, mixed = sweep.tables
    assert {one.state for one in mixed.variants} == {"written"}
    for before, one in zip(free.variants, lora.variants, strict=True):
        assert one.figures == before.figures
        low = before.figures["energy in all"] <= least[0]
        assert (one.state, one.failed) == (("held back", ("good",)) if low else ("written", ()))
        assert one.path is not None
        assert one.path.exists() is not low
        assert (one.size is None) is low
    assert len([one for one in lora.variants if one.failed]) == 3


def test_a_check_that_headers_decide_is_told_as_failed_too(kitchen: Bench) -> None:
    events, _ = heard(kitchen, STEPS.replace("energy: {of: both, total: 0.0}", "rank: {max: 4}"))
    (sweep,) = (event.sweep for event in events if isinstance(event, Swept))
    held = {one.values["rank"]: (one.state, one.failed) for one in sweep.tables[0].variants}
    assert held == {2: ("written", ()), 4: ("written", ()), 6: ("held back", ("good",))}


def test_where_nothing_is_saved_the_checks_are_the_tables(kitchen: Bench) -> None:
    steps = """
        a: {load: a.safetensors}
        small: {svd-resize: a, rank: $(rank)}
        good: {check: small, norm: {min: 0.0}, energy: {of: a, total: 0.0}}
    """
    (table,) = sweep_of(made(kitchen, steps, "matrix: {rank: [2, 4]}\n")).tables
    assert (table.written, [one.state for one in table.variants]) == ("good", ["holds", "holds"])
    assert {one.path for one in table.variants} == {None}
    assert {"least norm", "largest norm", "energy in all"} <= {q.name for q in table.quantities}


def test_what_several_steps_tell_is_told_apart_by_their_names(kitchen: Bench) -> None:
    steps = """
        a: {load: a.safetensors}
        once: {svd-resize: a, rank: 6}
        small: {svd-resize: once, rank: $(rank)}
        twice: {svd-resize: small, rank: 1}
        o: {save: twice, to: $(rank).safetensors}
    """
    (table,) = sweep_of(made(kitchen, steps, "matrix: {rank: [2, 4]}\n")).tables
    # What 'once' keeps is the same in all variants.
    assert [q.name for q in table.quantities] == [
        "energy kept (small)", "least kept (small)", "energy kept (twice)", "least kept (twice)",
    ]  # fmt: skip


def test_true_and_one_are_two_values(kitchen: Bench) -> None:
    steps = "a: {load: a.safetensors}\no: {save: a, to: out/$(x).safetensors}"
    (table,) = sweep_of(made(kitchen, steps, "matrix: {x: [true, 1]}\n")).tables
    assert [repr(value) for value in table.axes["x"]] == ["True", "1"]
    assert [repr(one.values["x"]) for one in table.variants] == ["True", "1"]


def test_a_plan_alone_tells_what_a_run_would_do(kitchen: Bench) -> None:
    planned = plan(load_recipe(kitchen.recipe(STEPS, head=MATRIX)), read=True)
    found = swept(planned, {"mixed[strength=0.5]": Came("written", 7)}, lambda _: {})
    assert found is not None
    states = [one.state for one in found.tables[0].variants]
    assert states == [Status.RUN.value] * 6
    assert [(one.state, one.size) for one in found.tables[1].variants] == [("written", 7), ("will run", None)]


def test_rows_are_flat_and_all_of_one_shape(kitchen: Bench) -> None:
    sweep = sweep_of(made(kitchen))
    rows = list(sweep.rows())
    assert len(rows) == 8
    assert len({tuple(row) for row in rows}) == 1
    assert rows[0]["output"] == "lora"
    assert (rows[-1]["output"], rows[-1]["rank"], rows[-1]["energy kept"]) == ("mixed", None, None)


def test_a_name_says_its_step_only_where_it_must(kitchen: Bench) -> None:
    found = swept(
        plan(load_recipe(kitchen.recipe(STEPS, head=MATRIX)), read=True),
        {},
        lambda planned: {"energy": {"x": 0.5}} if planned.step.written == "small" else {},
        measured={"lora[strength=0.5,rank=2]": ((Quantity("norm", "number"), 3.0),)},
    )
    assert found is not None
    assert [q.name for q in found.tables[0].quantities] == ["energy kept", "least kept", "norm"]
    assert found.tables[0].variants[0].figures == {"energy kept": 0.5, "least kept": 0.5, "norm": 3.0}
