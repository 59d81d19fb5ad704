"""The save rules, to the letter, and that a loader reads the delta that was meant."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lorapipe.errors import BuildError
from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.algebra.combine import concat
from lorapipe.weights.algebra.shuffle import shuffle
from lorapipe.weights.filing.saving import made, saved_tensors
from lorapipe.weights.structures.delta import Delta, Term
from lorapipe.weights.structures.structure import LowRank
from tests.weights.samples import (
    CONV,
    LINEAR,
    POINT,
    SHAPES,
    TEXT,
    adapter,
    adapter_of,
    delta,
    dense,
    error,
    loaded,
    saved_module,
    stem,
)


def file_of(value: Adapter, dtype: str | None = None) -> dict[str, torch.Tensor]:
    return {t.name: t.make().tensor for t in saved_tensors(value, dtype)}


def test_equal_magnitudes_keep_the_bytes_and_alpha_carries_the_strength() -> None:
    value = delta((12, 10), (0.5, 8), (-0.5, 4), dtype=torch.float16)
    saved = saved_module(value, "F16")
    a, b = (term.structure for term in value.terms)
    assert torch.equal(saved.up, torch.cat([a.up, -b.up], dim=1))
    assert torch.equal(saved.down, torch.cat([a.down, b.down]))
    assert saved.alpha == 6.0


def test_a_lora_saved_as_it_came_has_its_own_bytes_and_alpha() -> None:
    value = delta((12, 10), (4.0 / 8, 8), dtype=torch.bfloat16)
    saved = saved_module(value, "BF16")
    assert saved.up is not None
    assert torch.equal(saved.up, value.terms[0].structure.up)
    assert torch.equal(saved.down, value.terms[0].structure.down)
    assert saved.alpha == 4.0


def test_unequal_magnitudes_share_their_root_and_alpha_is_the_rank() -> None:
    value = delta((12, 10), (0.7, 2), (-0.4, 3), dtype=torch.float64)
    saved = saved_module(value, "F64")
    a, b = (term.structure for term in value.terms)
    assert torch.equal(saved.up, torch.cat([a.up * 0.7**0.5, b.up * -(0.4**0.5)], dim=1))
    assert torch.equal(saved.down, torch.cat([a.down * 0.7**0.5, b.down * 0.4**0.5]))
    assert saved.alpha == 5.0


def test_roots_are_taken_in_float64_and_rounded_once() -> None:
    value = delta((40, 30), (0.7, 8), (-0.4, 8), dtype=torch.float16)
    saved = saved_module(value, "F16")
    roots = np.repeat(np.sqrt([0.7, 0.4]), 8)[:, None]
    down = torch.cat([t.structure.down for t in value.terms]).to(torch.float64).numpy()
    np.testing.assert_array_equal(saved.down.numpy(), (down * roots).astype(np.float16))


@pytest.mark.parametrize(
    ("shape", "up", "down"),
    [
        ((12, 10), (12, 3), (3, 10)),
        ((8, 6, 1, 1), (8, 3, 1, 1), (3, 6, 1, 1)),
        ((9, 5, 3, 3), (9, 3, 1, 1), (3, 5, 3, 3)),
    ],
)
def test_factors_take_the_shapes_of_the_field(
    shape: tuple[int, ...], up: tuple[int, ...], down: tuple[int, ...]
) -> None:
    saved = saved_module(delta(shape, (1.0, 3)), "F32")
    assert (tuple(saved.up.shape), tuple(saved.down.shape)) == (up, down)


@pytest.mark.parametrize("coefficients", [(0.5, -0.5), (0.7, -0.4)])
def test_a_transposed_spelling_is_the_transposed_delta(coefficients: tuple[float, float]) -> None:
    value = delta((12, 10), (coefficients[0], 3), (coefficients[1], 2))
    saved = saved_module(value, "F32", transposed=True)
    tensors = {
        "m.lora_up.weight": saved.up,
        "m.lora_down.weight": saved.down,
        "m.alpha": torch.tensor(saved.alpha),
    }
    np.testing.assert_allclose(loaded(tensors)["m"], dense(value).T, atol=1e-5)


def test_signs_go_to_the_files_up_even_when_transposed() -> None:
    value = delta((12, 10), (-1.0, 3))
    saved = saved_module(value, "F32", transposed=True)
    assert torch.equal(saved.down, value.terms[0].structure.up.T)


def test_a_saved_lora_reads_back_as_its_delta_to_1e_6() -> None:
    """The issue's figures: a of rank 8 and alpha 4, b of rank 12 without alpha, LoCon."""
    a, b = adapter(8, 4 / 8), adapter(12, seed=50, dtype=torch.float16)
    both = concat([("a", 0.7, a), ("b", -0.4, b)])
    for value in (both, shuffle(both, 7), shuffle(both, 7, "permute")):
        found = loaded(file_of(value, "F32"))
        for module in SHAPES:
            terms = [(0.7, dense(a.modules[module])), (-0.4, dense(b.modules[module]))]
            assert error(found[stem(module)], terms) < 1e-6


