"""Suffixes choose readers and writers, and a file that lies about its kind is told."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from lorapipe.errors import InputError, RecipeError
from lorapipe.formats.containers.pickles import TorchFile
from lorapipe.formats.containers.safetensors import SafetensorsFile
from lorapipe.formats.files import SUFFIXES, open_tensors, writer_for
from lorapipe.weights.specs import TensorSpec

TORCH_ENDINGS = "give the file its true ending, .ckpt, .pt or .bin"
TENSORS = {"a": torch.ones(2, 2)}


def torch_bytes(legacy: bool = False) -> bytes:
    stream = io.BytesIO()
    torch.save(TENSORS, stream, _use_new_zipfile_serialization=not legacy)
    return stream.getvalue()


@pytest.mark.parametrize("name", ["x.safetensors", "X.SafeTensors", "v1.5.safetensors"])
def test_safetensors_are_known_by_their_ending(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(save(TENSORS))
    with open_tensors(tmp_path / name) as file:
        assert isinstance(file, SafetensorsFile)


@pytest.mark.parametrize("name", ["x.ckpt", "x.pt", "pytorch_model.bin", "X.CKPT"])
def test_torch_files_are_known_by_their_ending(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(torch_bytes())
    with open_tensors(tmp_path / name) as file:
        assert isinstance(file, TorchFile)


@pytest.mark.parametrize("name", ["x.onnx", "x", "x.safetensors.part", ".ckpt"])
@pytest.mark.parametrize(("use", "option"), [(open_tensors, "load"), (writer_for, "to")])
def test_another_ending_is_refused_with_the_four_that_there_are(name: str, use, option: str) -> None:
    with pytest.raises(RecipeError) as caught:
        use(Path("models") / name)
    assert caught.value.option == option
    assert str(caught.value) == (
        f"error: '{name}' does not end like a file of weights - "
        "such files end in .safetensors, .ckpt, .pt or .bin"
    )


@pytest.mark.parametrize(("use", "option"), [(open_tensors, "load"), (writer_for, "to")])
@pytest.mark.parametrize("name", ["model-Q4_K.gguf", "M.GGUF"])
def test_gguf_is_refused_by_name(name: str, use, option: str) -> None:
    with pytest.raises(RecipeError, match=f"'{name}' is a GGUF file, which lorapipe neither") as caught:
        use(Path("models") / name)
    assert caught.value.option == option


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        (
            "x.safetensors",
            torch_bytes(),
            f"is a zip archive, as torch.save writes them, not a safetensors file - {TORCH_ENDINGS}",
        ),
        (
            "x.safetensors",
            torch_bytes(legacy=True),
            f"is a pickle, as torch.save wrote them before 1.6, not a safetensors file - {TORCH_ENDINGS}",
        ),
        (
            "x.ckpt",
            save(TENSORS),
            "is a safetensors file, not a torch file - give the file its true ending, .safetensors",
        ),
    ],
)
def test_a_file_of_the_other_kind_is_told_its_true_ending(
    tmp_path: Path, name: str, content: bytes, text: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        open_tensors(path)
    assert str(caught.value) == f"{path}: error: {text}"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_a_writer_writes_its_reader_opens(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    writer = writer_for(path)
    specs = writer.order({"b": TensorSpec("F16", (1,)), "a": TensorSpec("F32", (1,))})
    with path.open("wb") as stream:
        writer.write(
            stream, specs, [(name, [bytes(spec.nbytes)]) for name, spec in specs.items()], {"k": "v"}
        )
    with open_tensors(path) as file:
        assert dict(file.tensors) == specs
        assert dict(file.metadata) == ({"k": "v"} if writer.metadata else {})


def test_the_order_of_an_adapter_is_the_safetensors_librarys_in_every_format() -> None:
    specs = {"a": TensorSpec("F16", (1,)), "b": TensorSpec("F32", (1,))}
    content = save({"a": torch.ones(1).half(), "b": torch.ones(1)})
    expected = list(json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]))
    assert [list(writer_for(Path(f"x{s}")).order(specs)) for s in SUFFIXES] == [expected] * 4
