"""The language of the tables, on small tables of the tests' own."""

from __future__ import annotations

import pytest

from lorapipe.architectures.family import build_family
from lorapipe.architectures.table import Module, Naming, Table, parse_table
from lorapipe.architectures.target import Target
from lorapipe.errors import LorapipeError

HEAD = """
title: Toy
source: this test
components:
  net:
    group: unet
    key: model
    sizes: {d: 8}
    namings:
      kohya: {prefix: lora_unet_, separator: _}
      diffusers: {prefix: unet.}
    modules:
"""


def toy(rows: str, tail: str = "", shared: dict[str, str] | None = None) -> Table:
    body = "".join(f"    {line}\n" for line in rows.strip().splitlines())
    return parse_table("toy", HEAD + body + tail, shared)


def pairs(table: Table) -> list[tuple[str, str]]:
    return [(m.path, m.target.key) for m in table.modules]


def test_a_leaf_without_a_key_takes_its_path_with_weight() -> None:
    assert pairs(toy("- {path: proj, kind: linear}")) == [("proj", "model.proj.weight")]


def test_ranges_include_both_ends_and_vary_the_last_variable_fastest() -> None:
    table = toy("- {each: {i: 0..1, j: 1..2}, path: 'a.{i}.{j}', key: 'b.{3*i+j}.weight', kind: linear}")
    assert pairs(table) == [
        ("a.0.1", "model.b.1.weight"),
        ("a.0.2", "model.b.2.weight"),
        ("a.1.1", "model.b.4.weight"),
        ("a.1.2", "model.b.5.weight"),
    ]


def test_where_keeps_only_the_rows_it_names() -> None:
    table = toy("- {each: {i: 0..3}, path: 'a.{i}', kind: linear, where: {i: 1..2}}")
    assert [m.path for m in table.modules] == ["a.1", "a.2"]


def test_nested_rows_keep_the_written_order_within_each_turn() -> None:
    table = toy(
        """
- each: {i: 0..1}
  modules:
  - {path: 'x.{i}', kind: linear}
  - {path: 'y.{i}', kind: conv3x3}
"""
    )
    assert [m.path for m in table.modules] == ["x.0", "y.0", "x.1", "y.1"]
    assert [m.target.kind for m in table.modules] == ["linear", "conv3x3"] * 2


def test_along_runs_beside_its_variable_and_reaches_into_parts() -> None:
    table = toy(
        "- {each: {i: 0..1}, along: {c: [4, 6]}, path: 'b.{i}', key: 'k.{i}', part: ff}",
        "parts:\n  ff:\n  - {path: up, key: w.weight, kind: linear, features: [4*c, d]}\n",
    )
    assert [(m.target.key, m.features) for m in table.modules] == [
        ("model.k.0.w.weight", (16, 8)),
        ("model.k.1.w.weight", (24, 8)),
    ]


def test_along_must_match_the_range_it_runs_beside() -> None:
    with pytest.raises(LorapipeError, match="as many values"):
        toy("- {each: {i: 0..2}, along: {c: [4, 6]}, path: 'b.{i}', kind: linear}")


def test_a_range_may_end_at_a_variable() -> None:
    table = toy(
        """
- each: {i: 0..1}
  along: {last: [0, 2]}
  path: l.{i}
  modules:
  - {each: {k: 0..last}, path: 'b.{k}', kind: linear}
"""
    )
    assert [m.path for m in table.modules] == ["l.0.b.0", "l.1.b.0", "l.1.b.1", "l.1.b.2"]


def test_parts_come_from_included_files_and_the_table_may_replace_them() -> None:
    shared = {"common": "parts:\n  p:\n  - {path: old, kind: linear}\n"}
    row = "- {path: a, part: p}"
    assert [m.path for m in toy(row, "include: [common]\n", shared).modules] == ["a.old"]
    own = "include: [common]\nparts:\n  p:\n  - {path: new, kind: linear}\n"
    assert [m.path for m in toy(row, own, shared).modules] == ["a.new"]


