"""Modules of formats of their own: as they came, cut, and put together where that is exact."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch

from lorapipe.errors import BuildError
from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.filing.rewritten import rewritten
from lorapipe.weights.inference.cuts import ANYWHERE
from lorapipe.weights.inference.filed import FileModule, Part, below, cut_form
from lorapipe.weights.operators.dora import DoRA
from lorapipe.weights.operators.operator import Operated
from lorapipe.weights.specs import AdapterSpec, Form, ModuleId, ModuleSpec, Spelling, TensorSpec
from lorapipe.weights.structures.delta import Delta, Term
from lorapipe.weights.structures.products import Hadamard
from lorapipe.weights.structures.structure import Dense, LowRank, Written
from tests.weights.samples import factors, to_numpy

A, B = ModuleId("dit", "w", (0, 4)), ModuleId("dit", "w", (4, 8))
WHOLE = ModuleId("dit", "w")


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float16) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).to(dtype)


def spec_of(tensors: Mapping[str, torch.Tensor]) -> tuple[tuple[str, TensorSpec], ...]:
    names = {torch.float16: "F16", torch.float32: "F32"}
    return tuple((role, TensorSpec(names[t.dtype], tuple(t.shape))) for role, t in tensors.items())


def adapter(values: Mapping[ModuleId, tuple[Delta | Operated, Form]]) -> Adapter:
    specs = {
        module: ModuleSpec(value.shape, value.rank if isinstance(value, Delta) else 0, Spelling("m"), form)
        for module, (value, form) in values.items()
    }
    return Adapter(AdapterSpec(None, specs, "F16"), {m: value for m, (value, _) in values.items()})


def loha(height: int, seed: int, shared: int = 100) -> tuple[Delta, Form]:
    """A LoHa whose ``b`` factors are drawn from ``shared``."""
    one = LowRank(random(height, 2, seed=seed), random(2, 6, seed=shared))
    two = LowRank(random(height, 3, seed=seed + 1), random(3, 6, seed=shared + 1))
    tensors = {".hada_w1_a": one.up, ".hada_w1_b": one.down, ".hada_w2_a": two.up, ".hada_w2_b": two.down}
    form = Form("LoHa", (*spec_of(tensors), (".alpha", TensorSpec("F32", ()))))
    return Delta((height, 6), (Term(0.5, Hadamard(one, two)),)), form


def full(*shape: int, seed: int = 0, role: str = ".diff") -> tuple[Delta, Form]:
    values = random(*shape, seed=seed)
    form = Form("full difference", spec_of({role: values}))
    return Delta(shape, (Term(1.0, Dense(values.reshape(shape[0], -1))),)), form


def dora(height: int, seed: int, down: torch.Tensor, strength: float = 1.0) -> tuple[Operated, Form]:
    up, magnitude = random(height, 2, seed=seed), random(height, 1, seed=seed + 1)
    operator = DoRA(LowRank(up, down), 0.5, magnitude.flatten())
    tensors = {".lora_up.weight": up, ".lora_down.weight": down, ".dora_scale": magnitude}
    form = Form("DoRA", (*spec_of(tensors), (".alpha", TensorSpec("F32", ()))), additive=False, cuts=ANYWHERE)
    return Operated((height, 6), strength, lambda: operator), form


def module(form: Form | None, *parts: Part, columns: int = 6) -> FileModule:
    return FileModule("m", parts, (sum(p.height for p in parts), columns), 4, form=form)


def same(found: Written, wanted: Mapping[str, torch.Tensor]) -> bool:
    assert found.tensors.keys() == wanted.keys()
    return all(torch.equal(found.tensors[role], tensor) for role, tensor in wanted.items())


def test_a_whole_module_has_the_tensors_that_it_came_with() -> None:
    value, form = loha(4, 1)
    found = rewritten(module(form, Part(A, 0, 4)), adapter({A: (value, form)}))
    assert same(found, value.terms[0].structure.load().written(0.5).tensors)
    assert found.alpha == 0.5 * 2


def test_rows_of_a_loha_are_rows_of_two_of_its_tensors() -> None:
    value, form = loha(8, 1)
    before = value.terms[0].structure.load().written(0.5).tensors
    found = rewritten(module(cut_form(form, 2, 6, 8), Part(WHOLE, 2, 6)), adapter({WHOLE: (value, form)}))
    assert same(
        found, {role: tensor[2:6] if role.endswith("_a") else tensor for role, tensor in before.items()}
    )


def test_lohas_that_share_what_serves_all_rows_are_one_loha() -> None:
    (top, form), (bottom, _) = loha(4, 1), loha(4, 7)
    held = adapter({A: (top, form), B: (bottom, form)})
    found = rewritten(module(below([form, form], 8), Part(A, 0, 4), Part(B, 0, 4)), held)
    one, two = (value.terms[0].structure.load().written(0.5).tensors for value in (top, bottom))
    assert torch.equal(found.tensors[".hada_w1_a"], torch.cat([one[".hada_w1_a"], two[".hada_w1_a"]]))
    assert torch.equal(found.tensors[".hada_w2_b"], one[".hada_w2_b"])
    assert found.alpha == 1.0


def test_rows_that_no_module_has_are_zeros_of_a_loha() -> None:
    value, form = loha(4, 1)
    found = rewritten(module(below([form], 6), Part(A, 0, 4), Part(None, 0, 2)), adapter({A: (value, form)}))
    assert found.tensors[".hada_w1_a"].shape == (6, 2)
    assert not found.tensors[".hada_w1_a"][4:].any()


@pytest.mark.parametrize(("shared", "coefficient", "odd"), [(50, 0.5, ".hada_w1_b"), (100, 0.25, ".alpha")])
def test_lohas_of_their_own_cannot_be_one(shared: int, coefficient: float, odd: str) -> None:
    (top, form), (bottom, _) = loha(4, 1), loha(4, 7, shared)
    other = Delta(bottom.shape, (Term(coefficient, bottom.terms[0].structure),))
    held = adapter({A: (top, form), B: (other, form)})
    with pytest.raises(BuildError) as caught:
        rewritten(module(below([form, form], 8), Part(A, 0, 4), Part(B, 0, 4)), held)
    assert str(caught.value) == (
        f"error: the parts of the weight are LoHa modules of their own: their '{odd}' differs"
        " - svd-resize makes them a plain LoRA, which can be joined"
    )


def test_full_differences_are_cut_joined_and_filled_with_zeros() -> None:
    (top, form), (bottom, other) = full(4, 6, seed=1), full(4, 6, seed=2)
    held = adapter({A: (top, form), B: (bottom, other)})
    parts = (Part(B, 1, 3), Part(None, 0, 1), Part(A, 0, 4))
    found = rewritten(module(Form("full difference", ((".diff", TensorSpec("F16", (7, 6))),)), *parts), held)
    matrices = [value.terms[0].structure.load().dense(torch.float16) for value in (top, bottom)]
    assert torch.equal(
        found.tensors[".diff"], torch.cat([matrices[1][1:3], torch.zeros(1, 6).half(), matrices[0]])
    )


def test_a_difference_keeps_its_own_name_and_its_bits() -> None:
    value, form = full(4, seed=1, role=".w_norm")
    found = rewritten(module(form, Part(A, 0, 4), columns=1), adapter({A: (value, form)}))
    assert found.tensors[".w_norm"].dtype == torch.float16
    assert torch.equal(found.tensors[".w_norm"], value.terms[0].structure.load().matrix.flatten())


def test_a_sum_of_formats_is_written_dense_in_float64() -> None:
    """What ``dense: true`` asks for: a LoHa and a LoRA as one difference."""
    value, _ = loha(4, 1)
    plain = factors((4, 6), 2, seed=3)
    both = value.joined(Delta((4, 6), (Term(-0.7, plain),)))
    form = Form("full difference", ((".diff", TensorSpec("F32", (4, 6))),))
    found = rewritten(module(form, Part(A, 0, 4)), adapter({A: (both, Form("a sum"))}))
    one = value.terms[0].structure.load().written(0.5).tensors
    wanted = (to_numpy(one[".hada_w1_a"]) @ to_numpy(one[".hada_w1_b"])) * (
        to_numpy(one[".hada_w2_a"]) @ to_numpy(one[".hada_w2_b"])
    ) * 0.5 - 0.7 * to_numpy(plain.up) @ to_numpy(plain.down)
    assert found.tensors[".diff"].dtype == torch.float64
    np.testing.assert_allclose(found.tensors[".diff"].numpy(), wanted, rtol=1e-12)


def test_a_plain_part_beside_a_difference_is_written_dense() -> None:
    (value, form), plain = full(4, 6), factors((4, 6), 2, seed=3)
    low = Delta((4, 6), (Term(1.0, plain),))
    specs = {A: ModuleSpec((4, 6), 4, Spelling("m"), form), B: ModuleSpec((4, 6), 2, Spelling("n"))}
    held = Adapter(AdapterSpec(None, specs, "F16"), {A: value, B: low})
    target = Form("full difference", ((".diff", TensorSpec("F32", (8, 6))),))
    found = rewritten(module(target, Part(A, 0, 4), Part(B, 0, 4)), held)
    np.testing.assert_allclose(
        found.tensors[".diff"][4:].numpy(), to_numpy(plain.up) @ to_numpy(plain.down), rtol=1e-12
    )


def test_doras_of_one_down_are_one_dora() -> None:
    down = random(2, 6, seed=9)
    (top, form), (bottom, _) = dora(4, 1, down), dora(4, 5, down)
    held = adapter({A: (top, form), B: (bottom, form)})
    found = rewritten(module(below([form, form], 8), Part(A, 0, 4), Part(B, 0, 4)), held)
    one, two = (value.read().written() for value in (top, bottom))
    assert torch.equal(
        found.tensors[".lora_up.weight"], torch.cat([one[".lora_up.weight"], two[".lora_up.weight"]])
    )
    assert found.tensors[".dora_scale"].shape == (8, 1)
    assert torch.equal(
        found.tensors[".dora_scale"].flatten(), torch.cat([one[".dora_scale"], two[".dora_scale"]])
    )
    assert found.alpha == 1.0


def test_rows_of_a_dora_are_a_dora() -> None:
    value, form = dora(8, 1, random(2, 6, seed=9))
    found = rewritten(module(cut_form(form, 4, 8, 8), Part(WHOLE, 4, 8)), adapter({WHOLE: (value, form)}))
    before = value.read().written()
    assert torch.equal(found.tensors[".lora_up.weight"], before[".lora_up.weight"][4:])
    assert torch.equal(found.tensors[".dora_scale"].flatten(), before[".dora_scale"].flatten()[4:])


def test_an_operator_at_another_strength_has_no_file() -> None:
    value, form = dora(4, 1, random(2, 6, seed=9), strength=0.5)
    with pytest.raises(BuildError) as caught:
        rewritten(module(form, Part(A, 0, 4)), adapter({A: (value, form)}))
    assert caught.value.code == "strength-not-kept"
