"""Deltas within another format."""

from __future__ import annotations

import torch

from lorapipe.formats.forms.wrapped import ROLES, delta, measure_delta
from lorapipe.weights.structures.products import Hadamard
from lorapipe.weights.structures.structure import LowRank

from .kit import numbers, specs


def test_roles_are_those_of_every_format_with_factors_and_loras_have_their_spellings() -> None:
    assert {".lora_mid.weight", ".hada_t1", ".lokr_w2_b"} <= ROLES.keys()
    assert ".lora_A.weight" in ROLES[".lora_down.weight"]


def test_the_coefficient_is_alpha_over_what_the_inner_format_divides_by() -> None:
    tensors = numbers(1, lora_up__weight=(6, 4), lora_down__weight=(4, 5))
    held = {role: (lambda t=t: t) for role, t in tensors.items()}  # type: ignore[misc]
    structure, coefficient = delta(held, 2.0)
    assert isinstance(structure, LowRank)
    assert coefficient == 0.5
    assert delta(held, None)[1] == 1.0
    assert torch.equal(structure.up, tensors[".lora_up.weight"])


def test_each_tensor_is_read_once() -> None:
    tensors = numbers(1, hada_w1_a=(6, 2), hada_w1_b=(2, 5), hada_w2_a=(6, 2), hada_w2_b=(2, 5))
    reads: list[str] = []

    def read(role: str) -> torch.Tensor:
        reads.append(role)
        return tensors[role]

    structure, _ = delta({role: (lambda r=role: read(r)) for role in tensors}, None)  # type: ignore[misc]
    assert isinstance(structure, Hadamard)
    assert sorted(reads) == sorted(tensors)


def test_what_is_measured_is_the_inner_formats() -> None:
    known = measure_delta(specs(numbers(1, lora_up__weight=(6, 4), lora_down__weight=(4, 5))))
    assert (known.shape, known.rank, known.divisor) == ((6, 5), 4, 4)
