"""Random small deltas and adapters: hypothesis draws shapes and seeds, numpy the numbers."""

from __future__ import annotations

import torch
from hypothesis import settings
from hypothesis import strategies as st

from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.specs import ModuleId
from lorapipe.weights.structures.delta import Delta
from tests.weights.samples import adapter_of, delta

LAWS = settings(max_examples=40, deadline=None, derandomize=True)

MODULES = [ModuleId("unet", f"block.{i}.weight") for i in range(2)] + [ModuleId("te", "q_proj.weight")]

weights = st.one_of(
    st.sampled_from([1.0, -1.0, 0.5, -2.0]),
    st.floats(-3, 3, allow_nan=False).filter(lambda w: abs(w) > 1e-3),
)
seeds = st.integers(0, 2**31 - 1)
dtypes = st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64])
shapes = st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([(), (1, 1), (3, 3), (1, 3)])).map(
    lambda s: (s[0], s[1], *s[2])
)


@st.composite
def deltas(draw: st.DrawFn, shape: tuple[int, ...] | None = None) -> Delta:
    chosen = draw(shapes) if shape is None else shape
    terms = draw(st.lists(st.tuples(weights, st.integers(1, 6)), min_size=1, max_size=3))
    return delta(chosen, *terms, seed=draw(seeds), dtype=draw(dtypes))


@st.composite
def adapters(draw: st.DrawFn) -> Adapter:
    """Some of the same modules, always of the same shapes, so that any two can be joined."""
    present = draw(st.lists(st.sampled_from(MODULES), min_size=1, unique=True))
    fixed = {MODULES[0]: (7, 5), MODULES[1]: (4, 3, 3, 3), MODULES[2]: (6, 8, 1, 1)}
    return adapter_of({module: draw(deltas(fixed[module])) for module in present})
