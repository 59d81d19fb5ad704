"""The language of the tables: what a table's text says, and what is wrong with one."""

from __future__ import annotations

import pytest

from lorapipe.architectures.table import Head, Naming, parse_head, parse_table
from lorapipe.errors import LorapipeError

from .toy import HEAD, toy


def test_the_head_of_a_table_is_read_without_the_rest() -> None:
    text = "title: Toy\nsource: here\naliases: [t]\nsigns: [blocks, ^head]\n---\n{ this is no YAML\n"
    assert parse_head("toy", text) == Head(
        name="toy", title="Toy", source="here", aliases=("t",), signs=("blocks",), starts=("head",)
    )


@pytest.mark.parametrize(
    ("beginning", "known"),
    [("lora_unet_blocks", True), ("headroom", True), ("lora_head", False), ("", False), ("block", False)],
)
def test_signs_stand_anywhere_and_starts_at_the_start(beginning: str, known: bool) -> None:
    head = parse_head("toy", "title: Toy\nsource: here\nsigns: [blocks, ^head]\n")
    assert head.may_know(beginning) is known


def test_a_table_of_one_document_is_a_table() -> None:
    table = parse_table("toy", HEAD.replace("---\n", "") + "    - {path: a, kind: linear}\n")
    assert (table.head.title, tuple(table.components)) == ("Toy", ("net",))


def test_a_naming_spells_a_name_with_its_separator() -> None:
    assert Naming(prefix="lora_unet_", separator="_").spell("conv_in.0") == "lora_unet_conv_in_0"
    assert Naming(prefix="unet.").spell("text_model.conv_in") == "unet.text_model.conv_in"
    assert Naming(prefix="unet.", without="text_model.").spell("text_model.conv_in") == "unet.conv_in"


def test_rows_are_one_part_or_several_in_order() -> None:
    rows = (
        toy(
            """
- {path: q, key: qkv, rows: [0, 1, 3], kind: linear}
- {path: swapped, key: ada, rows: [[1, 2, 2], [0, 1, 2]], kind: linear}
"""
        )
        .components["net"]
        .rows
    )
    assert [row.rows for row in rows] == [((0, 1, 3),), ((1, 2, 2), (0, 1, 2))]


def test_a_component_says_how_checkpoints_store_it() -> None:
    stored = toy("- {path: a, kind: linear}").components["net"].stored
    assert [(naming.prefix, naming.spells) for naming in stored] == [
        ("model.", "key"),
        ("", "key"),
        ("wrapped.", "key"),
        ("unet/", "path"),
    ]


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ("- {path: a, kind: linear, colour: red}", "unexpected keyword argument 'colour'"),
        ("- {path: a}", "needs one of kind, part, modules"),
        ("- {path: a, kind: linear, part: b}", "needs one of kind, part, modules"),
        ("- {path: a, kind: conv5x5}", "unknown kind 'conv5x5'"),
        ("- {path: a, kind: linear, only: both}", "unknown side 'both'"),
        ("- {path: a, kind: linear, rows: [2, 1, 3]}", "are no parts of one tensor"),
        ("- {path: a, kind: linear, rows: [[0, 1, 2], [1, 2, 3]]}", "are no parts of one tensor"),
        ("- {path: a, kind: linear, rows: [0, 1]}", "ValueError"),
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


def test_a_faulty_head_is_an_internal_error_too() -> None:
    with pytest.raises(LorapipeError) as caught:
        parse_head("toy", "title: Toy\n")
    assert str(caught.value) == "error: the table of toy is wrong: KeyError: 'source'"
