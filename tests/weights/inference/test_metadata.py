"""Network keys tell the truth about the result; a hidden adapter tells nothing else."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.filing.settled import settle
from lorapipe.weights.inference.filed import FileModule, Part, own_names
from lorapipe.weights.inference.metadata import common_metadata, kept_metadata, network_metadata
from lorapipe.weights.specs import CheckpointSpec, Form, ModuleId, TensorSpec
from tests.weights.samples import CONV, LINEAR, POINT, TEXT, adapter, adapter_of, delta

TRAINED = {
    "ss_base_model_version": "sd_v1",
    "ss_v2": "False",
    "ss_network_dim": "77",
    "ss_network_alpha": "77",
    "ss_network_module": "lycoris.kohya",
    "ss_network_args": '{"algo": "lokr"}',
    "ss_tag_frequency": "{}",
    "sshs_model_hash": "abc",
    "sshs_legacy_hash": "abc",
    "modelspec.hash_sha256": "0xabc",
    "modelspec.title": "char",
}


def told(value: Adapter) -> dict[str, str]:
    """The network keys of an adapter saved under its own names."""
    settled = [settle(module, value) for module in own_names(value.spec)]
    return network_metadata([(one.module, one.alpha) for one in settled])


def of(shape: tuple[int, ...], *roles: tuple[str, tuple[int, ...]], name: str) -> FileModule:
    """A module of a format of its own."""
    tensors = tuple((role, TensorSpec("F32", size)) for role, size in roles)
    return FileModule("m", (Part(LINEAR, 0, shape[0]),), shape, 4, form=Form(name, tensors))


def test_the_network_keys_are_those_of_the_file() -> None:
    assert told(adapter(8, 0.5, metadata=TRAINED)) == {
        "ss_network_module": "networks.lora",
        "ss_network_dim": "8",
        "ss_network_alpha": "4",
        "ss_network_args": '{"conv_dim": "8", "conv_alpha": "4"}',
    }


def test_convolutions_have_their_own_dim_and_alpha() -> None:
    modules = {
        LINEAR: delta((12, 10), (0.5, 8)),
        POINT: delta((8, 6, 1, 1), (0.5, 8)),
        CONV: delta((9, 5, 3, 3), (0.25, 4)),
    }
    found = told(adapter_of(modules))
    assert (found["ss_network_dim"], found["ss_network_alpha"]) == ("8", "4")
    assert json.loads(found["ss_network_args"]) == {"conv_dim": "4", "conv_alpha": "1"}


def test_without_convolutions_there_are_no_args() -> None:
    assert "ss_network_args" not in told(adapter(shapes={LINEAR: (12, 10)}, metadata=TRAINED))


def test_modules_that_differ_are_dynamic() -> None:
    found = told(adapter_of({LINEAR: delta((12, 10), (1.0, 3)), TEXT: delta((7, 11), (1.0, 4))}))
    assert (found["ss_network_dim"], found["ss_network_alpha"]) == ("Dynamic", "Dynamic")


def test_a_lora_of_convolutions_alone_has_a_dim() -> None:
    assert told(adapter_of({CONV: delta((9, 5, 3, 3), (1.0, 4))}))["ss_network_dim"] == "4"


@pytest.mark.parametrize(
    ("alpha", "text"),
    [
        (4.0, "4"),
        (10.0, "10"),
        (96.0, "96"),
        (200.0, "200"),
        (12.5, "12.5"),
        (5.6, "5.6"),
        (1e-05, "1e-05"),
        (1 / 3, "0.33333334"),
    ],
)
def test_alpha_is_the_shortest_decimal_of_its_float32(alpha: float, text: str) -> None:
    value = adapter_of({ModuleId("unet", "x"): delta((4, 4), (alpha, 1))})
    assert told(value)["ss_network_alpha"] == text


LOHA = of((8, 6), (".hada_w1_a", (8, 3)), (".hada_w1_b", (3, 6)), (".hada_w2_a", (8, 3)), name="LoHa")
LOKR = of((8, 6), (".lokr_w1", (2, 2)), (".lokr_w2_a", (4, 5)), (".lokr_w2_b", (5, 3)), name="LoKr")
WHOLE = of((8, 6), (".lokr_w1", (2, 2)), (".lokr_w2", (4, 3)), name="LoKr")
NORM = of((8,), (".w_norm", (8,)), name="full difference")
UP, DOWN, SCALE = (".lora_up.weight", (8, 2)), (".lora_down.weight", (2, 6)), (".dora_scale", (8, 1))
DORA = of((8, 6), UP, DOWN, SCALE, name="DoRA")
DORA_OF_LOHA = of((8, 6), (".hada_w1_b", (3, 6)), SCALE, name="DoRA")
CORE = (".lora_mid.weight", (2, 2, 3, 3))
TUCKER = of((8, 6, 3, 3), (".lora_down.weight", (2, 6, 1, 1)), CORE, name="Tucker LoRA")
PLAIN = FileModule("p", (Part(LINEAR, 0, 8),), (8, 6), 3)


@pytest.mark.parametrize(
    ("modules", "args", "dim"),
    [
        ([LOHA], {"algo": "loha"}, "3"),
        ([LOKR], {"algo": "lokr"}, "5"),
        ([WHOLE], {"algo": "lokr"}, None),
        ([LOHA, NORM], {"algo": "loha", "train_norm": "True"}, "3"),
        ([DORA], {"algo": "locon", "dora_wd": "True"}, "2"),
        ([DORA_OF_LOHA], {"algo": "loha", "dora_wd": "True"}, "3"),
        ([TUCKER], {"algo": "locon", "use_tucker": "True", "conv_dim": "2", "conv_alpha": "1"}, "2"),
        ([PLAIN, TUCKER], {"algo": "locon", "use_tucker": "True", "conv_dim": "2", "conv_alpha": "1"}, "3"),
        ([LOHA, LOKR], {}, "Dynamic"),
    ],
)
def test_a_file_of_other_formats_is_lycoris(
    modules: list[FileModule], args: dict[str, str], dim: str | None
) -> None:
    found = network_metadata([(module, 1.0) for module in modules])
    assert found["ss_network_module"] == "lycoris.kohya"
    assert json.loads(found.get("ss_network_args", "{}")) == args
    assert found.get("ss_network_dim") == dim


def test_what_was_true_of_another_file_goes() -> None:
    value = adapter(8, 0.5, metadata={**TRAINED, "lora_adapter_metadata": "{}"})
    kept = kept_metadata(value.spec)
    gone = {"sshs_model_hash", "sshs_legacy_hash", "modelspec.hash_sha256"}
    network = {"ss_network_dim", "ss_network_alpha", "ss_network_module", "ss_network_args"}
    assert kept == {key: text for key, text in TRAINED.items() if key not in gone | network}


def test_a_hidden_adapter_keeps_only_what_a_loader_needs() -> None:
    value = adapter(8, 0.5, metadata=TRAINED)
    assert kept_metadata(replace(value.spec, hidden=True)).keys() == {"ss_base_model_version", "ss_v2"}


def test_common_metadata_is_what_all_agree_on() -> None:
    assert common_metadata([{"a": "1", "b": "2", "c": "3"}, {"b": "2", "c": "4"}]) == {"b": "2"}
    assert common_metadata([{"a": "1"}]) == {"a": "1"}


def test_a_checkpoint_keeps_its_metadata_less_stale_hashes() -> None:
    spec = CheckpointSpec("sd1", {}, {}, TRAINED)
    assert kept_metadata(spec) == {
        key: value for key, value in TRAINED.items() if not key.startswith(("sshs_", "modelspec.hash"))
    }
    assert kept_metadata(replace(spec, hidden=True)) == {
        "ss_base_model_version": "sd_v1",
        "ss_v2": "False",
    }
