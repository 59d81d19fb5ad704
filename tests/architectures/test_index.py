"""Names and tensors of a family: none means two things, and each is found."""

from __future__ import annotations

import pytest

from lorapipe.architectures import Target
from lorapipe.architectures.family import build_family
from lorapipe.architectures.table import parse_table
from lorapipe.errors import LorapipeError

from .toy import HEAD, toy, toy_family

FUSED = """
- {path: q, key: qk.weight, rows: [0, 1, 2], only: path, kind: linear, features: [d, d]}
- {path: k, key: qk.weight, rows: [1, 2, 2], only: path, kind: linear, features: [d, d]}
- {key: qk.weight, only: key, kind: linear, features: [2*d, d]}
"""
Q, K = (Target("net", "model.qk.weight", ((i, i + 1, 2),)) for i in range(2))
QK = Target("net", "model.qk.weight")


def test_one_name_for_two_modules_is_refused() -> None:
    # a.b_c and a_b.c are the same once dots have become underscores.
    known = build_family(toy("- {path: a.b_c, kind: linear}\n- {path: a_b.c, kind: linear}"))
    with pytest.raises(LorapipeError) as caught:
        known.lookup("lora_unet_a_b_c")
    assert caught.value.message == (
        "the table of toy is wrong: lora_unet_a_b_c would mean both model.a.b_c.weight and model.a_b.c.weight"
    )


def test_a_name_that_is_only_understood_may_not_collide_either() -> None:
    rows = "- {path: te.a, kind: linear}\n- {path: a, kind: linear}"
    body = "".join(f"    {line}\n" for line in rows.splitlines())
    head = HEAD.replace("    modules:\n", "    also: [{prefix: unet., without: te.}]\n    modules:\n")
    with pytest.raises(LorapipeError, match=r"unet\.a would mean both"):
        build_family(parse_table("toy", head + body)).check()


def test_a_name_is_looked_for_in_the_naming_with_the_longest_beginning_first() -> None:
    """So that a file's own naming is read and no other; the bare one of this table is at fault."""
    rows = "    - {path: te.a, kind: linear}\n    - {path: a, kind: linear}\n"
    head = HEAD.replace("    modules:\n", "    also: [{prefix: '', without: te.}]\n    modules:\n")
    known = build_family(parse_table("toy", head.replace("['', 'wrapped.']", "[]") + rows))
    assert known.lookup("unet.te.a") == Target("net", "model.te.a.weight")
    with pytest.raises(LorapipeError, match="a would mean both"):
        known.lookup("te.a.b")


def test_one_module_twice_is_refused() -> None:
    with pytest.raises(LorapipeError, match=r"model\.w\.weight comes twice"):
        toy_family("- {path: a, key: w.weight, kind: linear}\n- {path: b, key: w.weight, kind: linear}")


def test_a_fused_tensor_is_whole_in_one_naming_and_in_parts_in_another() -> None:
    known = toy_family(FUSED)
    assert known.lookup("unet.q") == Q
    assert known.lookup("diffusion_model.qk") == QK
    assert known.lookup("unet.qk") is None
    assert known.spell(QK, "diffusers") is None
    assert known.spell(K, "comfy") is None
    assert known.on_key("diffusers", "model.qk.weight") == (Q, K)
    assert known.on_key("comfy", "model.qk.weight") == (QK,)


def test_the_modules_on_a_key_stand_in_the_order_of_their_rows() -> None:
    rows = FUSED.strip().splitlines()
    known = toy_family("\n".join([rows[1], rows[0], rows[2]]))
    assert known.on_key("kohya", "model.qk.weight") == (Q, K)


def test_a_key_of_nothing_has_no_modules() -> None:
    known = toy_family(FUSED)
    assert known.on_key("kohya", "model.absent.weight") == ()
    assert known.on_key("absent", "model.qk.weight") == ()


@pytest.mark.parametrize(
    ("key", "target"),
    [
        ("model.qk.weight", QK),
        ("qk.weight", QK),
        ("wrapped.qk.weight", QK),
        ("unet/q.weight", Q),
        ("unet/k.weight", K),
        ("unet/q.bias", Target("net", "model.qk.bias", ((0, 1, 2),), kind="bias")),
        ("model.qk.bias", Target("net", "model.qk.bias", kind="bias")),
        ("unet/qk.weight", None),
        ("q.weight", None),
        ("qk", None),
        ("bias", None),
        ("vae/q.weight", None),
    ],
)
def test_a_tensor_of_any_layout_has_its_place(key: str, target: Target | None) -> None:
    assert toy_family(FUSED).place(key) == target


def test_a_bias_has_its_modules_name_and_stands_on_its_own_key() -> None:
    known = toy_family(FUSED)
    assert Q.bias is not None
    assert known.spell(Q.bias, "diffusers") == "unet.q"
    assert known.on_key("diffusers", "model.qk.bias") == (Q.bias, K.bias)
    assert known.features(Q.bias) == (8, None)


def test_a_transposed_tensor_is_itself_in_the_reference_and_transposed_in_a_folder() -> None:
    known = toy_family("- {path: p, key: p, transpose: true, kind: linear, features: [4*d, d]}")
    assert known.place("model.p") == Target("net", "model.p")
    assert known.place("unet/p.weight") == Target("net", "model.p", transpose=True)
    sizes = [found.features for key in ("model.p", "unet/p.weight") if (found := known.stored(key))]
    assert sizes == [(8, 32), (32, 8)]


def test_a_tensor_is_as_high_as_its_parts_together() -> None:
    known = toy_family("- {path: q, key: qk, rows: [0, 1, 2], only: path, kind: linear, features: [d, d]}")
    found = known.stored("model.qk"), known.stored("unet/q.weight")
    assert [tensor.features for tensor in found if tensor] == [(16, 8), (8, 8)]


def test_embeddings_and_parameters_have_no_bias() -> None:
    known = toy_family("- {path: e, kind: embedding}\n- {path: t, kind: parameter}\n- {path: n, kind: norm}")
    assert known.place("unet/e.weight") == Target("net", "model.e.weight", kind="embedding")
    assert known.place("unet/t") == Target("net", "model.t", kind="parameter")
    assert known.place("unet/e.bias") is None
    assert known.place("unet/n.bias") == Target("net", "model.n.bias", kind="bias")


def test_the_name_of_a_norm_is_that_of_its_module() -> None:
    known = toy_family("- {path: norm_q, key: norm.query_norm.scale, kind: norm}")
    target = Target("net", "model.norm.query_norm.scale", kind="norm")
    assert known.lookup("unet.norm_q") == target
    assert known.lookup("diffusion_model.norm.query_norm") == target
    assert known.place("unet/norm_q.weight") == known.place("norm.query_norm.scale") == target


def test_an_underscore_too_many_at_the_end_is_overlooked() -> None:
    known = toy_family("- {path: a, kind: linear}")
    assert known.lookup("lora_unet_a_") == known.lookup("lora_unet_a")
    assert known.lookup("lora_unet_a__") is None


def test_names_like_one_are_those_of_its_naming_or_all_that_are_written() -> None:
    known = toy_family("- {path: a, kind: linear}\n- {path: b, key: c.weight, kind: linear}")
    assert known.names("lora_unet_x") == ("lora_unet_a", "lora_unet_b")
    assert known.names("x") == (
        *("lora_unet_a", "lora_unet_b"),
        *("unet.a", "unet.b"),
        *("diffusion_model.a", "diffusion_model.c"),
    )
