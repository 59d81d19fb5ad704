"""What is multiplied, watched."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many numbers each product of two matrices has, as it is made."""
    sizes: list[int] = []
    multiply = torch.Tensor.__matmul__

    def watched(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        made = multiply(a, b)
        sizes.append(made.numel())
        return made

    monkeypatch.setattr(torch.Tensor, "__matmul__", watched)
    return sizes
