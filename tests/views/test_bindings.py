"""Where a merge puts each module, for people and programs alike."""

from __future__ import annotations

from lorapipe.views.bindings import BoundRow, bound_rows, is_merge

from ..bench import KEYS, SHAPES, TE, TO_Q, Bench
from .screens import planned

STEPS = """
    base: {load: base.safetensors}
    a: {load: a.safetensors}
    b: {load: b.safetensors}
    model: {merge-into-checkpoint: base, loras: {a: 1.0, b: 0.0}, unmatched: ignore}
    out: {save: model, to: o.safetensors}
"""


def test_each_module_of_each_lora_has_a_row_and_those_without_a_place_a_reason(bench: Bench) -> None:
    lost = TE.replace("layers_0", "layers_1")
    bench.checkpoint()
    bench.lora("a", modules={lost: SHAPES[TE], TO_Q: SHAPES[TO_Q]})
    bench.lora("b", modules={TO_Q: (20, 24)}, seed=1)
    made, _ = planned(bench, STEPS)

    assert list(bound_rows(made, made.steps["model"])) == [
        BoundRow("a", TO_Q, KEYS[TO_Q]),
        BoundRow("a", lost, None, reason="the checkpoint has no such weight"),
        BoundRow("b", TO_Q, None, reason="a delta [20, 24] does not fit the checkpoint's weight [20, 20]"),
    ]


def test_only_merges_have_bindings(bench: Bench) -> None:
    bench.checkpoint()
    bench.lora("a")
    bench.lora("b", seed=1)
    made, _ = planned(bench, STEPS)

    assert [name for name, step in made.steps.items() if is_merge(step)] == ["model"]
