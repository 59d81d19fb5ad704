"""A recipe becomes files: the numbers are right, and nothing is done twice."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from lorapipe.build.events import Event, Hashing, StepDone, StepStarted
from lorapipe.build.result import Built
from lorapipe.build.run import Options, build, loading_meanwhile
from lorapipe.errors import BuildError, InputError, ManyErrors
from lorapipe.plan.provenance import KEY
from lorapipe.recipe.parsing import load_recipe
from lorapipe.steps import find_kind

from ..bench import CONV1, KEYS, PROJ_IN, SHAPES, TE, TO_Q, Bench

BOTH = """
    a: {load: a.safetensors}
    b: {load: b.safetensors}
    both: {concat: {a: 0.7, b: -0.4}}
"""


def run(path: Path, workers: int = 2, force: bool = False, **params: object) -> Built:
    return build(load_recipe(path, params), Options(workers=workers, force=force))


def steps_done(path: Path, **params: object) -> dict[str, str]:
    """How each step of a build came: built, store or written."""
    events: list[Event] = []
    build(load_recipe(path, params), Options(workers=1), listen=events.append)
    return {event.step: event.how for event in events if isinstance(event, StepDone)}


def read_deltas(path: Path) -> dict[str, np.ndarray]:
    """Each module's alpha / rank * up @ down in float64, read with the safetensors library."""
    tensors = load_file(path)
    deltas = {}
    for name, up in tensors.items():
        if name.endswith(".lora_up.weight"):
            stem = name.removesuffix(".lora_up.weight")
            down = tensors[f"{stem}.lora_down.weight"].double()
            rank = down.shape[0]
            scale = float(tensors[f"{stem}.alpha"]) / rank
            deltas[stem] = (scale * (up.double().reshape(-1, rank) @ down.reshape(rank, -1))).numpy()
    return deltas


def error(found: np.ndarray, reference: np.ndarray, terms: list[np.ndarray]) -> float:
    """||out - ref|| / sum |w_i| ||delta_i||: the terms come with their weights."""
    return float(np.linalg.norm(found - reference) / sum(np.linalg.norm(term) for term in terms))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return dict(file.metadata())


# --- the numbers ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "tail",
    [
        "out: {save: both, to: out.safetensors, dtype: fp32}",
        "mix: {shuffle: both, seed: 7}\nout: {save: mix, to: out.safetensors, dtype: fp32}",
    ],
    ids=["concat", "shuffle"],
)
def test_a_weighted_concat_and_its_shuffle_agree_with_float64_to_1e_6(bench: Bench, tail: str) -> None:
    bench.lora("a", rank=8, alpha=4.0, seed=1)
    bench.lora("b", rank=12, alpha=None, seed=2)

    built = run(bench.recipe(BOTH + tail))

    found = read_deltas(built.outputs[0].path)
    assert set(found) == set(SHAPES)
    for stem, delta in found.items():
        terms = [0.7 * bench.deltas["a"][stem], -0.4 * bench.deltas["b"][stem]]
        assert error(delta, sum(terms), terms) < 1e-6


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_a_merge_is_the_rounded_float64_sum_in_every_value(bench: Bench, dtype: str) -> None:
    bench.checkpoint(dtype="float32")
    bench.lora("a", rank=8, alpha=4.0, seed=1)
    bench.lora("b", rank=12, alpha=None, seed=2)

    built = run(
        bench.recipe(f"""
            base: {{load: base.safetensors}}
            a: {{load: a.safetensors}}
            b: {{load: b.safetensors}}
            model: {{merge-into-checkpoint: base, loras: {{a: 0.7, b: -0.4}}}}
            out: {{save: model, to: out.safetensors, dtype: {dtype}}}
        """)
    )

    found = load_file(built.outputs[0].path)
    for stem, key in KEYS.items():
        exact = 0.7 * bench.deltas["a"][stem] - 0.4 * bench.deltas["b"][stem]
        exact = bench.weights["base"][key] + exact.reshape(SHAPES[stem])
        assert _ulps(found[key], exact).max() <= 0.5 + 1e-6


def _ulps(found: torch.Tensor, exact: np.ndarray) -> np.ndarray:
    """How far each value is from the exact one, in units of its last place."""
    away = torch.nextafter(found.abs().float(), torch.tensor(torch.inf))
    if found.dtype != torch.float32:
        bits = found.abs().view(torch.int16) + 1
        away = bits.view(found.dtype).float()
    spacing = (away - found.abs().float()).double().numpy()
    return np.abs(found.double().numpy() - exact) / spacing