def test_fused_and_transposed_tensors_are_told_in_the_target() -> None:
    table = toy(
        """
- {path: q, key: qkv, rows: [0, 1, 3], kind: linear}
- {path: out, key: out, transpose: true, kind: linear}
"""
    )
    assert [m.target for m in table.modules] == [
        Target("net", "model.qkv", (0, 1, 3)),
        Target("net", "model.out", transpose=True),
    ]


def test_what_is_not_claimed_of_a_size_is_none() -> None:
    table = toy("- {path: a, kind: linear, features: [~, d]}\n- {path: b, kind: linear}")
    assert [m.features for m in table.modules] == [(None, 8), (None, None)]


def test_a_naming_spells_the_path_or_the_key_with_its_separator() -> None:
    module = Module(Target("net", "model.in.0.weight"), "text_model.conv_in", "in.0", (None, None))
    assert Naming(prefix="lora_unet_", separator="_").spell(module) == "lora_unet_text_model_conv_in"
    assert Naming(prefix="lora_unet_", separator="_", spells="key").spell(module) == "lora_unet_in_0"
    assert Naming(prefix="unet.").spell(module) == "unet.text_model.conv_in"
    assert Naming(prefix="unet.", without="text_model.").spell(module) == "unet.conv_in"


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ("- {path: a, kind: linear, colour: red}", "unexpected keyword argument 'colour'"),
        ("- {path: a}", "needs one of kind, part, modules"),
        ("- {path: a, kind: linear, part: b}", "needs one of kind, part, modules"),
        ("- {path: a, kind: conv5x5}", "unknown kind 'conv5x5'"),
        ("- {path: a, part: absent}", "KeyError: 'absent'"),
        ("- {path: 'a.{i}', kind: linear}", "KeyError: 'i'"),
        ("- {path: a, kind: linear, features: [e, d]}", "KeyError: 'e'"),
        ("- {path: a, kind: linear", "ParserError"),
    ],
)
def test_a_faulty_table_is_an_internal_error_that_says_what_is_wrong(rows: str, problem: str) -> None:
    with pytest.raises(LorapipeError) as caught:
        toy(rows)
    assert caught.value.code == "architecture-table"
    assert caught.value.exit_status == 1
    assert str(caught.value).startswith("error: the table of toy is wrong: ")
    assert problem in caught.value.message


def test_one_name_for_two_modules_is_refused_when_the_table_is_loaded() -> None:
    # a.b_c and a_b.c are the same once dots have become underscores.
    table = toy("- {path: a.b_c, kind: linear}\n- {path: a_b.c, kind: linear}")
    with pytest.raises(LorapipeError) as caught:
        build_family(table)
    assert caught.value.message == (
        "the table of toy is wrong: lora_unet_a_b_c would mean both model.a.b_c.weight and model.a_b.c.weight"
    )


def test_a_name_that_is_only_understood_may_not_collide_either() -> None:
    rows = "- {path: te.a, kind: linear}\n- {path: a, kind: linear}"
    body = "".join(f"    {line}\n" for line in rows.splitlines())
    head = HEAD.replace("    modules:\n", "    also: [{prefix: unet., without: te.}]\n    modules:\n")
    with pytest.raises(LorapipeError, match=r"unet\.a would mean both"):
        build_family(parse_table("toy", head + body))


def test_one_module_twice_is_refused() -> None:
    with pytest.raises(LorapipeError, match=r"model\.w\.weight comes twice"):
        build_family(
            toy("- {path: a, key: w.weight, kind: linear}\n- {path: b, key: w.weight, kind: linear}")
        )


def test_two_modules_may_share_a_tensor_by_rows() -> None:
    known = build_family(
        toy(
            """
- {path: q, key: qk, rows: [0, 1, 2], kind: linear, features: [d, d]}
- {path: k, key: qk, rows: [1, 2, 2], kind: linear, features: [d, d]}
"""
        )
    )
    assert [t.rows(8) for t in known.targets()] == [(0, 8), (8, 16)]
    assert dict(known.tensors) == {"model.qk": (16, 8)}


def test_a_transposed_tensor_is_as_wide_as_its_module_is_high() -> None:
    known = build_family(toy("- {path: p, key: p, transpose: true, kind: linear, features: [4*d, d]}"))
    assert dict(known.tensors) == {"model.p": (8, 32)}
