"""A report's figures: those of the files, held against numpy; what is missing is said, and is no failure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lorapipe.build.looking import figuring
from lorapipe.build.looking.recording import Recording
from lorapipe.build.looking.report import Report
from lorapipe.build.looking.reporting import report_files, report_recipe
from lorapipe.build.run import build
from lorapipe.errors import InputError, LorapipeError, ManyErrors
from lorapipe.plan.checks import is_of_checks
from lorapipe.recipe.parsing import load_recipe
from lorapipe.weights.overlaps import together
from lorapipe.weights.shifts import together as moved

from ...bench import KEYS, SHAPES, TE, TO_Q, Bench

STEPS = """
    a: {load: a.safetensors}
    b: {load: b.safetensors}
    both: {concat: {a: 0.7, b: -0.4}}
    small: {svd-resize: both, rank: 3}
    lora: {save: small, to: out/small.safetensors}
"""
MERGE = """
    base: {load: base.safetensors}
    a: {load: a.safetensors}
    b: {load: b.safetensors}
    mixed: {shuffle: b}
    model: {merge-into-checkpoint: base, loras: {a: 0.5, mixed: -1.5}}
    out: {save: model, to: out/model.safetensors}
"""


@pytest.fixture
def kitchen(bench: Bench) -> Bench:
    bench.lora("a", rank=4)
    bench.lora("b", rank=6, alpha=None, seed=1)
    return bench


def report(bench: Bench, steps: str = STEPS, *, run: bool = True) -> Report:
    recipe, recording = load_recipe(bench.recipe(steps)), Recording()
    if run:
        build(recipe, listen=recording.tell)
    return report_recipe(recipe, recording=recording)


# --- figures ----------------------------------------------------------------------------


def test_norms_and_singular_values_are_those_of_the_files(kitchen: Bench) -> None:
    for portrait in report(kitchen).portraits[:2]:
        for module, figures in portrait.figures.items():
            stem = portrait.spec.modules[module].spelling.stem
            delta = kitchen.deltas[portrait.step][stem]
            assert figures.norm == pytest.approx(np.linalg.norm(delta), rel=1e-10)
            wanted = np.linalg.svd(delta, compute_uv=False)[: figures.rank]
            assert figures.singular_values == pytest.approx(wanted, rel=1e-9)


def test_an_output_in_place_is_measured_from_its_file(kitchen: Bench) -> None:
    (output,) = [portrait for portrait in report(kitchen).portraits if portrait.output]
    tensors = load_file(output.path)
    for module, figures in output.figures.items():
        stem = output.spec.modules[module].spelling.stem
        up, down = (tensors[f"{stem}.lora_{side}.weight"].astype("float64") for side in ("up", "down"))
        scale = float(tensors[f"{stem}.alpha"]) / down.shape[0]
        product = scale * up.reshape(len(up), -1) @ down.reshape(len(down), -1)
        assert figures.norm == pytest.approx(np.linalg.norm(product), rel=1e-10)
        assert figures.rank == 3


def test_loras_that_meet_have_the_cosine_of_their_deltas(kitchen: Bench) -> None:
    (meeting,) = report(kitchen).meetings
    one, two = (np.concatenate([kitchen.deltas[n][stem].ravel() for stem in SHAPES]) for n in ("a", "b"))
    wanted = one @ two / np.linalg.norm(one) / np.linalg.norm(two)
    assert (meeting.one, meeting.two) == ("a", "b")
    assert together(meeting.overlaps.values()).cosine == pytest.approx(wanted, rel=1e-9)


def test_a_merge_changes_each_tensor_by_the_sum_of_the_deltas(kitchen: Bench) -> None:
    kitchen.checkpoint()
    (merged,) = report(kitchen, MERGE).merged
    total = weight = 0.0
    for stem, key in KEYS.items():
        delta = 0.5 * kitchen.deltas["a"][stem] - 1.5 * kitchen.deltas["b"][stem]
        before = np.linalg.norm(kitchen.weights["base"][key])
        assert merged.shifts[key].delta == pytest.approx(np.linalg.norm(delta), rel=1e-9)
        assert merged.shifts[key].weight == pytest.approx(before, rel=1e-9)
        total, weight = total + float((delta**2).sum()), weight + before**2
    assert moved(merged.shifts.values()).relative == pytest.approx((total / weight) ** 0.5, rel=1e-9)
    assert {key for keys in merged.blocks.values() for key in keys} == set(KEYS.values())


def test_of_merges_in_a_row_the_last_is_told_with_the_edits_of_all(kitchen: Bench) -> None:
    kitchen.checkpoint()
    steps = """
    base: {load: base.safetensors}
    a: {load: a.safetensors}
    b: {load: b.safetensors}
    first: {merge-into-checkpoint: base, loras: {a: 1.0}}
    second: {merge-into-checkpoint: first, loras: {b: 1.0}}
    out: {save: second, to: out/model.safetensors}
