"""Numbered modules: bound by position, checked by shape, saved under names."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
import torch
from torch import Tensor

from lorapipe.errors import InputError, ManyErrors, RecipeError
from lorapipe.formats.adapters.read import detect, read_adapter, read_adapter_spec
from lorapipe.formats.files import open_tensors
from lorapipe.weights.specs import TensorSpec

from ..sources import MemorySource, seeded

OUT = "cond_stage_model.transformer.text_model.encoder.layers.0.self_attn.out_proj.weight"
CLASSES = {"text_encoder": '["CLIPAttention"]'}


def text_encoder(count: int = 48, width: int = 768) -> dict[str, Tensor]:
    values: dict[str, Tensor] = {}
    for i in range(count):
        values[f"text_encoder:{i}:up"] = seeded(width, 2, seed=2 * i)
        values[f"text_encoder:{i}:down"] = seeded(2, width, seed=2 * i + 1)
    return values


def source(changed: Mapping[str, Tensor | None] = MappingProxyType({}), **metadata: str) -> MemorySource:
    values = {k: v for k, v in {**text_encoder(), **changed}.items() if v is not None}
    return MemorySource(values, CLASSES | metadata)


def test_numbers_become_the_names_of_the_usual_trainer() -> None:
    spec = read_adapter_spec(source())
    stems = [known.spelling.stem for known in spec.modules.values()]
    # transformers defines CLIPAttention's layers in the order k, v, q, out.
    first = [f"lora_te_text_model_encoder_layers_0_self_attn_{x}_proj" for x in ("k", "v", "q", "out")]
    assert stems[:4] == first
    assert stems[4:8] == [stem.replace("layers_0", "layers_1") for stem in first]
    assert len(stems) == 48
    assert spec.family == "sd1"
    assert detect(source()) == "lora"


def test_the_order_of_the_file_does_not_matter_but_the_numbers_do() -> None:
    backwards = MemorySource(dict(reversed(text_encoder().items())), CLASSES)
    assert read_adapter_spec(backwards).modules == read_adapter_spec(source()).modules
    adapter, values = read_adapter(backwards), text_encoder()
    for i, delta in enumerate(adapter.modules.values()):
        expected = values[f"text_encoder:{i}:up"].double() @ values[f"text_encoder:{i}:down"].double()
        assert delta.terms[0].coefficient == 1.0
        assert torch.equal(delta.dense(torch.float64), expected)


@pytest.mark.parametrize("shape", [(768,), (2, 768)])
def test_embeddings_are_kept_under_the_name_that_loaders_look_for(shape: tuple[int, ...]) -> None:
    embedding = seeded(*shape, seed=99)
    adapter = read_adapter(source({"<s1>": embedding}, **{"<s1>": "<embed>"}))
    name = "bundle_emb.<s1>.string_to_param.*"
    assert dict(adapter.spec.extras) == {name: TensorSpec("F32", (embedding.numel() // 768, 768))}
    assert torch.equal(adapter.extras[name], embedding.reshape(-1, 768))


def test_metadata_about_the_numbering_goes_and_the_rest_stays() -> None:
    spec = read_adapter_spec(
        source({"<s>": torch.ones(768)}, **{"text_encoder:0:rank": "2", "<s>": "<embed>", "author": "x"})
    )
    assert dict(spec.metadata) == {"author": "x"}


FAULTS: dict[str, tuple[MemorySource, str, str]] = {
    "one too few": (
        source({"text_encoder:47:up": None, "text_encoder:47:down": None}), "position-count",
        "it has 47 modules of 'text_encoder' up to number 46, SD1.x has 48",
    ),
    "one left out": (
        source({"text_encoder:5:up": None, "text_encoder:5:down": None}), "position-count",
        "it has 47 modules of 'text_encoder' up to number 47, SD1.x has 48",
    ),
    "one too many": (
        source({"text_encoder:48:up": torch.ones(768, 2), "text_encoder:48:down": torch.ones(2, 768)}),
        "position-count", "it has 49 modules of 'text_encoder' up to number 48, SD1.x has 48",
    ),
    "a number of six digits": (
        source({"text_encoder:999999:up": torch.ones(768, 2)}), "position-count", "up to number 999999",
    ),
    "no down": (source({"text_encoder:3:down": None}), "up-without-down", "1 module with an up but no down"),
    "no up": (source({"text_encoder:3:up": None}), "down-without-up", "1 module with a down but no up"),
    "another width": (
        source({"text_encoder:3:up": torch.ones(1024, 2)}), "position-misfit",
        f"text_encoder:3 is [1024, 768], {OUT} is [768, 768] - the LoRA was made for another model",
    ),
    "ranks": (source({"text_encoder:3:up": torch.ones(768, 3)}), "ranks-disagree", "different ranks"),
    "a stranger": (source({"x": torch.ones(1)}), "unknown-tensors", "1 tensor of no LoRA module: x"),
    "an embedding that is not marked": (source({"<s1>": torch.ones(768)}), "unknown-tensors", "<s1>"),
    "an embedding that is a number": (
        source({"<s1>": torch.tensor(1.0)}, **{"<s1>": "<embed>"}), "unknown-tensors", "<s1>",
    ),
    "no classes": (MemorySource(text_encoder()), "no-module-classes", "does not say by which classes"),
    "classes that are no JSON": (source(text_encoder="CLIPAttention"), "no-module-classes", "which classes"),
    "classes nested deeply": (source(text_encoder="[" * 100_000), "no-module-classes", "which classes"),
    "classes that are numbers": (source(text_encoder="[1]"), "no-module-classes", "which classes"),
}  # fmt: skip


@pytest.mark.parametrize(("bad", "code", "text"), FAULTS.values(), ids=FAULTS.keys())
def test_numbers_that_do_not_fit_the_model_are_refused(bad: MemorySource, code: str, text: str) -> None:
    with pytest.raises(InputError) as caught:
        read_adapter_spec(bad)
    assert caught.value.code == code
    assert text in str(caught.value)


def test_a_model_of_another_width_is_told_once_for_all_modules() -> None:
    with pytest.raises(InputError, match="48 modules whose shape is not that of the module") as caught:
        read_adapter_spec(MemorySource(text_encoder(width=1024), CLASSES))
    assert "and 45 more" in str(caught.value)


def test_classes_that_the_model_does_not_have_are_refused() -> None:
    with pytest.raises(RecipeError) as caught:
        read_adapter_spec(source(text_encoder='["LlamaAttention"]'))
    assert caught.value.code == "unknown-module-class"


def test_another_family_than_sd1_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"it is not for SDXL: its numbered modules are those of SD1\.x"):
        read_adapter_spec(source(), "sdxl")
    assert read_adapter_spec(source(), "sd15").family == "sd1"


def test_faults_of_both_models_are_told_together() -> None:
    bad = source({"text_encoder:3:up": None, "x": torch.ones(1)})
    with pytest.raises(ManyErrors) as caught:
        read_adapter_spec(bad)
    assert {error.code for error in caught.value.errors} == {"down-without-up", "unknown-tensors"}


# ---- the real files ----------------------------------------------------------------------------------

REAL = [("analog_svd_rank4", "F16", 4, 0), ("lora_disney", "F32", 1, 2)]


@pytest.mark.parametrize(("name", "dtype", "rank", "embeddings"), REAL)
def test_the_real_files_bind_whole(
    shared: Callable[[str], Path], name: str, dtype: str, rank: int, embeddings: int
) -> None:
    with open_tensors(shared(f"real/{name}.safetensors")) as file:
        adapter = read_adapter(file)
        assert adapter.spec.family == "sd1"
        assert adapter.spec.dtype == dtype
        assert len(adapter.spec.modules) == 192
        assert {known.rank for known in adapter.spec.modules.values()} == {rank}
        assert [tuple(e.shape) for e in adapter.spec.extras.values()] == [(1, 768)] * embeddings
        stems = [known.spelling.stem for known in adapter.spec.modules.values()]
        assert len(set(stems)) == 192
        read = {n: torch.frombuffer(file.read(n), dtype=torch.float16 if dtype == "F16" else torch.float32)
                for n in ("unet:4:up", "unet:4:down")}  # fmt: skip
        # The fifth of a transformer block of 9: attn1's q, k, v, out, then the GEGLU.
        stem = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_ff_net_0_proj"
        (delta,) = [
            adapter.modules[m] for m, known in adapter.spec.modules.items() if known.spelling.stem == stem
        ]
        up = read["unet:4:up"].reshape(2560, rank).double()
        down = read["unet:4:down"].reshape(rank, 320).double()
        assert torch.equal(delta.dense(torch.float64), up @ down)


@pytest.mark.parametrize("name", [name for name, *_ in REAL])
def test_every_real_module_has_the_shape_of_its_key(shared: Callable[[str], Path], name: str) -> None:
    layout = json.loads(shared("layouts/sd15.json").read_text())["tensors"]
    names = json.loads(shared("layouts/sd15.lora-map.json").read_text())["modules"]
    with open_tensors(shared(f"real/{name}.safetensors")) as file:
        spec = read_adapter_spec(file)
    for module, known in spec.modules.items():
        assert tuple(layout[module.key][0][:2]) == known.shape
        assert names[known.spelling.stem][0] == module.key
