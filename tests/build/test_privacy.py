"""What is saved after a shuffle carries nothing of its sources, in any layout, to the last byte."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import lorapipe
from lorapipe.build.proving.recovery import recover
from lorapipe.errors import LorapipeError

from ..bench import KEYS, SHAPES, Bench
from ..formats.model_folders import hf_folder

WEIGHTS, SEED = (0.771937, -1.338231), 918273645
METADATA = {
    "ss_base_model_version": "sd_v1",
    "ss_v2": "False",
    "ss_output_name": "sourcename",
    "ss_tag_frequency": '{"secrettag": {"x": 1}}',
    "ss_training_comment": "secretcomment",
    "modelspec.title": "secrettitle",
    "modelspec.author": "secretauthor",
    "sshs_model_hash": "5ec4e7" * 10,
    "sshs_legacy_hash": "5ec4e701",
    "lorapipe.provenance": '{"secret": "provenance"}',
    "custom": "secretcustom",
}

SAVES = {
    "a file": "out: {save: mixed, to: out/o.safetensors}",
    "a file of half numbers": "out: {save: mixed, to: out/o.safetensors, dtype: fp16}",
    "a file that is to tell all": "out: {save: mixed, to: out/o.safetensors, provenance: full}",
    "a resized file": "small: {svd-resize: mixed, rank: 3}\nout: {save: small, to: out/o.safetensors}",
    "a scaled sum with another": (
        "more: {concat: {mixed: 0.5, third: 2.0}}\nout: {save: more, to: out/o.safetensors}"
    ),
    "kohya's layout": "out: {save: mixed, to: out/o.safetensors, layout: kohya}",
    "diffusers' layout": "out: {save: mixed, to: out/o.safetensors, layout: diffusers}",
    "a pickle": "out: {save: mixed, to: out/o.pt}",
    "PEFT's folder": (
        "unet: {scale: mixed, components: {te: 0.0}}\nout: {save: unet, to: out/o/, layout: peft}"
    ),
    "a merged file": (
        "base: {load: base.safetensors}\nmerged: {merge-into-checkpoint: base, loras: {mixed: 0.9}}\n"
        "out: {save: merged, to: out/o.safetensors}"
    ),
    "a merged folder in shards": (
        "base: {load: base/}\nmerged: {merge-into-checkpoint: base, loras: {mixed: 0.9}}\n"
        "out: {save: merged, to: out/o/, shard-size: 3kB}"
    ),
    "an extraction": (
        "base: {load: base.safetensors}\nmerged: {merge-into-checkpoint: base, loras: {mixed: 0.9}}\n"
        "lora: {extract-lora: merged, base: base, rank: 8}\nout: {save: lora, to: out/o.safetensors}"
    ),
}
NEEDED = {
    "format",
    "ss_base_model_version",
    "ss_v2",
    "lora_adapter_metadata",
    *(f"modelspec.{word}" for word in ("sai_model_spec", "architecture", "implementation", "title")),
    *(f"modelspec.{word}" for word in ("resolution", "prediction_type", "hash_sha256")),
}
STEPS = (
    f"secretstep: {{load: sourcename.safetensors, description: secretnote}}\n"
    f"other: {{load: othersource.safetensors}}\nthird: {{load: thirdsource.safetensors}}\n"
    f"both: {{concat: {{secretstep: {WEIGHTS[0]}, other: {WEIGHTS[1]}}}}}\n"
    f"mixed: {{shuffle: both, seed: {SEED}}}\n"
)


@pytest.fixture
def kitchen(bench: Bench) -> Bench:
    bench.lora("sourcename", metadata=METADATA, alpha=1.7)
    bench.lora("othersource", rank=6, seed=1, metadata={**METADATA, "ss_output_name": "othersource"})
    bench.lora("thirdsource", rank=2, seed=2, metadata=METADATA)
    bundled = load_file(bench.folder / "sourcename.safetensors")
    bundled["bundle_emb.secretword.string_to_param.*"] = torch.ones(2, 16)
    save_file(bundled, bench.folder / "sourcename.safetensors", METADATA)
    base = bench.checkpoint()
    told = {"format": "pt", "modelspec.title": "secretbase", "secretkey": "secretvalue"}
    save_file(load_file(base), base, told)
    hf_folder(bench.folder / "base", load_file(base), 2)
    for shard in (bench.folder / "base").glob("*.safetensors"):
        save_file(load_file(shard), shard, told)
    return bench


def secrets(folder: Path) -> dict[str, bytes]:
    """Everything that would give a source away, by what it is."""
    found = {word: word.encode() for word in ("secret", "sourcename", "othersource", "thirdsource", "5ec4e7")}
    found |= {"the seed": str(SEED).encode(), "the name of the recipe": b"r.yaml"}
    for number in WEIGHTS:
        found |= {
            f"the weight {number}": str(abs(number)).encode(),
            f"{number} as float32": struct.pack("<f", number),
            f"{number} as float64": struct.pack("<d", number),
        }
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix in (".safetensors", ".yaml"):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            found[f"the digest of {path.name}"] = digest[:12].encode()
    return found


@pytest.mark.parametrize("save", SAVES)
def test_no_byte_after_a_shuffle_tells_of_the_sources(save: str, kitchen: Bench) -> None:
    recipe = kitchen.recipe(STEPS + SAVES[save], head="name: secretname\nparams: {secretparam: 1}\n")
    known = secrets(kitchen.folder)
    (output,) = (built.path for built in lorapipe.run(recipe).outputs)

    files = [output] if output.is_file() else [path for path in output.rglob("*") if path.is_file()]
    assert files
    for path in files:
        content = path.read_bytes()
        told = [what for what, secret in known.items() if secret in content or secret in path.name.encode()]
        assert told == [], f"{path.name} tells {told}"
    if output.suffix == ".safetensors":
        with safe_open(output, "pt") as file:
            keys = set(file.metadata() or {})
        # What is written anew of every LoRA, and what a loader needs.
        assert {key for key in keys if not key.startswith(("ss_network_", "sshs_"))} <= NEEDED
        with pytest.raises(LorapipeError, match="does not tell how it was made"):
            recover(output)


@pytest.mark.parametrize("save", ["a file", "a merged file", "a merged folder in shards"])
def test_without_the_shuffle_the_test_would_find_them(save: str, kitchen: Bench) -> None:
    steps = STEPS.replace(f"mixed: {{shuffle: both, seed: {SEED}}}\n", "mixed: {scale: both, by: 1.0}\n")
    recipe = kitchen.recipe(steps + SAVES[save])
    known = secrets(kitchen.folder)
    (output,) = (built.path for built in lorapipe.run(recipe).outputs)
    files = [output] if output.is_file() else list(output.glob("*.safetensors"))
    content = b"".join(path.read_bytes() for path in files)
    assert sum(secret in content for secret in known.values()) >= 4


def test_the_factors_are_a_function_of_the_sum_alone(bench: Bench) -> None:
    """Two pairs of sources with one sum give the same numbers: the factors cannot tell which it was."""
    import numpy as np

    rng = np.random.default_rng(0)
    halves = {stem: (rng.integers(-8, 8, (shape[0], 4)), rng.integers(-8, 8, (4, int(np.prod(shape[1:])))))
              for stem, shape in SHAPES.items()}  # fmt: skip
    for name, order, factor in (("one", [0, 1, 2, 3], 1), ("two", [2, 3, 0, 1], 2)):
        for part, ranks in (("a", order[:2]), ("b", order[2:])):
            tensors = {}
            for stem, (up, down) in halves.items():
                shape = SHAPES[stem]
                ones = [1] * (len(shape) - 2)
                wide = torch.tensor(up[:, ranks].astype("float32") * factor)
                high = torch.tensor(down[ranks].astype("float32") / factor)
                tensors[f"{stem}.lora_up.weight"] = wide.reshape(shape[0], 2, *ones).contiguous()
                tensors[f"{stem}.lora_down.weight"] = high.reshape(2, *shape[1:]).contiguous()
            told = {"ss_base_model_version": "sd_v1", "ss_v2": "False"}
            save_file(tensors, bench.folder / f"{name}-{part}.safetensors", told)
    made = []
    for name in ("one", "two"):
        recipe = bench.recipe(
            f"a: {{load: {name}-a.safetensors}}\nb: {{load: {name}-b.safetensors}}\nc: {{concat: [a, b]}}\n"
            f"s: {{shuffle: c, seed: 3}}\nout: {{save: s, to: {name}.safetensors}}",
            name=f"{name}.yaml",
        )
        made.append(load_file(lorapipe.run(recipe).outputs[0].path))
    assert made[0].keys() == made[1].keys()
    for key, tensor in made[0].items():
        torch.testing.assert_close(tensor, made[1][key], rtol=1e-4, atol=1e-5)


def test_the_index_and_the_settings_of_a_folder_tell_nothing_either(kitchen: Bench) -> None:
    recipe = kitchen.recipe(STEPS + SAVES["a merged folder in shards"])
    (output,) = (built.path for built in lorapipe.run(recipe).outputs)
    index = json.loads((output / "model.safetensors.index.json").read_text())
    assert index.keys() == {"metadata", "weight_map"}
    assert index["metadata"].keys() == {"total_size"}
    assert set(index["weight_map"]) == set(load_file(kitchen.folder / "base.safetensors"))
    assert set(KEYS.values()) <= set(index["weight_map"])
