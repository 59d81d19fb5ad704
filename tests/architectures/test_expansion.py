"""Rows written out: ranges, parts, sides."""

from __future__ import annotations

import pytest

from lorapipe.errors import LorapipeError

from .toy import expansion, leaves, names


def pairs(rows: str, tail: str = "") -> list[tuple[str, str]]:
    return list(zip(names(rows, "path", tail), names(rows, "key", tail), strict=True))


def test_a_leaf_without_a_key_takes_its_path_with_weight() -> None:
    assert pairs("- {path: proj, kind: linear}") == [("proj", "proj.weight")]


def test_a_parameter_without_a_key_takes_its_path_alone() -> None:
    assert pairs("- {path: table, kind: parameter}") == [("table", "table")]


def test_ranges_include_both_ends_and_vary_the_last_variable_fastest() -> None:
    rows = "- {each: {i: 0..1, j: 1..2}, path: 'a.{i}.{j}', key: 'b.{3*i+j}.weight', kind: linear}"
    assert pairs(rows) == [
        ("a.0.1", "b.1.weight"),
        ("a.0.2", "b.2.weight"),
        ("a.1.1", "b.4.weight"),
        ("a.1.2", "b.5.weight"),
    ]


def test_where_keeps_only_the_rows_it_names() -> None:
    assert names("- {each: {i: 0..3}, path: 'a.{i}', kind: linear, where: {i: 1..2}}") == ["a.1", "a.2"]


def test_nested_rows_keep_the_written_order_within_each_turn() -> None:
    rows = """
- each: {i: 0..1}
  modules:
  - {path: 'x.{i}', kind: linear}
  - {path: 'y.{i}', kind: conv3x3}
"""
    assert names(rows) == ["x.0", "y.0", "x.1", "y.1"]
    assert [leaf.kind for leaf in leaves(rows)] == ["linear", "conv3x3"] * 2


def test_along_runs_beside_its_variable_and_reaches_into_parts() -> None:
    rows = "- {each: {i: 0..1}, along: {c: [4, 6]}, path: 'b.{i}', key: 'k.{i}', part: ff}"
    tail = "parts:\n  ff:\n  - {path: up, key: w.weight, kind: linear, features: [4*c, d]}\n"
    assert names(rows, "key", tail) == ["k.0.w.weight", "k.1.w.weight"]
    assert [leaf.features for leaf in leaves(rows, tail)] == [(16, 8), (24, 8)]


def test_a_part_that_comes_again_with_other_variables_comes_out_otherwise() -> None:
    rows = "- {each: {i: 0..2}, along: {last: [0, 1, 0]}, path: 'l{i}', part: p}"
    tail = "parts:\n  p:\n  - {each: {k: 0..last}, path: 'b.{k}.{i}', kind: linear}\n"
    assert names(rows, "path", tail) == ["l0.b.0.0", "l1.b.0.1", "l1.b.1.1", "l2.b.0.2"]


def test_along_must_match_the_range_it_runs_beside() -> None:
    with pytest.raises(LorapipeError, match="as many values"):
        names("- {each: {i: 0..2}, along: {c: [4, 6]}, path: 'b.{i}', kind: linear}")


def test_a_range_may_end_at_a_variable() -> None:
    rows = """
- each: {i: 0..1}
  along: {last: [0, 2]}
  path: l.{i}
  modules:
  - {each: {k: 0..last}, path: 'b.{k}', kind: linear}
"""
    assert names(rows) == ["l.0.b.0", "l.1.b.0", "l.1.b.1", "l.1.b.2"]


def test_parts_come_from_included_files_and_the_table_may_replace_them() -> None:
    shared = {"common": "parts:\n  p:\n  - {path: old, kind: linear}\n"}
    row = "- {path: a, part: p}"
    assert names(row, tail="include: [common]\n", shared=shared) == ["a.old"]
    own = "include: [common]\nparts:\n  p:\n  - {path: new, kind: linear}\n"
    assert names(row, tail=own, shared=shared) == ["a.new"]


def test_a_module_of_one_side_only_is_on_no_other() -> None:
    rows = """
- {path: q, key: qkv.weight, rows: [0, 1, 2], only: path, kind: linear}
- {key: qkv.weight, only: key, kind: linear}
- {path: out, kind: linear}
"""
    assert names(rows, "path") == ["q", "out"]
    assert names(rows, "key") == ["qkv.weight", "out.weight"]
    assert expansion(rows).stems("key")[1:] == ("qkv", "out")


def test_what_stands_inside_rows_of_one_side_is_on_that_side_or_nowhere() -> None:
    rows = """
- path: a
  only: key
  modules:
  - {path: q, only: path, kind: linear}
  - {path: out, kind: linear}
"""
    assert names(rows, "path") == []
    assert names(rows, "key") == ["a.out.weight"]


def test_a_further_side_falls_back_level_by_level() -> None:
    rows = """
- path: blocks.0
  key: double.0
  modules:
  - {path: attn.q, key: qkv.weight, rows: [0, 1, 3], only: path, kind: linear, names: {omi: qkv.0}}
  - {key: qkv.weight, only: key, kind: linear, names: {xlabs: processor.qkv_lora}}
  - {path: proj, key: out.weight, kind: linear}
"""
    tail = "sides: {omi: key, xlabs: key}\n"
    assert names(rows, "omi", tail) == ["double.0.qkv.0", "double.0.qkv", "double.0.out"]
    assert names(rows, "xlabs", tail) == ["double.0.processor.qkv_lora", "double.0.out"]


def test_a_side_that_the_table_does_not_have_is_a_fault() -> None:
    with pytest.raises(LorapipeError, match="'omi'"):
        names("- {path: a, kind: linear}", "omi")


def test_what_is_not_claimed_of_a_size_is_none() -> None:
    rows = "- {path: a, kind: linear, features: [~, d]}\n- {path: b, kind: linear}"
    assert [leaf.features for leaf in leaves(rows)] == [(None, 8), (None, None)]


def test_a_norm_that_is_called_scale_has_its_modules_name() -> None:
    rows = "- {path: norm_q, key: norm.query_norm.scale, kind: norm}\n- {path: s.scale, kind: parameter}"
    assert expansion(rows).stems("key") == ("norm.query_norm", "s.scale")
    assert expansion(rows).tensors("path") == ("norm_q.weight", "s.scale")


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ("- {path: a, part: absent}", "KeyError: 'absent'"),
        ("- {path: 'a.{i}', kind: linear}", "KeyError: 'i'"),
        ("- {path: a, kind: linear, features: [e, d]}", "KeyError: 'e'"),
    ],
)
def test_a_variable_or_part_that_is_not_there_is_a_fault_of_the_table(rows: str, problem: str) -> None:
    with pytest.raises(LorapipeError) as caught:
        expansion(rows).names("path"), expansion(rows).leaves
    assert (caught.value.code, caught.value.exit_status) == ("architecture-table", 1)
    assert str(caught.value) == f"error: the table of toy is wrong: {problem}"
