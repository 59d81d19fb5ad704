"""``save``: what will be in the file, and what is."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lorapipe.errors import BuildError, RecipeError
from lorapipe.recipe.model import JSON
from lorapipe.steps import find_kind
from lorapipe.steps.kind import Context, Materialise
from lorapipe.store.contents import listing_digest
from lorapipe.weights.specs import FLOATING, CheckpointSpec, FolderSpec, Place, Spec, TensorSpec

from ..bench import KEYS, SHAPES, TO_Q, Bench
from .kit import FILE, given, infer, load, lora, model, options, work, written

KIND = find_kind("save")
TO = {"to": Path("o.safetensors")}


def test_it_writes_a_file_whose_name_is_not_in_its_key() -> None:
    assert KIND.materialise is Materialise.OUTPUT
    assert KIND.keyless == {"to"}
    assert options("save") == {"dtype": "keep", "provenance": "full", "layout": "keep", "dense": False}


@pytest.mark.parametrize(
    ("dtype", "written_as"), [("keep", "F16"), ("fp32", "F32"), ("fp16", "F16"), ("bf16", "BF16")]
)
def test_a_loras_tensors_are_foretold_with_alpha_in_fp32_whatever_the_dtype(
    dtype: str, written_as: str
) -> None:
    spec = infer("save", given(TO, save=lora(4, dtype="F16")), dtype=dtype)
    assert len(spec.tensors) == 12
    for name, tensor in spec.tensors.items():
        assert tensor.dtype == ("F32" if name.endswith(".alpha") else written_as)
        assert (tensor.shape == ()) == name.endswith(".alpha")


def test_a_checkpoints_tensors_stand_in_its_own_order_and_only_floating_ones_are_cast() -> None:
    spec = infer("save", given(TO, save=model(dtype="F16")), dtype="bf16")
    assert list(spec.tensors) == list(model().tensors)
    assert {tensor.dtype for tensor in spec.tensors.values()} <= FLOATING
    assert {tensor.dtype for tensor in spec.tensors.values()} == {"BF16"}
    assert infer("save", given(TO, save=model())).tensors == model().tensors


def test_the_cost_is_the_bytes_written_and_nothing_is_held_but_some_modules_or_slabs() -> None:
    large = CheckpointSpec("sd1", {"w": TensorSpec("F16", (10**6, 10**4))}, {"w": (Place("w"),)})
    largest = max(t.size for t in model().tensors.values())
    slab, block = 2**23, 2**19
    factors = 4 * 8 * 4 * (20 + 12 * 9)  # of the conv, the largest: float64 and copies
    whole, slabs = largest * (2 + 2 + 32), slab * (2 + 2) + block * 32
    for spec, each in ((lora(4), factors), (model(), whole), (large, slabs)):
        inputs = given(TO, save=spec)
        out = infer("save", inputs)
        cost = KIND.cost(inputs, options("save"), out)
        assert (cost.read, cost.written, cost.each, cost.kept) == (0, out.nbytes, each, 0)


def test_what_an_operator_sees_whole_is_held_whole() -> None:
    spec = replace(model(), held=10**8)
    inputs = given(TO, save=spec)
    assert KIND.cost(inputs, options("save"), infer("save", inputs)).each > 16 * 10**8


def test_a_file_is_not_saved_again() -> None:
    with pytest.raises(RecipeError, match="takes a LoRA or a checkpoint"):
        infer("save", given(TO, save=FILE))


def test_an_ending_that_says_no_format_is_refused() -> None:
    with pytest.raises(RecipeError) as caught:
        infer("save", given({"to": Path("o.gguf")}, save=lora()))
    assert (caught.value.code, caught.value.option) == ("unknown-suffix", "to")


def test_metadata_that_the_format_cannot_hold_is_refused() -> None:
    with pytest.raises(RecipeError) as caught:
        infer("save", given({"to": Path("o.ckpt")}, save=lora()), metadata={"a": "b"})
    assert (caught.value.code, caught.value.option) == ("metadata-not-kept", "metadata")


def test_the_file_is_as_foretold_and_its_digest_and_size_are_told(bench: Bench) -> None:
    stream = io.BytesIO()
    made = work("save", given(TO, save=load(bench.lora("a"))), Context(output=stream), dtype="bf16")
    data = stream.getvalue()
    assert (made.sha256, made.size) == (hashlib.sha256(data).hexdigest(), len(data))


def test_metadata_of_the_recipe_and_provenance_are_written(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "o.safetensors"
    with path.open("wb") as stream:
        context = Context(output=stream, provenance={"lorapipe.provenance": "{}"})
        work("save", given(TO, save=load(bench.lora("a"))), context, metadata={"ss_note": "mine"})
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert metadata["ss_note"] == "mine"
    assert metadata["lorapipe.provenance"] == "{}"
    assert metadata["ss_network_dim"] == "4"


def test_kept_as_it_is_a_lora_has_the_tensors_that_it_had(bench: Bench) -> None:
    path = bench.lora("a", dtype="float16")
    before, after = load_file(path), written(load(path))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_values_that_became_zero_are_counted(bench: Bench) -> None:
    told: dict[str, object] = {}
    tiny = work("scale", given(scale=load(bench.lora("a", modules={TO_Q: SHAPES[TO_Q]}))), by=1e-20)
    other = load(bench.lora("b", modules={TO_Q: SHAPES[TO_Q]}, seed=1))
    both = work("concat", given(concat=[("a", 1e-20, tiny), ("b", 1.0, other)]))
    work("save", given(TO, save=both), Context(output=io.BytesIO(), note=told.__setitem__), dtype="fp16")
    assert told["underflow"] == 2 * 20 * 4


def test_what_is_written_is_told_as_it_is_written(bench: Bench) -> None:
    told: list[int] = []
    stream = io.BytesIO()
    work("save", given(TO, save=load(bench.checkpoint())), Context(output=stream, wrote=told.append))
    assert sum(told) > 0
    assert KEYS[TO_Q].encode() in stream.getvalue()


# --- folders --------------------------------------------------------------------------

OUT = {"to": Path("out")}


def pipeline() -> CheckpointSpec:
    """A checkpoint of two components, as it came in a folder with a config and an archive."""
    tensors = {"text_encoder/a": TensorSpec("F32", (10,)), "unet/a": TensorSpec("F16", (100,))}
    stems = {"text_encoder": "model", "unet": "diffusion_pytorch_model"}
    folder = FolderSpec(Path("base"), stems, {"model_index.json": 7}, ("images.zip",))
    return CheckpointSpec(None, tensors, {}, folder=folder)


def test_a_folder_is_foretold_with_its_files_and_their_bytes() -> None:
    spec = infer("save", given(OUT, save=pipeline()), to="out/")
    assert spec.files == {
        "text_encoder/model.safetensors": ("text_encoder/a",),
        "unet/diffusion_pytorch_model.safetensors": ("unet/a",),
    }
    assert spec.others == {"model_index.json": 7}
    assert spec.nbytes == 40 + 200 + 7
    assert KIND.cost(given(OUT, save=pipeline()), options("save", to="out/"), spec).written == spec.nbytes


def test_the_size_of_shards_decides_how_many_there_are() -> None:
    base = model(dtype="F16")  # tensors of 800, 800, 4320, 768 and 80 bytes
    counts = {
        size: len(infer("save", given(OUT, save=base), to="out/", shard_size=size).files)
        for size in (10_000, 6768, 6767, 5000, 1600, 1)
    }
    assert counts == {10_000: 1, 6768: 1, 6767: 2, 5000: 3, 1600: 3, 1: 5}
    assert len(infer("save", given(OUT, save=base), to="out/").files) == 1


@pytest.mark.parametrize(
    ("spec", "said", "code", "option"),
    [
        (lora(), {"to": "out/"}, "lora-is-a-file", "to"),
        (model(), {"to": "o.safetensors", "shard_size": "1GB"}, "shards-need-a-folder", "shard-size"),
        (pipeline(), {"to": "o.safetensors"}, "components-need-a-folder", "to"),
    ],
)
def test_what_does_not_go_where_the_recipe_says_is_refused(
    spec: Spec, said: dict[str, JSON], code: str, option: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        infer("save", given({"to": Path(str(said["to"]))}, save=spec), **said)
    assert (caught.value.code, caught.value.option) == (code, option)
    assert caught.value.hint is not None


def test_what_does_not_go_along_is_told_before() -> None:
    assert KIND.warn(given(OUT, save=pipeline()), options("save", to="out/"), pipeline()) == (
        "not copied from 'base': images.zip",
    )


def test_the_files_of_a_folder_are_told_with_their_digests(bench: Bench) -> None:
    streams: dict[str, io.BytesIO] = {}

    def create(name: str, size: int | None = None) -> io.BytesIO:
        streams[name] = io.BytesIO()
        return streams[name]

    context = Context(create=create)
    made = work("save", given(OUT, save=load(bench.checkpoint())), context, to="out/", shard_size=2000)

    assert len(streams) > 2
    assert "model.safetensors.index.json" in streams
    data = {name: stream.getvalue() for name, stream in streams.items()}
    assert made.files == {name: hashlib.sha256(held).hexdigest() for name, held in data.items()}
    assert made.size == sum(map(len, data.values()))
    assert made.sha256 == listing_digest(made.files)


QKV = "lora_unet_double_blocks_0_img_attn_qkv"


def flux(path: Path, alpha: float) -> Path:
    """A LoRA of Flux with one fused module of rank 4."""
    tensors = {
        f"{QKV}.lora_up.weight": torch.randn(24, 4, generator=torch.Generator().manual_seed(1)).half(),
        f"{QKV}.lora_down.weight": torch.randn(4, 8, generator=torch.Generator().manual_seed(2)).half(),
        f"{QKV}.alpha": torch.tensor(alpha),
    }
    save_file(tensors, path, {"ss_base_model_version": "flux1"})
    return path


def test_a_layout_renames_and_splits_and_its_header_says_the_strength(tmp_path: Path) -> None:
    value = load(flux(tmp_path / "a.safetensors", 3.0))
    found = written(value, layout="diffusers")
    assert set(found) == {
        f"transformer.transformer_blocks.0.attn.to_{which}.lora_{side}.weight"
        for which in "qkv"
        for side in "AB"
    }
    assert set(written(value, layout="comfy")) == {
        f"diffusion_model.double_blocks.0.img_attn.qkv{role}"
        for role in (".alpha", ".lora_up.weight", ".lora_down.weight")
    }


def test_a_strength_that_only_a_header_can_say_needs_a_format_that_has_one(tmp_path: Path) -> None:
    odd, even = (load(flux(tmp_path / f"{alpha}.safetensors", alpha)) for alpha in (3.0, 2.0))
    inputs = given({"to": Path("o.pt")}, save=even)
    work("save", inputs, Context(output=io.BytesIO()), layout="diffusers")
    with pytest.raises(BuildError) as caught:
        work("save", given({"to": Path("o.pt")}, save=odd), Context(output=io.BytesIO()), layout="diffusers")
    assert str(caught.value) == (
        "error: a .pt file holds no metadata, where diffusers' names have their alphas"
        " - save as .safetensors, or with another layout"
    )


def test_pefts_layout_is_a_folder_of_weights_and_config(tmp_path: Path) -> None:
    value = load(flux(tmp_path / "a.safetensors", 3.0))
    streams: dict[str, io.BytesIO] = {}

    def create(name: str, size: int = 0) -> io.BytesIO:
        streams[name] = io.BytesIO()
        return streams[name]

    foretold = infer("save", given({"to": tmp_path / "p"}, save=value.spec), layout="peft", to="p/")
    made = KIND.work(
        given({"to": tmp_path / "p"}, save=value),
        options("save", layout="peft", to="p/"),
        Context(create=create),
    )
    assert foretold.admits(made.spec.tensors)
    assert list(streams) == ["adapter_model.safetensors", "adapter_config.json"]
    assert made.files == {name: hashlib.sha256(s.getvalue()).hexdigest() for name, s in streams.items()}
    config = json.loads(streams["adapter_config.json"].getvalue())
    assert (config["r"], config["lora_alpha"], len(config["target_modules"])) == (4, 3, 3)
    assert b"sshs_model_hash" in streams["adapter_model.safetensors"].getvalue()


@pytest.mark.parametrize(
    ("said", "spec", "code", "option"),
    [
        ({"layout": "peft", "to": "o.safetensors"}, lora(), "peft-is-a-folder", "to"),
        ({"layout": "kohya", "to": "o/"}, lora(), "lora-is-a-file", "to"),
        ({"layout": "kohya"}, model(), "checkpoint-keeps-layout", "layout"),
        ({"dense": True}, model(), "checkpoint-keeps-layout", "dense"),
        ({"layout": "diffusers"}, lora(), "no-name", "layout"),
    ],
)
def test_what_a_layout_cannot_be_is_refused_at_its_option(
    said: dict[str, JSON], spec: object, code: str, option: str
) -> None:
    wrong = replace(spec, family=None) if code == "no-name" else spec  # type: ignore[type-var]  # a spec
    with pytest.raises(RecipeError) as caught:
        infer("save", given(TO, save=wrong), **said)
    assert (caught.value.code, caught.value.option) == (code, option)


def test_a_rank_that_the_data_decide_is_foretold_as_a_bound(tmp_path: Path) -> None:
    """Parts that were one module share their down again: the rank is 4, foretold were 12."""
    apart = written(load(flux(tmp_path / "a.safetensors", 4.0)), layout="diffusers")
    save_file(apart, tmp_path / "b.safetensors", {"ss_base_model_version": "flux1"})
    value = load(tmp_path / "b.safetensors")
    foretold = infer("save", given(TO, save=value.spec), layout="kohya")
    assert foretold.bounded
    assert foretold.tensors[f"{QKV}.lora_down.weight"].shape == (12, 8)
    stream = io.BytesIO()
    made = KIND.work(given(TO, save=value), options("save", layout="kohya"), Context(output=stream))
    assert foretold.admits(made.spec.tensors)
    assert made.spec.tensors[f"{QKV}.lora_down.weight"].shape == (4, 8)


def test_hashes_of_the_file_are_in_its_metadata_and_the_recipe_wins(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "o.safetensors"
    for said, wanted in (({}, None), ({"metadata": {"sshs_model_hash": "mine"}}, "mine")):
        with path.open("wb") as stream:
            work("save", given(TO, save=load(bench.lora("a"))), Context(output=stream), **said)
        raw = path.read_bytes()
        data = hashlib.sha256(raw[8 + int.from_bytes(raw[:8], "little") :]).hexdigest()
        with safe_open(path, "pt") as file:
            assert file.metadata()["sshs_model_hash"] == (wanted or data)
            assert file.metadata()["format"] == "pt"
            assert len(file.metadata()["sshs_legacy_hash"]) == 8


def test_underflows_are_counted_once_although_the_data_are_made_twice(bench: Bench) -> None:
    told: dict[str, object] = {}
    value = load(bench.lora("a", modules={TO_Q: SHAPES[TO_Q]}))
    tiny = work("scale", given(scale=value), by=1e-20)
    both = work("concat", given(concat=[("a", 1e-20, tiny), ("b", 1.0, value)]))
    work("save", given(TO, save=both), Context(output=io.BytesIO(), note=told.__setitem__), dtype="fp16")
    assert told["underflow"] == 2 * 20 * 4
