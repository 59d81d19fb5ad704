"""Network keys tell the truth about the result; a hidden adapter tells nothing else."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from lorapipe.weights.metadata import checkpoint_metadata, common_metadata, network_metadata
from lorapipe.weights.saving import alphas
from lorapipe.weights.specs import CheckpointSpec, ModuleId

from .samples import CONV, LINEAR, POINT, TEXT, adapter, adapter_of, delta

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


def test_network_keys_are_recomputed_and_stale_hashes_go() -> None:
    value = adapter(8, 0.5, metadata=TRAINED)
    assert network_metadata(value.spec, alphas(value)) == {
        "ss_base_model_version": "sd_v1",
        "ss_v2": "False",
        "ss_tag_frequency": "{}",
        "modelspec.title": "char",
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
    value = adapter_of(modules)
    found = network_metadata(value.spec, alphas(value))
    assert (found["ss_network_dim"], found["ss_network_alpha"]) == ("8", "4")
    assert json.loads(found["ss_network_args"]) == {"conv_dim": "4", "conv_alpha": "1"}


def test_without_convolutions_there_are_no_args() -> None:
    value = adapter(shapes={LINEAR: (12, 10)}, metadata=TRAINED)
    assert "ss_network_args" not in network_metadata(value.spec, alphas(value))


def test_modules_that_differ_are_dynamic() -> None:
    value = adapter_of({LINEAR: delta((12, 10), (1.0, 3)), TEXT: delta((7, 11), (1.0, 4))})
    found = network_metadata(value.spec, alphas(value))
    assert (found["ss_network_dim"], found["ss_network_alpha"]) == ("Dynamic", "Dynamic")


def test_a_lora_of_convolutions_alone_has_a_dim() -> None:
    value = adapter_of({CONV: delta((9, 5, 3, 3), (1.0, 4))})
    assert network_metadata(value.spec, alphas(value))["ss_network_dim"] == "4"


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
    assert network_metadata(value.spec, alphas(value))["ss_network_alpha"] == text


def test_a_hidden_adapter_keeps_only_what_a_loader_needs() -> None:
    value = adapter(8, 0.5, metadata=TRAINED)
    assert network_metadata(replace(value.spec, hidden=True), alphas(value)).keys() == {
        "ss_base_model_version", "ss_v2",
        "ss_network_module", "ss_network_dim", "ss_network_alpha", "ss_network_args",
    }  # fmt: skip


def test_common_metadata_is_what_all_agree_on() -> None:
    assert common_metadata([{"a": "1", "b": "2", "c": "3"}, {"b": "2", "c": "4"}]) == {"b": "2"}
    assert common_metadata([{"a": "1"}]) == {"a": "1"}


def test_a_checkpoint_keeps_its_metadata_less_stale_hashes() -> None:
    spec = CheckpointSpec("sd1", {}, {}, TRAINED)
    assert checkpoint_metadata(spec) == {
        key: value for key, value in TRAINED.items() if not key.startswith(("sshs_", "modelspec.hash"))
    }
    assert checkpoint_metadata(replace(spec, hidden=True)) == {
        "ss_base_model_version": "sd_v1",
        "ss_v2": "False",
    }
