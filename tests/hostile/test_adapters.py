"""Sound containers of unsound LoRAs: each is refused by name, at once, without memory.

A row is the tensors of a file (dtype, shape, numbers) beside a sound module, and the code of the
error that reading them must raise. The same rows go through both containers.
"""

from __future__ import annotations

import io
import struct
import tracemalloc
from collections.abc import Mapping
from pathlib import Path

import pytest

from lorapipe.errors import InputError
from lorapipe.formats.adapters.read import read_adapter, read_adapter_spec
from lorapipe.formats.files import open_tensors, writer_for
from lorapipe.weights.specs import TensorSpec

STEM = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
OTHER = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
NAN, INF = float("nan"), float("inf")

Rows = Mapping[str, tuple[str, tuple[int, ...], float]]
"""Name -> dtype, shape, and the number that every element is."""


def module(
    stem: str, up: tuple[int, ...] = (320, 2), down: tuple[int, ...] = (2, 768), alpha: float | None = 1.0
) -> dict[str, tuple[str, tuple[int, ...], float]]:
    made = {f"{stem}.lora_up.weight": ("F16", up, 1.0), f"{stem}.lora_down.weight": ("F16", down, 1.0)}
    return made if alpha is None else {**made, f"{stem}.alpha": ("F32", (), alpha)}


def content(name: str, rows: Rows, metadata: Mapping[str, str] = {}) -> bytes:
    layouts = {"F16": "e", "F32": "f", "F64": "d", "I64": "q", "BOOL": "?"}
    specs = {key: TensorSpec(dtype, shape) for key, (dtype, shape, _) in rows.items()}

    def repeated(key: str) -> bytes:
        dtype, _, number = rows[key]
        return (
            struct.pack(layouts[dtype], int(number) if dtype in ("I64", "BOOL") else number) * specs[key].size
        )

    data = ((key, [repeated(key)]) for key in rows)
    stream = io.BytesIO()
    writer_for(Path(name)).write(stream, specs, data, metadata)
    return stream.getvalue()


SEEN_IN_NAMES: dict[str, tuple[Rows, str]] = {
    "up without down": ({f"{OTHER}.lora_up.weight": ("F16", (320, 2), 1.0)}, "up-without-down"),
    "down without up": ({f"{OTHER}.lora_down.weight": ("F16", (2, 320), 1.0)}, "down-without-up"),
    "alpha alone": ({f"{OTHER}.alpha": ("F32", (), 1.0)}, "alpha-without-factors"),
    "ranks that disagree": (module(OTHER, (320, 3), (2, 320)), "ranks-disagree"),
    "ranks that disagree with kernels": (module(OTHER, (320, 3, 1, 1), (2, 320, 3, 3)), "ranks-disagree"),
    "up of one axis": (module(OTHER, (320,), (2, 320)), "bad-factor-shape"),
    "up of no axis": (module(OTHER, (), (2, 320)), "bad-factor-shape"),
    "down of one axis": (module(OTHER, (320, 2), (2,)), "bad-factor-shape"),
    "up with a kernel": (module(OTHER, (320, 2, 3, 3), (2, 320, 3, 3)), "bad-factor-shape"),
    "rank 0": (module(OTHER, (320, 0), (0, 320)), "bad-factor-shape"),
    "no rows": (module(OTHER, (0, 2), (2, 320)), "bad-factor-shape"),
    "no columns": (module(OTHER, (320, 2), (2, 0)), "bad-factor-shape"),
    "alpha of two numbers": ({f"{STEM}.alpha": ("F32", (2,), 1.0)}, "alpha-not-scalar"),
    "alpha of no number": ({f"{STEM}.alpha": ("F32", (0,), 1.0)}, "alpha-not-scalar"),
    "whole numbers": ({f"{STEM}.lora_up.weight": ("I64", (320, 2), 1.0)}, "factors-not-floating"),
    "truth values": ({f"{STEM}.lora_down.weight": ("BOOL", (2, 768), 1.0)}, "factors-not-floating"),
    "VeRA": ({f"{STEM}.vera_lambda_d": ("F16", (2,), 1.0)}, "unsupported-kind"),
    "HiRA": ({"base_model.model.x.hira_A.weight": ("F16", (2, 2), 1.0)}, "unsupported-kind"),
    "RoAd": ({"base_model.model.x.road_theta": ("F16", (2,), 1.0)}, "unsupported-kind"),
    "HRA": ({"base_model.model.x.hra_u": ("F16", (2, 2), 1.0)}, "unsupported-kind"),
    "C3A": ({"base_model.model.x.c3a_kernel": ("F16", (2, 2, 2), 1.0)}, "unsupported-kind"),
    "MiSS": ({"base_model.model.x.miss_block": ("F16", (2, 2), 1.0)}, "unsupported-kind"),
    "AdaLoRA": ({f"{STEM}.lora_E": ("F16", (2, 1), 1.0)}, "unsupported-kind"),
    "Nunchaku's": ({f"{OTHER}.lora_up": ("F16", (320, 2), 1.0)}, "unsupported-kind"),
    "a quantised factor": ({f"{STEM}.lora_up.weight.absmax": ("F16", (2,), 1.0)}, "unsupported-kind"),
    "PEFT's half": ({"unet.x.lora_A.weight": ("F16", (2, 2), 1.0)}, "down-without-up"),
    "up in two spellings": ({f"{STEM}.lora_B.weight": ("F16", (320, 2), 1.0)}, "module-twice"),
    "up of two adapters": (
        {f"{STEM}.lora_B.{name}.weight": ("F16", (320, 2), 1.0) for name in ("one", "two")}, "module-twice",
    ),
    "a tensor of nothing": ({"weight": ("F16", (2,), 1.0)}, "unknown-tensors"),
    "a suffix without a stem": ({".lora_up.weight": ("F16", (2, 2), 1.0)}, "unknown-tensors"),
    "a name of 100,000 letters": ({"x" * 100_000: ("F16", (2,), 1.0)}, "unknown-tensors"),
    "a module of no model": (module(f"{OTHER}x", (320, 2), (2, 320)), "unknown-modules"),
    "a module of 10,000 letters": (module("lora_unet_" + "x_" * 5000, (320, 2), (2, 320)), "unknown-modules"),
}  # fmt: skip

