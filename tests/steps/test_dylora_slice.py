"""``dylora-slice``: the first components of a DyLoRA, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lorapipe.errors import BuildError, RecipeError
from lorapipe.steps import find_kind
from lorapipe.steps.kind import Cost, Materialise
from lorapipe.weights.specs import AdapterSpec, Form, ModuleSpec, Spelling
from lorapipe.weights.structures.lazy import Lazy

from ..bench import CONV1, Bench
from .kit import FILE, TEXT, Q, deltas, given, infer, load, lora, model, options, work, written

KIND = find_kind("dylora-slice")


def sliced(value: Any, components: int, **said: Any) -> Any:
    return work("dylora-slice", given(dylora_slice=value), components=components, **said)


def refused(spec: object, components: int = 2) -> tuple[str, str | None]:
    with pytest.raises(RecipeError) as caught:
        infer("dylora-slice", given(dylora_slice=spec), components=components)
    return str(caught.value), caught.value.option


def test_it_is_free() -> None:
    spec = lora()
    assert KIND.materialise is Materialise.LAZY
    assert KIND.cost(given(dylora_slice=spec), options("dylora-slice", components=2), spec) == Cost()


@pytest.mark.parametrize("components", [1, 3, 5, 7])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_files_own_numbers_are_written_and_alpha_stays(bench: Bench, components: int, dtype: str) -> None:
    path = bench.lora("a", rank=8, alpha=3.0, dtype=dtype)
    source, found = load_file(path), written(sliced(load(path), components))
    assert found.keys() == source.keys()
    for name, tensor in source.items():
        if name.endswith(".lora_up.weight"):
            assert torch.equal(found[name], tensor[:, :components]), name
        elif name.endswith(".lora_down.weight"):
            assert torch.equal(found[name], tensor[:components]), name
        else:
            assert found[name].dtype == torch.float32
            assert float(found[name]) == 3.0, name


def test_the_strength_is_alpha_by_the_components_as_the_paper_has_it(bench: Bench) -> None:
    path = bench.lora("a", rank=8, alpha=3.0)
    source = load_file(path)
    for stem, delta in deltas(sliced(load(path), 2)).items():
        up = source[f"{stem}.lora_up.weight"].double().reshape(-1, 8)[:, :2]
        down = source[f"{stem}.lora_down.weight"].double().reshape(8, -1)[:2]
        np.testing.assert_allclose(delta, 3.0 / 2 * (up @ down).numpy(), rtol=1e-6, atol=1e-9)


def test_the_strength_of_training_is_the_trainers(bench: Bench) -> None:
    """kohya's DyLoRAModule.forward: alpha / R * sqrt(R / N) for the first N of R."""
    path = bench.lora("a", rank=8, alpha=3.0)
    source = load_file(path)
    found = deltas(sliced(load(path), 2, alpha="trained"))
    up, down = (source[f"{CONV1}.lora_{side}.weight"].double() for side in ("up", "down"))
    exact = 3.0 / 8 * np.sqrt(8 / 2) * (up.reshape(-1, 8)[:, :2] @ down.reshape(8, -1)[:2]).numpy()
    np.testing.assert_allclose(found[CONV1], exact, rtol=1e-6, atol=1e-9)


def test_all_components_are_the_whole_and_fewer_stay_as_they_are(bench: Bench) -> None:
    loaded = load(bench.lora("a", rank=8))
    whole = sliced(loaded, 8)
    for module, delta in whole.modules.items():
        assert delta is loaded.modules[module]
    spec = lora(shapes={Q: (20, 20)})
    mixed = AdapterSpec("sd1", {**spec.modules, TEXT: ModuleSpec((24, 16), 8, Spelling("t"))}, "F32")
    found = infer("dylora-slice", given(dylora_slice=mixed), components=6)
    assert [known.rank for known in found.modules.values()] == [4, 6]


def test_a_slice_of_a_slice_is_the_slice(bench: Bench) -> None:
    loaded = load(bench.lora("a", rank=8))
    twice, once = sliced(sliced(loaded, 6), 3), sliced(loaded, 3)
    for stem, delta in deltas(twice).items():
        np.testing.assert_array_equal(delta, deltas(once)[stem])


def test_scaling_and_slicing_change_places(bench: Bench) -> None:
    loaded = load(bench.lora("a", rank=8))
    before = sliced(work("scale", given(scale=loaded), by=-0.5), 4)
    after = work("scale", given(scale=sliced(loaded, 4)), by=-0.5)
    for stem, delta in deltas(before).items():
        np.testing.assert_array_equal(delta, deltas(after)[stem])


def test_more_components_than_there_are_is_an_error() -> None:
    assert refused(lora(8), 9) == ("error: the LoRA has 8 components, not 9 - 8 is the most", "components")


def test_other_formats_have_no_first_components(bench: Bench) -> None:
    message, option = refused(load(bench.lycoris("a")).spec)
    assert message.endswith(
        "has no components to take the first of - svd-resize makes a LoRA of any rank of it"
    )
    assert option == "dylora-slice"
    dora = {Q: ModuleSpec((20, 20), 0, Spelling("q"), Form("DoRA", additive=False))}
    assert "a function of the weight" in refused(AdapterSpec("sd1", dora, "F16"))[0]


def test_a_sum_has_no_first_components(bench: Bench) -> None:
    a, b = load(bench.lora("a")), load(bench.lora("b", seed=1))
    both = work("concat", given(concat=[("a", 1.0, a), ("b", 1.0, b)]))
    with pytest.raises(BuildError, match="a sum of LoRAs has no first components") as caught:
        sliced(both, 3)
    assert str(caught.value.hint) == "slice each before they are joined"
    assert caught.value.module is not None


@pytest.mark.parametrize("wrong", [model(), FILE])
def test_only_a_lora_is_sliced(wrong: object) -> None:
    message, option = refused(wrong)
    assert "'dylora-slice' takes a LoRA" in message
    assert option == "dylora-slice"


def test_the_file_is_read_when_the_slice_is_used(bench: Bench) -> None:
    path = bench.lora("a", rank=8)
    for delta in sliced(load(path), 2).modules.values():
        (term,) = delta.terms
        assert isinstance(term.structure, Lazy)
        assert term.structure.load().rank == term.structure.rank == 2
