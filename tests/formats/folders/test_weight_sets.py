"""Which files of a folder are its weights, and which set of them is taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorapipe.errors import InputError
from lorapipe.formats.folders.weight_sets import choose, holds_weights, is_weights, sets_in

FOLDER = Path("m")


def taken(*names: str, variant: str | None = None) -> str:
    return choose(FOLDER, sets_in(names), variant).file


@pytest.mark.parametrize(
    ("name", "stem", "variant", "index"),
    [
        ("model.safetensors", "model", None, False),
        ("model.fp16.safetensors", "model", "fp16", False),
        ("pytorch_model.bin", "model", None, False),
        ("pytorch_model.fp16.bin", "model", "fp16", False),
        ("diffusion_pytorch_model.non_ema.safetensors", "diffusion_pytorch_model", "non_ema", False),
        ("model.safetensors.index.json", "model", None, True),
        ("model.safetensors.index.fp16.json", "model", "fp16", True),
        ("diffusion_pytorch_model.safetensors.fp16.index.json", "diffusion_pytorch_model", "fp16", True),
        ("pytorch_model.bin.index.json", "model", None, True),
        ("adapter_model.bin", "adapter_model", None, False),
        ("flux1.dev.safetensors", "flux1.dev", None, False),
        ("OLD.CKPT", "OLD", None, False),
    ],
)
def test_the_name_of_a_set_tells_stem_variant_and_index(
    name: str, stem: str, variant: str | None, index: bool
) -> None:
    (found,) = sets_in([name])
    assert (found.file, found.stem, found.variant, found.index) == (name, stem, variant, index)


@pytest.mark.parametrize(
    "name",
    [
        "model-00001-of-00002.safetensors",
        "model.fp16-00001-of-00002.safetensors",
        "diffusion_pytorch_model-00001-of-00002.fp16.safetensors",
        "pytorch_model-00001-of-00002.bin",
        "config.json",
        "tokenizer.model",
        "training_args.bin",
        "optimizer.pt",
        "scheduler.pt",
        "model.gguf",
        "tf_model.h5",
    ],
)
def test_a_shard_and_what_is_no_model_is_no_set(name: str) -> None:
    assert sets_in([name]) == []


@pytest.mark.parametrize(
    ("names", "variant", "file"),
    [
        (("model.safetensors", "model.fp16.safetensors"), None, "model.safetensors"),
        (("model.safetensors", "model.fp16.safetensors"), "fp16", "model.fp16.safetensors"),
        (("model.fp16.safetensors",), None, "model.fp16.safetensors"),
        (("model.safetensors", "pytorch_model.bin"), None, "model.safetensors"),
        (("model.fp16.safetensors", "pytorch_model.bin"), None, "pytorch_model.bin"),
        (("model.fp16.safetensors", "pytorch_model.fp16.bin"), "fp16", "model.fp16.safetensors"),
        (("pytorch_model.bin.index.json", "model.safetensors.index.json"), None,
         "model.safetensors.index.json"),
        (("model.safetensors.index.json", "consolidated.safetensors"), None, "model.safetensors.index.json"),
        (("consolidated.safetensors", "training_args.bin"), None, "consolidated.safetensors"),
        (("diffusion_pytorch_model.bin", "diffusion_pytorch_model.safetensors"), None,
         "diffusion_pytorch_model.safetensors"),
    ],
)  # fmt: skip
def test_plain_weights_come_before_variants_and_safetensors_before_pickles(
    names: tuple[str, ...], variant: str | None, file: str
) -> None:
    assert taken(*names, variant=variant) == file
    assert taken(*reversed(names), variant=variant) == file


@pytest.mark.parametrize(
    ("names", "hint"),
    [
        (("model.safetensors", "model.safetensors.index.json"), "name the one to load: m/model.safetensors"),
        (("a.safetensors", "b.ckpt"), "name the one to load: m/a.safetensors"),
        (("model.bf16.safetensors", "model.fp16.safetensors"), "say which: `variant: bf16`"),
        (
            ("diffusion_pytorch_model.safetensors", "model.safetensors"),
            "name the one to load: m/diffusion_pytorch_model.safetensors",
        ),
    ],
)
def test_two_sets_that_are_alike_are_refused_with_the_way_out(names: tuple[str, ...], hint: str) -> None:
    with pytest.raises(InputError) as caught:
        taken(*names)
    said = f"m: error: holds 2 sets of weights: {names[0]}, {names[1]} - {hint}"
    assert (caught.value.code, str(caught.value)) == ("several-weights", said)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (
            ("model.safetensors",),
            "m: error: has no weights of the variant 'fp8' - leave 'variant' out: there is none",
        ),
        (
            ("model.safetensors", "model.fp16.safetensors", "model.bf16.safetensors"),
            "m: error: has no weights of the variant 'fp8' - there is bf16, fp16",
        ),
    ],
)
def test_a_variant_that_is_not_there_is_refused_with_those_that_are(
    names: tuple[str, ...], says: str
) -> None:
    with pytest.raises(InputError) as caught:
        taken(*names, variant="fp8")
    assert (caught.value.code, str(caught.value)) == ("no-such-variant", says)


@pytest.mark.parametrize(
    "name", ["a.safetensors", "A.BIN", "x.pth", "model.onnx_data", "m.gguf", "training_args.bin"]
)
def test_weights_of_all_programs_are_known_as_such(name: str) -> None:
    assert is_weights(name)
    assert holds_weights(["config.json", name])


@pytest.mark.parametrize(
    "name", ["tokenizer.model", "spiece.model", "vocab.json", "merges.txt", "chat.jinja"]
)
def test_what_goes_along_is_not_taken_for_weights(name: str) -> None:
    assert not is_weights(name)