def test_a_merge_keeps_every_other_tensor_byte_for_byte(bench: Bench) -> None:
    base = bench.checkpoint()
    bench.lora("a", modules={TO_Q: SHAPES[TO_Q]})

    built = run(
        bench.recipe("""
            base: {load: base.safetensors}
            a: {load: a.safetensors}
            model: {merge-into-checkpoint: base, loras: a}
            out: {save: model, to: out.safetensors}
        """)
    )

    before, after = load_file(base), load_file(built.outputs[0].path)
    assert list(before) == list(after)
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed == {KEYS[TO_Q]}
    assert {key: t.dtype for key, t in before.items()} == {key: t.dtype for key, t in after.items()}


def test_a_lora_at_half_strength_has_half_the_delta(bench: Bench) -> None:
    bench.lora("a", rank=8, alpha=4.0)

    built = run(
        bench.recipe(
            "a: {load: a.safetensors}\nhalf: {scale: a, by: 0.5}\nout: {save: half, to: o.safetensors}"
        )
    )

    for stem, delta in read_deltas(built.outputs[0].path).items():
        np.testing.assert_allclose(delta, 0.5 * bench.deltas["a"][stem], rtol=1e-6, atol=1e-9)


def test_svd_resize_is_within_1_0001_of_the_optimal_truncation(bench: Bench) -> None:
    bench.lora("a", rank=8, alpha=4.0, seed=1)
    bench.lora("b", rank=6, alpha=None, seed=2)

    built = run(
        bench.recipe(
            BOTH
            + "s: {svd-resize: both, rank: 4, conv-rank: 3}\nout: {save: s, to: o.safetensors, dtype: fp32}"
        )
    )

    for stem, delta in read_deltas(built.outputs[0].path).items():
        exact = 0.7 * bench.deltas["a"][stem] - 0.4 * bench.deltas["b"][stem]
        singular = np.linalg.svd(exact, compute_uv=False)
        rank = 3 if stem == CONV1 else 4
        assert np.linalg.norm(delta - exact) <= 1.0001 * np.linalg.norm(singular[rank:])


def test_scale_by_component_reaches_the_text_encoder_alone(bench: Bench) -> None:
    bench.lora("a")

    built = run(
        bench.recipe(
            "a: {load: a.safetensors}\ns: {scale: a, components: {te: -2}}\nout: {save: s, to: o.safetensors}"
        )
    )

    found = read_deltas(built.outputs[0].path)
    np.testing.assert_allclose(found[TE], -2 * bench.deltas["a"][TE], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found[PROJ_IN], bench.deltas["a"][PROJ_IN], rtol=1e-6, atol=1e-6)


def test_a_ckpt_goes_in_and_out(bench: Bench) -> None:
    bench.lora("a")
    torch.save({"state_dict": load_file(bench.folder / "a.safetensors")}, bench.folder / "a.ckpt")

    built = run(
        bench.recipe("""
            a: {load: a.ckpt, family: sd1}
            out: {save: a, to: out.ckpt}
            same: {save: a, to: out2.pt}
        """)
    )

    found = torch.load(built.outputs[0].path, weights_only=True)
    for name, tensor in load_file(bench.folder / "a.safetensors").items():
        assert torch.equal(found[name], tensor)
    assert built.outputs[0].sha256 == built.outputs[1].sha256


# --- the same bytes ------------------------------------------------------------------