SEEN_IN_NUMBERS: dict[str, tuple[Rows, str]] = {
    "alpha 0": (module(STEM, alpha=0.0), "bad-alpha"),
    "alpha NaN": (module(STEM, alpha=NAN), "bad-alpha"),
    "alpha Inf": (module(STEM, alpha=INF), "bad-alpha"),
    "alpha of the whole number 0": ({f"{STEM}.alpha": ("I64", (), 0.0)}, "bad-alpha"),
    "alpha that is false": ({f"{STEM}.alpha": ("BOOL", (), 0.0)}, "bad-alpha"),
    "NaN in up": ({f"{STEM}.lora_up.weight": ("F16", (320, 2), NAN)}, "not-finite"),
    "Inf in down": ({f"{STEM}.lora_down.weight": ("F64", (2, 768), INF)}, "not-finite"),
}  # fmt: skip

NAMES = pytest.mark.parametrize("name", ["x.safetensors", "x.ckpt"])


@NAMES
@pytest.mark.parametrize(("rows", "code"), SEEN_IN_NAMES.values(), ids=SEEN_IN_NAMES.keys())
def test_an_unsound_lora_is_refused_by_its_header(tmp_path: Path, name: str, rows: Rows, code: str) -> None:
    path = tmp_path / name
    path.write_bytes(content(name, {**module(STEM), **rows}))
    tracemalloc.start()
    try:
        with open_tensors(path) as source, pytest.raises(InputError) as caught:
            read_adapter_spec(source, "sd1")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (caught.value.code, caught.value.exit_status, caught.value.where) == (code, 4, str(path))
    assert caught.value.hint is not None
    assert len(str(caught.value)) < 1000
    assert peak < 64 << 20


@NAMES
@pytest.mark.parametrize(("rows", "code"), SEEN_IN_NUMBERS.values(), ids=SEEN_IN_NUMBERS.keys())
def test_a_lora_with_impossible_numbers_is_refused_when_read(
    tmp_path: Path, name: str, rows: Rows, code: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content(name, {**module(STEM), **rows}))
    with open_tensors(path) as source:
        spec = read_adapter_spec(source)
        with pytest.raises(InputError) as caught:
            read_adapter(source, spec)
    assert (caught.value.code, caught.value.exit_status, caught.value.where) == (code, 4, str(path))


@NAMES
def test_the_module_beside_which_they_stand_is_sound(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(content(name, module(STEM)))
    with open_tensors(path) as source:
        adapter = read_adapter(source)
    (delta,) = adapter.modules.values()
    assert delta.terms[0].coefficient == 0.5


def test_a_lora_of_5000_modules_is_no_work(tmp_path: Path) -> None:
    rows = {k: v for i in range(5_000) for k, v in module(f"lora_unet_x_{i}", (1, 1), (1, 1), None).items()}
    path = tmp_path / "x.safetensors"
    path.write_bytes(content("x.safetensors", {**module(STEM), **rows}))
    with open_tensors(path) as source, pytest.raises(InputError, match="5000 modules that SD1") as caught:
        read_adapter_spec(source, "sd1")
    assert len(str(caught.value)) < 1000