@pytest.mark.parametrize(("dtype", "bound"), [("F16", 1e-3), ("BF16", 1e-2)])
def test_half_types_lose_only_their_own_rounding(dtype: str, bound: float) -> None:
    a, b = adapter(8, 4 / 8), adapter(12, seed=50)
    found = loaded(file_of(concat([("a", 0.7, a), ("b", -0.4, b)]), dtype))
    for module in SHAPES:
        terms = [(0.7, dense(a.modules[module])), (-0.4, dense(b.modules[module]))]
        assert error(found[stem(module)], terms) < bound


def test_keep_writes_the_dtype_of_the_spec_and_alpha_in_float32() -> None:
    tensors = file_of(adapter(dtype=torch.float16))
    assert {t.dtype for name, t in tensors.items() if not name.endswith(".alpha")} == {torch.float16}
    assert {t.dtype for name, t in tensors.items() if name.endswith(".alpha")} == {torch.float32}


def test_alpha_is_not_rounded_to_a_half_type() -> None:
    tensors = file_of(adapter(rank=7, s=301 / 7), "BF16")
    assert float(tensors[stem(LINEAR) + ".alpha"]) == 301.0


def test_tensors_come_module_by_module_and_are_made_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    folded: list[Delta] = []
    original = Delta.folded
    monkeypatch.setattr(Delta, "folded", lambda self, dtype: folded.append(self) or original(self, dtype))
    tensors = list(saved_tensors(adapter()))
    assert [t.name.removeprefix("lora_") for t in tensors[:3]] == [
        "unet_attn_to_q.alpha",
        "unet_attn_to_q.lora_down.weight",
        "unet_attn_to_q.lora_up.weight",
    ]
    assert folded == []
    tensors[1].make()
    assert len(folded) == 1


def test_underflows_are_counted() -> None:
    small = LowRank(torch.tensor([[1e-9], [1.0]]), torch.ones(1, 2))
    assert saved_module(Delta((2, 2), (Term(1.0, small),)), "F16").underflowed == 1


def big(value: float) -> Adapter:
    factors = LowRank(torch.tensor([[value], [1.0]]), torch.ones(1, 2))
    return adapter_of({LINEAR: Delta((2, 2), (Term(1.0, factors),))})


def test_an_overflow_names_the_module() -> None:
    with pytest.raises(BuildError) as caught:
        file_of(big(1e5), "F16")
    assert str(caught.value) == (
        "error: attn.to_q.weight: 1e+05 is beyond the range of F16"
        " - save with dtype: bf16, whose range is that of fp32"
    )


@pytest.mark.parametrize("dtype", ["F32", "F16"])
def test_nan_in_a_copied_factor_is_an_error(dtype: str) -> None:
    with pytest.raises(BuildError) as caught:
        file_of(big(float("nan")), dtype)
    assert str(caught.value) == "error: attn.to_q.weight: NaN or Inf in what is computed"


def test_a_modules_tensors_are_made_from_one_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    folded: list[Delta] = []
    original = Delta.folded
    monkeypatch.setattr(Delta, "folded", lambda self, dtype: folded.append(self) or original(self, dtype))
    tensors = list(saved_tensors(adapter()))[:3]
    together = made(tensors)
    assert len(folded) == 1
    assert [torch.equal(one.tensor, t.make().tensor) for one, t in zip(together, tensors, strict=True)] == [
        True
    ] * 3


def test_extras_are_written_unchanged_unless_cast() -> None:
    extras = {"e": torch.tensor([1.0, float("nan")])}
    value = adapter(extras=extras)
    assert file_of(value)["e"] is extras["e"]
    assert file_of(value, "F16")["e"].dtype == torch.float16


def test_an_extra_that_overflows_is_named() -> None:
    with pytest.raises(BuildError) as caught:
        file_of(adapter(extras={"emb": torch.tensor([1e9])}), "F16")
    assert caught.value.module == "emb"


def test_every_kernel_was_tried() -> None:
    assert {LINEAR, CONV, POINT, TEXT} == set(SHAPES)