def test_step_names_order_folder_workers_and_store_do_not_change_a_byte(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.lora("a", rank=8, seed=1)
    bench.lora("b", rank=6, seed=2)
    first = run(
        bench.recipe(
            BOTH
            + "s: {svd-resize: both, rank: 4}\n"
            + "out: {save: s, to: o.safetensors}\nall: {save: both, to: p.safetensors}"
        ),
        workers=1,
    )

    other = tmp_path / "elsewhere" / "deeper"
    other.mkdir(parents=True)
    for name in ("a", "b"):
        (other / f"{name}.safetensors").write_bytes((bench.folder / f"{name}.safetensors").read_bytes())
    monkeypatch.setenv("LORAPIPE_STORE", str(tmp_path / "other-store"))
    moved = Bench(other)
    second = run(
        moved.recipe("""
            everything: {save: mix, to: x/p.safetensors}
            result: {save: small, to: x/o.safetensors}
            small: {svd-resize: mix, rank: 4, description: another name}
            mix: {concat: {one: 0.7, two: -0.4}}
            two: {load: b.safetensors}
            one: {load: a.safetensors}
        """),
        workers=2,
    )

    digests = {o.path.name: o.sha256 for o in first.outputs}
    assert {o.path.name: o.sha256 for o in second.outputs} == digests
    assert all(sha256(o.path) == o.sha256 for o in second.outputs)


def test_a_result_from_the_store_gives_the_bytes_of_a_computed_one(bench: Bench) -> None:
    bench.lora("a", rank=8, seed=1)
    recipe = bench.recipe(
        "a: {load: a.safetensors}\nm: {shuffle: a}\nout: {save: m, to: o.safetensors, dtype: fp16}"
    )
    computed = run(recipe).outputs[0]
    computed.path.unlink()

    assert steps_done(recipe) == {"m": "store", "out": "written"}
    assert sha256(computed.path) == computed.sha256


# --- nothing is done twice -----------------------------------------------------------


def test_a_second_run_does_nothing_and_says_so(bench: Bench) -> None:
    bench.lora("a")
    recipe = bench.recipe("a: {load: a.safetensors}\nm: {shuffle: a}\nout: {save: m, to: o.safetensors}")
    first = run(recipe)
    before = first.outputs[0].path.stat()

    second = run(recipe)

    after = second.outputs[0].path.stat()
    assert [o.written for o in (*first.outputs, *second.outputs)] == [True, False]
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert steps_done(recipe) == {}


def test_an_input_that_changed_at_the_same_path_size_and_mtime_is_noticed(bench: Bench) -> None:
    path = bench.lora("a", seed=1)
    recipe = bench.recipe("a: {load: a.safetensors}\nout: {save: a, to: o.safetensors}")
    run(recipe)
    old = path.stat()
    bench.lora("a", seed=2)
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (old.st_size, old.st_mtime_ns)

    built = run(recipe)

    assert built.outputs[0].written
    np.testing.assert_allclose(read_deltas(built.outputs[0].path)[TO_Q], bench.deltas["a"][TO_Q], rtol=1e-6)


def test_a_changed_option_rebuilds_only_what_depends_on_it(bench: Bench) -> None:
    bench.lora("a", rank=8)
    recipe = bench.recipe(
        "a: {load: a.safetensors}\nm: {shuffle: a}\n"
        "s: {svd-resize: m, rank: $(r)}\n"
        "out: {save: s, to: o.safetensors}\nwhole: {save: m, to: w.safetensors}",
        head="params: {r: 4}\n",
    )
    assert steps_done(recipe) == {
        "a": "built",
        "m": "built",
        "s": "built",
        "out": "written",
        "whole": "written",
    }

    assert steps_done(recipe, r=3) == {"m": "store", "s": "built", "out": "written"}
    assert steps_done(recipe, r=4) == {"s": "store", "out": "written"}


def test_a_raised_version_of_a_kind_makes_its_results_stale(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.lora("a")
    recipe = bench.recipe("""
        a: {load: a.safetensors}
        b: {load: b.safetensors}
        m: {shuffle: a}
        c: {concat: [m, b]}
        out: {save: c, to: o.safetensors, provenance: full}
    """)
    bench.lora("b", seed=2)
    run(recipe)

    from lorapipe.steps import shuffle

    monkeypatch.setattr(
        shuffle, "KIND", replace(find_kind("shuffle"), version=find_kind("shuffle").version + 1)
    )

    done = steps_done(recipe)
    assert done["m"] == "built"
    # The numbers came out as before, and a shuffled output does not tell how it was made.
    assert done["out"] == "found"


def test_a_damaged_result_in_the_store_is_built_again(bench: Bench, tmp_path: Path) -> None:
    bench.lora("a")
    recipe = bench.recipe("a: {load: a.safetensors}\nm: {shuffle: a}\nout: {save: m, to: o.safetensors}")
    digest = run(recipe).outputs[0].sha256
    (bench.folder / "o.safetensors").unlink()
    for blob in (tmp_path / "store" / "blobs").rglob("*"):
        if blob.is_file():
            blob.write_bytes(b"x" + blob.read_bytes()[1:])

    assert steps_done(recipe) == {"a": "built", "m": "built", "out": "written"}
    assert sha256(bench.folder / "o.safetensors") == digest


# --- files that are not ours -----------------------------------------------------------


def test_a_file_that_lorapipe_did_not_write_is_left_alone(bench: Bench) -> None:
    bench.lora("a")
    (bench.folder / "o.safetensors").write_bytes(b"precious")
    recipe = bench.recipe("a: {load: a.safetensors}\nout: {save: a, to: o.safetensors}")

    with pytest.raises(ManyErrors) as caught:
        run(recipe)

    (found,) = caught.value.errors
    assert (found.code, found.exit_status) == ("foreign-file", 5)
    assert "'o.safetensors' is there and was not written by lorapipe" in str(found)
    assert (bench.folder / "o.safetensors").read_bytes() == b"precious"
    assert run(recipe, force=True).outputs[0].written


def test_an_output_edited_by_hand_is_left_alone(bench: Bench) -> None:
    bench.lora("a")
    recipe = bench.recipe("a: {load: a.safetensors}\nout: {save: a, to: o.safetensors}")
    path = run(recipe).outputs[0].path
    path.write_bytes(b"edited")

    with pytest.raises(ManyErrors, match="changed since lorapipe wrote it"):
        run(recipe)

    assert path.read_bytes() == b"edited"


def test_an_output_is_known_by_the_lock_where_the_journal_is_another(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.lora("a")
    recipe = bench.recipe("a: {load: a.safetensors}\nout: {save: a, to: o.safetensors}")
    run(recipe)
    monkeypatch.setenv("LORAPIPE_STORE", str(tmp_path / "another-machine"))

    assert [o.written for o in run(recipe).outputs] == [False]


def test_a_missing_lock_is_written_again(bench: Bench) -> None:
    bench.lora("a")
    recipe = bench.recipe("a: {load: a.safetensors}\nout: {save: a, to: o.safetensors}")
    run(recipe)
    lock = bench.folder / "r.lock"
    text = lock.read_text(encoding="utf-8")
    lock.unlink()

    run(recipe)

    assert lock.read_text(encoding="utf-8") == text
    assert str(bench.folder) not in text


def test_an_error_at_the_end_leaves_no_file_behind(bench: Bench) -> None:
    bench.lora("a", metadata={})
    tensors = load_file(bench.folder / "a.safetensors")
    tensors[f"{TO_Q}.lora_up.weight"] *= 1e6
    from safetensors.torch import save_file

    save_file(tensors, bench.folder / "a.safetensors", {"ss_base_model_version": "sd_v1"})
    recipe = bench.recipe("a: {load: a.safetensors}\nout: {save: a, to: out/o.safetensors, dtype: fp16}")
    before = sorted(p.name for p in bench.folder.iterdir())

    with pytest.raises(BuildError) as caught:
        run(recipe)

    assert caught.value.code == "overflow"
    assert caught.value.exit_status == 5
    assert KEYS[TO_Q] in str(caught.value)
    assert "bf16" in str(caught.value)
    assert sorted(p.name for p in bench.folder.iterdir()) == before


def test_nan_in_an_adapter_is_an_error_that_names_the_tensor(bench: Bench) -> None:
    from safetensors.torch import save_file

    bench.lora("a")
    tensors = load_file(bench.folder / "a.safetensors")
    tensors[f"{TO_Q}.lora_up.weight"][0, 0] = torch.nan
    save_file(tensors, bench.folder / "a.safetensors", {"ss_base_model_version": "sd_v1"})

    with pytest.raises((InputError, ManyErrors), match=TO_Q):
        run(bench.recipe("a: {load: a.safetensors}\nout: {save: a, to: o.safetensors}"))

    assert not (bench.folder / "o.safetensors").exists()


# --- what the file says -----------------------------------------------------------------


def test_provenance_names_kinds_inputs_and_weights_and_no_folder(bench: Bench) -> None:
    path = bench.lora("a")
    bench.lora("b", seed=3)

    built = run(bench.recipe(BOTH + "out: {save: both, to: o.safetensors}"))

    text = metadata(built.outputs[0].path)[KEY]
    told = json.loads(text)
    assert told["steps"]["load-1"]["file"] == {"name": "a.safetensors", "sha256": sha256(path)}
    assert told["steps"]["concat-1"]["inputs"]["concat"] == [["load-1", 0.7], ["load-2", -0.4]]
    assert str(bench.folder) not in text


def test_after_a_shuffle_nothing_of_the_sources_is_in_the_file(bench: Bench) -> None:
    path = bench.lora("a", metadata={"ss_base_model_version": "sd_v1", "ss_output_name": "secret-name"})

    built = run(
        bench.recipe(
            "a: {load: a.safetensors}\nm: {shuffle: a, seed: 424242}\nout: {save: m, to: o.safetensors}"
        )
    )

    raw = built.outputs[0].path.read_bytes()
    header = raw[8 : 8 + int.from_bytes(raw[:8], "little")].decode()
    for secret in (sha256(path), "secret-name", "a.safetensors", "424242", KEY):
        assert secret not in header
    assert set(metadata(built.outputs[0].path)) == {
        "ss_base_model_version",
        "ss_network_module",
        "ss_network_dim",
        "ss_network_alpha",
        "ss_network_args",
        "format",
        "modelspec.sai_model_spec",
        "modelspec.architecture",
        "modelspec.implementation",
        "modelspec.title",
        "modelspec.resolution",
        "modelspec.prediction_type",
        "sshs_model_hash",
        "sshs_legacy_hash",
    }


def test_metadata_of_the_recipe_wins(bench: Bench) -> None:
    bench.lora("a", metadata={"ss_base_model_version": "sd_v1", "modelspec.title": "old", "kept": "yes"})

    built = run(
        bench.recipe(
            "a: {load: a.safetensors}\n"
            "out: {save: a, to: o.safetensors, provenance: none, metadata: {modelspec.title: new}}"
        )
    )

    found = metadata(built.outputs[0].path)
    assert (found["modelspec.title"], found["kept"]) == ("new", "yes")
    assert KEY not in found


def test_a_source_date_is_written_and_another_one_builds_anew(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.lora("a", metadata={"ss_base_model_version": "sd_v1", "modelspec.date": "1999-12-31T00:00:00Z"})
    recipe = bench.recipe("a: {load: a.safetensors}\nout: {save: a, to: o.safetensors}")

    undated = run(recipe)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    dated, again = run(recipe), run(recipe)

    assert [output.written for built in (undated, dated, again) for output in built.outputs] == [
        True,
        True,
        False,
    ]
    assert metadata(dated.outputs[0].path)["modelspec.date"] == "2001-09-09T01:46:40Z"


def test_no_date_is_kept_of_a_source(bench: Bench) -> None:
    bench.lora("a", metadata={"ss_base_model_version": "sd_v1", "modelspec.date": "1999-12-31T00:00:00Z"})
    built = run(bench.recipe("a: {load: a.safetensors}\nout: {save: a, to: o.safetensors}"))
    assert "modelspec.date" not in metadata(built.outputs[0].path)


def test_outputs_are_adopted_where_journal_and_lock_are_both_lost(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.lora("a")
    recipe = bench.recipe("a: {load: a.safetensors}\nout: {save: a, to: o.safetensors}")
    path = run(recipe).outputs[0].path
    before = path.stat()
    (bench.folder / "r.lock").unlink()
    monkeypatch.setenv("LORAPIPE_STORE", str(tmp_path / "another-machine"))

    run(recipe)

    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert [o.written for o in run(recipe).outputs] == [False]


def test_a_file_of_the_same_tensors_that_is_another_is_refused_after_the_comparison(bench: Bench) -> None:
    bench.lora("a", seed=1)
    bench.lora("b", seed=2)
    path = (
        run(bench.recipe("b: {load: b.safetensors}\nout: {save: b, to: o.safetensors}", "b.yaml"))
        .outputs[0]
        .path
    )
    foreign = path.read_bytes()
    path.unlink()
    path.with_name("p.safetensors").write_bytes(foreign)

    with pytest.raises(BuildError, match="was not written by lorapipe"):
        run(bench.recipe("a: {load: a.safetensors}\nout: {save: a, to: p.safetensors}"))

    assert path.with_name("p.safetensors").read_bytes() == foreign
    assert not list(bench.folder.glob(".lorapipe-*"))


def test_an_output_known_by_the_lock_is_entered_in_the_journal(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.lora("a")
    recipe = bench.recipe("a: {load: a.safetensors}\nout: {save: a, to: o.safetensors}")
    run(recipe)
    monkeypatch.setenv("LORAPIPE_STORE", str(tmp_path / "another-machine"))
    run(recipe)
    (bench.folder / "r.lock").unlink()

    assert [o.written for o in run(recipe).outputs] == [False]


def test_a_linked_folder_gives_the_lock_of_the_folder_itself(bench: Bench, tmp_path: Path) -> None:
    bench.lora("a")
    recipe = bench.recipe("a: {load: a.safetensors}\nout: {save: a, to: out/o.safetensors}")
    run(recipe)
    lock = (bench.folder / "r.lock").read_text(encoding="utf-8")
    link = tmp_path / "link"
    link.symlink_to(bench.folder)

    assert [o.written for o in run(link / "r.yaml").outputs] == [False]
    assert (bench.folder / "r.lock").read_text(encoding="utf-8") == lock
    assert ".." not in lock


def test_an_input_replaced_after_it_was_hashed_stops_the_build_and_poisons_nothing(bench: Bench) -> None:
    """Else the store would hold the new file's result under the old file's key, for good."""
    path = bench.lora("a", seed=1)
    other = bench.lora("other", seed=2)
    recipe = load_recipe(
        bench.recipe("""
        a: {load: a.safetensors}
        s: {svd-resize: a, rank: 2}
        o: {save: s, to: o.safetensors}
        """),
        {},
    )
    old = path.read_bytes()

    def replace_it(event: Event) -> None:
        if isinstance(event, StepStarted) and event.step == "a":
            other.replace(path)

    with pytest.raises(InputError, match="changed after it was hashed"):
        build(recipe, Options(workers=1), listen=replace_it)

    assert not (bench.folder / "o.safetensors").exists()
    path.write_bytes(old)
    assert steps_done(bench.folder / "r.yaml")["s"] == "built"


def test_an_input_rewritten_in_place_with_its_old_mtime_is_noticed_before_the_output_appears(
    bench: Bench,
) -> None:
    path = bench.lora("a", seed=1)
    other = bench.lora("other", seed=2).read_bytes()
    recipe = load_recipe(
        bench.recipe("a: {load: a.safetensors}\no: {save: a, to: out/o.safetensors}"),
    )

    def rewrite(event: Event) -> None:
        if isinstance(event, StepStarted) and event.step == "o":
            old = path.stat()
            path.write_bytes(other)
            os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))

    with pytest.raises(InputError, match="changed after it was hashed"):
        build(recipe, Options(workers=1), listen=rewrite)

    assert not (bench.folder / "out").exists()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc, where even root cannot make a file")
def test_a_lock_that_cannot_be_written_stops_the_build_before_the_work(bench: Bench) -> None:
    bench.lora("a")
    recipe = load_recipe(bench.recipe("a: {load: a.safetensors}\no: {save: a, to: o.safetensors}"))

    with pytest.raises(BuildError, match=r"r\.lock cannot be written"):
        build(recipe, Options(workers=1, lock=Path("/proc/r.lock")))

    assert not (bench.folder / "o.safetensors").exists()


def test_a_store_that_cannot_be_written_stops_the_build_before_the_work(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.lora("a")
    recipe = load_recipe(bench.recipe("a: {load: a.safetensors}\no: {save: a, to: o.safetensors}"))
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("LORAPIPE_STORE", str(tmp_path / "file" / "store"))
    events: list[Event] = []

    with pytest.raises(BuildError, match="cannot be written"):
        build(recipe, Options(workers=1), listen=events.append)

    assert not [event for event in events if isinstance(event, StepStarted)]


# --- what is done beside the hashing ------------------------------------------------------


def test_torch_is_loaded_once_beside_the_hashing_of_a_large_input(tmp_path: Path) -> None:
    loaded: list[str] = []
    heard: list[Event] = []
    told = loading_meanwhile(heard.append, load=loaded.append, least=100)
    events = [Hashing(tmp_path, 0, 99), Hashing(tmp_path, 0, 100), Hashing(tmp_path, 50, 100)]

    for event in events[:1]:
        told(event)
    assert loaded == []
    for event in events[1:]:
        told(event)
    assert (loaded, heard) == (["torch"], events)


def test_a_build_whose_inputs_are_small_loads_nothing_ahead(tmp_path: Path) -> None:
    loaded: list[str] = []
    loading_meanwhile(lambda event: None, load=loaded.append)(Hashing(tmp_path, 0, 1 << 20))
    assert loaded == []
