"""``ema``: the average of a training run's checkpoints."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lorapipe.errors import RecipeError
from lorapipe.steps import find_kind
from lorapipe.steps.kind import Cost, Materialise

from ..bench import Bench
from .kit import FILE, deltas, given, infer, load, lora, model, options, work, written

KIND = find_kind("ema")


def chain(*values: Any) -> Any:
    return given(ema=[(f"s{number}", 1.0, value) for number, value in enumerate(values, 1)])


def refused(inputs: Any, **said: Any) -> tuple[str, str | None]:
    with pytest.raises(RecipeError) as caught:
        infer("ema", inputs, **said)
    return str(caught.value).removeprefix("error: "), caught.value.option


def test_it_is_free() -> None:
    spec = lora()
    assert KIND.materialise is Materialise.LAZY
    assert KIND.cost(chain(spec, spec), options("ema", decay=0.5), spec) == Cost()


def test_the_rank_stays_of_factors_and_adds_up_of_deltas() -> None:
    spec = lora(4)
    assert infer("ema", chain(spec, spec, spec), decay=0.5) == spec
    summed = infer("ema", chain(spec, spec, spec), decay=0.5, average="deltas")
    assert {known.rank for known in summed.modules.values()} == {12}


def test_both_factors_are_averaged_and_alpha_stays(bench: Bench) -> None:
    paths = [bench.lora(f"s{n}", rank=4, alpha=2.0, seed=n) for n in range(3)]
    found = written(work("ema", chain(*map(load, paths)), decay=0.5))
    files = [load_file(path) for path in paths]
    for name, tensor in found.items():
        wanted = sum(w * file[name].double() for w, file in zip((0.25, 0.25, 0.5), files, strict=True))
        torch.testing.assert_close(tensor, wanted.float(), rtol=1e-6, atol=1e-7)


def test_it_is_what_musubi_tuners_script_makes(bench: Bench) -> None:
    """lora_post_hoc_ema.py@30c658c with --beta: every tensor but alpha by the recursion, in float32."""
    paths = [bench.lora(f"s{n}", seed=n) for n in range(4)]
    state = load_file(paths[0])
    for path in paths[1:]:
        for name, tensor in load_file(path).items():
            if not name.endswith(".alpha"):
                state[name] = state[name] * 0.95 + tensor * (1 - 0.95)
    found = written(work("ema", chain(*map(load, paths)), decay=0.95))
    assert found.keys() == state.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, state[name], rtol=1e-5, atol=1e-6)


def test_deltas_are_averaged_exactly(bench: Bench) -> None:
    loaded = [load(bench.lora(f"s{n}", rank=2 + n, seed=n)) for n in range(3)]
    found = deltas(work("ema", chain(*loaded), decay=0.5, average="deltas"))
    for stem, delta in found.items():
        wanted = sum(w * bench.deltas[f"s{n}"][stem] for n, w in enumerate((0.25, 0.25, 0.5)))
        np.testing.assert_allclose(delta, wanted, rtol=1e-5, atol=1e-6)


def test_a_power_function_weighs_by_the_steps(bench: Bench) -> None:
    loaded = [load(bench.lora(f"s{n}", seed=n)) for n in range(2)]
    gamma = max(np.roots([1, 7, 16 - 100, 12 - 100]).real)  # algorithm 2 of the paper, sigma_rel 0.1
    first = (300 / 400) ** (gamma + 1)
    found = deltas(work("ema", chain(*loaded), sigma_rel=0.1, steps=[300.0, 400.0], average="deltas"))
    for stem, delta in found.items():
        wanted = first * bench.deltas["s0"][stem] + (1 - first) * bench.deltas["s1"][stem]
        np.testing.assert_allclose(delta, wanted, rtol=1e-5, atol=1e-5)


def test_a_checkpoint_at_step_zero_counts_for_nothing(bench: Bench) -> None:
    loaded = [load(bench.lora(f"s{n}", seed=n)) for n in range(3)]
    after = [load(bench.lora(f"s{n}", seed=n)) for n in range(1, 3)]
    with_it = deltas(work("ema", chain(*loaded), sigma_rel=0.2, steps=[0.0, 1.0, 2.0]))
    for stem, delta in deltas(work("ema", chain(*after), sigma_rel=0.2)).items():
        np.testing.assert_array_equal(delta, with_it[stem])


def test_biases_and_full_differences_are_averaged_too(bench: Bench) -> None:
    stem = "lora_unet_down_blocks_0_attentions_0_proj_in"
    for number in (1, 2):
        tensors = {
            f"{stem}.diff": torch.full((4, 4, 1, 1), float(number)),
            f"{stem}.diff_b": torch.ones(4) * number,
        }
        save_file(tensors, bench.folder / f"s{number}.safetensors", {"ss_base_model_version": "sd_v1"})
    loaded = [load(bench.folder / f"s{number}.safetensors") for number in (1, 2)]
    found = written(work("ema", chain(*loaded), decay=0.25))
    assert found.keys() == {f"{stem}.diff", f"{stem}.diff_b"}
    for tensor in found.values():
        torch.testing.assert_close(tensor, torch.full_like(tensor, 0.25 * 1 + 0.75 * 2))


@pytest.mark.parametrize(
    ("terms", "said", "message", "option"),
    [
        (1, {"decay": 0.5}, "an average takes at least two LoRAs", "ema"),
        (
            2,
            {"decay": 0.5, "sigma_rel": 0.1},
            "'decay' weighs the checkpoints one after the other",
            "sigma-rel",
        ),
        (
            2,
            {"decay": 0.5, "steps": [1.0, 2.0]},
            "'decay' weighs the checkpoints one after the other",
            "steps",
        ),
        (2, {"sigma_rel": 0.1, "steps": [1.0, 2.0, 3.0]}, "'steps' has 3 numbers for 2 LoRAs", "steps"),
        (2, {"sigma_rel": 0.1, "steps": [1.0]}, "'steps' has 1 number for 2 LoRAs", "steps"),
        (2, {"sigma_rel": 0.1, "steps": [2.0, 1.0]}, "the steps of the checkpoints do not rise", "steps"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    terms: int, said: Any, message: str, option: str
) -> None:
    text, place = refused(chain(*[lora()] * terms), **said)
    assert text.startswith(message)
    assert place == option


def test_weights_are_not_the_recipes_to_give() -> None:
    inputs = given(ema=[("a", 0.3, lora()), ("b", 0.7, lora())])
    text, option = refused(inputs, decay=0.5)
    assert text.startswith("the weights of an average follow from decay or sigma-rel - give a list: {ema:")
    assert option == "ema"


def test_loras_of_other_ranks_are_of_no_one_run() -> None:
    text, option = refused(chain(lora(4), lora(8)), decay=0.5)
    assert "'s1' has rank 4 here, 's2' rank 8 - 'average: deltas'" in text
    assert option == "ema"
    assert infer("ema", chain(lora(4), lora(8)), decay=0.5, average="deltas")


@pytest.mark.parametrize("wrong", [model(), FILE])
def test_only_loras_are_averaged(wrong: object) -> None:
    text, option = refused(chain(lora(), wrong), decay=0.5)
    assert text.startswith("'ema' takes a LoRA, 's2' is")
    assert option == "ema"


@pytest.mark.parametrize(
    ("steps", "said", "told"),
    [
        (("10", "20"), {"decay": 0.5}, None),
        (("20", "10"), {"decay": 0.5}, "of steps 20, 10: is this the order of the training?"),
        (("10", "20"), {"sigma_rel": 0.1}, None),
        (("10", "40"), {"sigma_rel": 0.1}, "of steps 10, 40: with 'steps: [10, 40]' each counts by these"),
        (("10", "40"), {"sigma_rel": 0.1, "steps": [1.0, 4.0]}, None),
        (("10", ""), {"sigma_rel": 0.1}, None),
        (("10", "many"), {"sigma_rel": 0.1}, None),
    ],
)
def test_what_the_files_say_of_their_steps_is_heeded(steps: Any, said: Any, told: str | None) -> None:
    inputs = chain(*(lora(metadata={"ss_steps": text}) for text in steps))
    asked = options("ema", **said)
    warnings = KIND.warn(inputs, asked, KIND.infer(inputs, asked))
    assert warnings == (() if told is None else (f"the files say that they are {told}",))