"""
    (merged,) = report(kitchen, steps, run=False).merged
    delta = kitchen.deltas["a"][TO_Q] + kitchen.deltas["b"][TO_Q]
    assert merged.step == "second"
    assert merged.shifts[KEYS[TO_Q]].delta == pytest.approx(np.linalg.norm(delta), rel=1e-9)


def test_what_a_resize_keeps_is_told_by_the_run_or_remembered_by_the_store(kitchen: Bench) -> None:
    (run,) = report(kitchen).resized
    (later,) = report(kitchen, run=False).resized
    assert run == later
    for stem, key in KEYS.items():
        delta = 0.7 * kitchen.deltas["a"][stem] - 0.4 * kitchen.deltas["b"][stem]
        squares = np.linalg.svd(delta, compute_uv=False) ** 2
        assert run.energy[key] == pytest.approx(squares[:3].sum() / squares.sum(), rel=1e-9)
    assert run.worst == min(run.energy.values())


def test_modules_of_every_structure_have_figures(kitchen: Bench) -> None:
    kitchen.lycoris("mixed")
    found = report(kitchen, STEPS + "    mixed: {load: mixed.safetensors}\n", run=False)
    (portrait,) = [one for one in found.portraits if one.step == "mixed"]
    assert len(portrait.figures) == len(SHAPES)
    for module, figures in portrait.figures.items():
        stem = portrait.spec.modules[module].spelling.stem
        assert figures.norm == pytest.approx(np.linalg.norm(kitchen.deltas["mixed"][stem]), rel=1e-9)
    assert [(meeting.one, meeting.two) for meeting in found.meetings] == [
        ("a", "b"),
        ("a", "mixed"),
        ("b", "mixed"),
    ]


def test_an_operator_has_no_figures_and_breaks_nothing(kitchen: Bench) -> None:
    tensors = {f"{TO_Q}.weight": np.linspace(-1, 1, 20, dtype="float32"), f"{TO_Q}.on_input": np.array(0)}
    save_file(tensors, kitchen.folder / "ia3.safetensors")
    found = report(kitchen, STEPS + "    ia3: {load: ia3.safetensors, family: sd1}\n", run=False)
    (portrait,) = [one for one in found.portraits if one.step == "ia3"]
    assert portrait.figures == {}
    assert len(portrait.spec.modules) == 1
    assert found.untold == ()


def test_workers_and_a_second_look_change_nothing(kitchen: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    first = report(kitchen, run=False)
    monkeypatch.setattr(figuring, "default_workers", lambda: 5)
    again = report(kitchen, run=False)
    assert [portrait.figures for portrait in first.portraits] == [one.figures for one in again.portraits]
    assert [meeting.overlaps for meeting in first.meetings] == [one.overlaps for one in again.meetings]


def test_a_report_writes_nothing_beside_the_recipe(kitchen: Bench) -> None:
    before = {path.name for path in kitchen.folder.iterdir()} | {"r.yaml"}
    report(kitchen, run=False)
    assert {path.name for path in kitchen.folder.iterdir()} == before


# --- what is not there ------------------------------------------------------------------


def test_before_a_run_the_inputs_are_measured_and_outputs_are_due(kitchen: Bench) -> None:
    found = report(kitchen, run=False)
    assert [portrait.step for portrait in found.portraits] == ["a", "b"]
    (output,) = [file for file in found.files if file.output]
    assert (output.size, output.sha256, output.state) == (None, None, "will run")
    assert found.ran == {}
    assert not (kitchen.folder / "out").exists()


def test_a_merge_that_needs_what_is_not_made_yet_is_said_to(kitchen: Bench) -> None:
    kitchen.checkpoint()
    found = report(kitchen, MERGE, run=False)
    assert found.merged == ()
    assert found.untold == ("model: 'mixed' is not in the store: run first",)


def test_a_damaged_lora_costs_its_own_figures_alone(kitchen: Bench) -> None:
    path = kitchen.folder / "b.safetensors"
    tensors = load_file(path)
    tensors[f"{TE}.lora_up.weight"][0, 0] = np.nan
    save_file(tensors, path, {"ss_base_model_version": "sd_v1", "ss_v2": "False"})
    found = report(kitchen, run=False)
    assert [portrait.step for portrait in found.portraits] == ["a"]
    assert all("NaN" in said for said in found.untold)
    assert len(found.untold) == 2


def test_loras_of_two_families_never_meet(kitchen: Bench) -> None:
    name = "transformer.transformer_blocks.0.attn.to_q"
    sides = {"lora_A": (2, 3072), "lora_B": (3072, 2)}
    tensors = {f"{name}.{side}.weight": np.ones(shape, "float32") for side, shape in sides.items()}
    save_file(tensors, kitchen.folder / "flux.safetensors")
    found = report(kitchen, STEPS + "    c: {load: flux.safetensors, family: flux1}\n", run=False)
    assert [(meeting.one, meeting.two) for meeting in found.meetings] == [("a", "b")]
    assert [portrait.step for portrait in found.portraits] == ["a", "b", "c"]


def test_of_many_loras_the_first_are_compared_and_that_is_said(
    kitchen: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figuring, "MOST_MEETING", 2)
    kitchen.lora("c", rank=2, seed=5)
    found = report(kitchen, STEPS + "    c: {load: c.safetensors}\n", run=False)
    assert [(meeting.one, meeting.two) for meeting in found.meetings] == [("a", "b")]
    assert "of 3 LoRAs the first 2 are compared" in found.untold


def test_modules_without_a_place_are_told_with_the_reason(kitchen: Bench) -> None:
    kitchen.checkpoint()
    lost = TE.replace("layers_0", "layers_5")
    kitchen.lora("a", modules={**SHAPES, lost: SHAPES[TE]})
    found = report(kitchen, MERGE.replace("-1.5}", "-1.5}, unmatched: ignore"), run=False)
    assert [(one.step, one.lora, one.module, one.reason) for one in found.lost] == [
        ("model", "a", lost, "the checkpoint has no such weight")
    ]


# --- checks -----------------------------------------------------------------------------


def test_a_check_that_fails_is_told_as_failed(kitchen: Bench) -> None:
    recipe, recording = (
        load_recipe(kitchen.recipe(STEPS + "    good: {check: small, norm: {max: 1e-6}}\n")),
        Recording(),
    )
    with pytest.raises(LorapipeError) as caught:
        build(recipe, listen=recording.tell)
    assert is_of_checks(caught.value)
    recording.ended(caught.value)
    found = report_recipe(recipe, recording=recording)
    assert [(check.step, check.holds) for check in found.checked] == [("good", False)]
    assert len(found.errors) >= 1
    assert found.ran["lora"].how == "held back"


def test_figures_of_a_check_that_held_before_are_remembered(kitchen: Bench) -> None:
    steps = STEPS + "    good: {check: small, energy: {of: both, min: 0.0}}\n"
    report(kitchen, steps)
    (check,) = report(kitchen, steps, run=False).checked
    assert check.holds is True
    assert 0.0 < check.figures["energy"]["total"] < 1.0  # type: ignore[index]


# --- files ------------------------------------------------------------------------------


def test_files_are_reported_without_a_recipe(kitchen: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(kitchen.folder)
    found = report_files([Path("a.safetensors"), kitchen.folder / "b.safetensors"])
    assert found.recipe is None
    assert found.title == "a.safetensors, b.safetensors"
    assert [portrait.step for portrait in found.portraits] == ["a", "b"]
    assert len(found.meetings) == 1
    assert found.plan.warnings == ()


@pytest.mark.parametrize("name", ["$(x).safetensors", "a b, [c] {d}: #e.safetensors", "café ☃.safetensors"])
def test_any_name_of_a_file_will_do(kitchen: Bench, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(kitchen.folder)
    (kitchen.folder / "a.safetensors").rename(kitchen.folder / name)
    (portrait,) = report_files([Path(name)]).portraits
    assert portrait.path.name == name


def test_a_checkpoint_among_the_files_is_a_file(kitchen: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(kitchen.folder)
    kitchen.checkpoint()
    found = report_files([Path("base.safetensors")])
    assert found.portraits == ()
    assert [file.path.name for file in found.files] == ["base.safetensors"]


def test_a_file_that_is_not_there_is_an_error(kitchen: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(kitchen.folder)
    with pytest.raises((InputError, ManyErrors)):
        report_files([Path("none.safetensors")])
