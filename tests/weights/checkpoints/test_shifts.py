"""What merges change, held against dense numpy sums."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
import torch

from lorapipe.build.engines.threads import ordered_map
from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.checkpoints import edits
from lorapipe.weights.checkpoints.checkpoint import Checkpoint, merge
from lorapipe.weights.checkpoints.shifts import shifts
from lorapipe.weights.inference.binding import bind
from lorapipe.weights.operators.ia3 import IA3
from lorapipe.weights.operators.operator import Operated
from lorapipe.weights.shifts import Shift, together
from lorapipe.weights.specs import AdapterSpec, Form, ModuleId, ModuleSpec, Spelling
from tests.weights.samples import (
    LINEAR,
    SHAPES,
    Memory,
    adapter,
    adapter_of,
    checkpoint_spec,
    delta,
    dense,
    to_numpy,
)

HALF = torch.float16


def model(dtype: torch.dtype = HALF) -> Checkpoint:
    generator = torch.Generator().manual_seed(5)
    held = {module.key: torch.randn(shape, generator=generator).to(dtype) for module, shape in SHAPES.items()}
    source = Memory({**held, "untouched": torch.ones(3)})
    return Checkpoint(checkpoint_spec(source), source)


def merged(base: Checkpoint, *terms: tuple[float, Adapter]) -> Checkpoint:
    return merge(base, [(weight, lora, bind(lora.spec, base.spec)) for weight, lora in terms])


def held(base: Checkpoint, key: str) -> torch.Tensor:
    assert isinstance(base.source, Memory)
    return base.source.held[key]


def test_a_change_is_the_norm_of_what_is_added_and_of_what_was_there() -> None:
    base, lora = model(), adapter(3)
    found = shifts(merged(base, (0.7, lora)))
    assert list(found) == [module.key for module in SHAPES]
    for module in SHAPES:
        wanted = 0.7 * np.linalg.norm(dense(lora.delta(module)))
        before = np.linalg.norm(to_numpy(held(base, module.key)))
        assert found[module.key].delta == pytest.approx(wanted, rel=1e-12)
        assert found[module.key].weight == pytest.approx(before, rel=1e-12)
        assert found[module.key].relative == pytest.approx(wanted / before, rel=1e-12)


def test_what_cancels_is_no_change() -> None:
    base, lora = model(), adapter(3)
    found = shifts(merged(base, (0.7, lora), (-0.7, lora)))
    assert all(shift.relative < 1e-12 for shift in found.values())


def test_merges_on_merges_are_one_change() -> None:
    base, a, b = model(), adapter(3), adapter(4, seed=80)
    found = shifts(merged(merged(base, (1.0, a)), (-0.5, b)))
    for module in SHAPES:
        wanted = np.linalg.norm(dense(a.delta(module)) - 0.5 * dense(b.delta(module)))
        assert found[module.key].delta == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("second", [(6, 12), (4, 10)], ids=["rows apart", "rows that overlap"])
def test_rows_of_a_fused_weight_add_up(second: tuple[int, int]) -> None:
    base, key = model(), LINEAR.key
    first = ModuleId("unet", key, (0, 6))
    a = adapter_of({first: delta((6, 10), (1.0, 3))})
    other = ModuleId("unet", key, second)
    b = adapter_of({other: delta((6, 10), (1.0, 2), seed=9)})

    (found,) = shifts(merged(base, (1.0, a), (2.0, b))).values()

    total = np.zeros((12, 10))
    total[:6] += dense(a.delta(first))
    total[second[0] : second[1]] += 2.0 * dense(b.delta(other))
    assert found.delta == pytest.approx(np.linalg.norm(total), rel=1e-12)
    assert found.weight == pytest.approx(np.linalg.norm(to_numpy(held(base, key))), rel=1e-12)


def test_an_operator_changes_what_it_makes_of_the_weight() -> None:
    base, form = model(), Form("IA3", additive=False)
    gain = torch.linspace(-0.5, 0.5, 12)
    spec = AdapterSpec("sd1", {LINEAR: ModuleSpec((12, 10), 0, Spelling("x"), form)}, "F32")
    lora = Adapter(spec, {LINEAR: Operated((12, 10), 1.0, lambda: IA3(gain, on_input=False))})
    (found,) = shifts(merged(base, (1.0, lora))).values()
    weight = to_numpy(held(base, LINEAR.key))
    assert found.delta == pytest.approx(np.linalg.norm(gain.double().numpy()[:, None] * weight), rel=1e-6)


def test_blocks_and_workers_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    base, lora = model(), adapter(3)
    whole = shifts(merged(base, (0.7, lora)))
    monkeypatch.setattr(edits, "BLOCK_ELEMENTS", 20)
    monkeypatch.setattr(edits, "SLAB_ELEMENTS", 40)
    parts = shifts(merged(base, (0.7, lora)), each=ordered_map(3))
    for key, shift in parts.items():
        assert shift.weight == pytest.approx(whole[key].weight, rel=1e-14)
        assert shift.delta == whole[key].delta


def test_only_what_is_edited_is_read() -> None:
    base, lora = model(), adapter(3, shapes={LINEAR: SHAPES[LINEAR]})
    shifts(merged(base, (1.0, lora)))
    assert isinstance(base.source, Memory)
    assert {name for name, _, _ in base.source.reads} == {LINEAR.key}


def test_something_in_the_place_of_nothing_is_an_infinite_change() -> None:
    assert Shift(1.0, 0.0).relative == inf
    assert Shift(0.0, 0.0).relative == 0.0
    assert together([Shift(3.0, 0.0), Shift(4.0, 10.0)]) == Shift(5.0, 10.0)
