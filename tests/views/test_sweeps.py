"""Tables of sweeps: for a terminal, for a log, for a program."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from rich.console import Console

from lorapipe.build.events import OutputReady
from lorapipe.build.sweep import Quantity, Sweep, SweepTable, Variant
from lorapipe.recipe.schemas import schema_file
from lorapipe.views.built_json import built_json
from lorapipe.views.sweep_json import sweep_json
from lorapipe.views.sweeps import figure_text, print_sweep, told_quantities

from .screens import HOSTILE, log, steering, terminal, text_of

HERE = Path("/recipes")


def variant(rank: int, strength: float, **told: Any) -> Variant:
    energy = min(1.0, 0.5 + rank / 20 - strength / 10)
    facts: dict[str, Any] = {
        "path": HERE / f"out/s{strength}-r{rank}.safetensors",
        "size": rank * 100_000,
        "sha256": f"{rank:02d}" * 32,
        "state": "written",
        "figures": {"energy kept": energy, "modules": 264.0},
    }
    step = f"lora[strength={strength},rank={rank}]"
    return Variant(step=step, values={"strength": strength, "rank": rank}, **{**facts, **told})


def sweep(*variants: Variant) -> Sweep:
    found = variants or tuple(variant(rank, strength) for strength in (0.4, 1.0) for rank in (4, 8))
    axes = {axis: tuple(dict.fromkeys(one.values[axis] for one in found)) for axis in ("strength", "rank")}
    quantities = (Quantity("energy kept", "share"), Quantity("modules", "count"))
    return Sweep(axes, (SweepTable("lora", axes, quantities, found),))


def drawn(found: Sweep, console: Console) -> str:
    print_sweep(found, HERE, console)
    return text_of(console)


def test_a_sweep_is_this_table() -> None:
    held = variant(8, 1.0, state="held back", failed=("good", "small-enough"), size=None, sha256=None)
    text = drawn(sweep(variant(4, 0.4), variant(8, 0.4, state="up to date"), variant(4, 1.0), held), log())
    assert (
        text
        == """\
strength  rank  energy kept    size  output
     0.4     4       66.00%  400 kB  out/s0.4-r4.safetensors  written
     0.4     8       86.00%  800 kB  out/s0.4-r8.safetensors  up to date
     1.0     4       60.00%  400 kB  out/s1.0-r4.safetensors  written
     1.0     8       80.00%          out/s1.0-r8.safetensors  held back by good, small-enough
"""
    )


def test_several_outputs_are_several_tables_under_their_names() -> None:
    one = sweep()
    text = drawn(replace(one, tables=(one.tables[0], replace(one.tables[0], written="merged"))), log())
    assert text.startswith("lora\nstrength")
    assert "\n\nmerged\nstrength" in text


def test_what_is_the_same_in_all_variants_or_told_twice_is_one_column_or_none() -> None:
    found = sweep().tables[0]
    again = tuple(
        replace(one, figures={**one.figures, "energy": one.figures["energy kept"] + 1e-9})
        for one in found.variants
    )
    table = replace(found, quantities=(*found.quantities, Quantity("energy", "share")), variants=again)
    assert [q.name for q in told_quantities(table)] == ["energy kept"]
    alone = replace(table, variants=again[:1])
    assert [q.name for q in told_quantities(alone)] == ["energy kept", "modules"]


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_terminal_of_any_width_has_all_of_each_row(width: int) -> None:
    text = drawn(sweep(), terminal(width))
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    if width > 40:
        assert len(text.splitlines()) == 5


def test_a_narrow_terminal_has_fewer_figures_before_it_has_broken_lines() -> None:
    found = sweep().tables[0]
    names = ["energy kept", "least kept", "energy in all", "least energy", "norm"]
    figures = [{name: 0.1 * n + 0.01 * m for m, name in enumerate(names)} for n in range(len(found.variants))]
    table = replace(
        found,
        quantities=tuple(Quantity(name, "share") for name in names),
        variants=tuple(replace(one, figures=of) for one, of in zip(found.variants, figures, strict=True)),
    )
    many = replace(sweep(), tables=(table,))
    for width, shown in ((120, 4), (100, 3), (85, 2), (70, 1)):
        lines = drawn(many, terminal(width)).splitlines()
        assert len(lines) == 5
        assert [name in lines[0] for name in names] == [n < shown for n in range(5)]
    assert len(drawn(many, terminal(50)).splitlines()) > 5
    assert "kept" in drawn(many, terminal(50))


def test_a_long_sweep_is_cut_on_a_terminal_and_what_is_missing_stays() -> None:
    many = [variant(rank, 1.0) for rank in range(1, 201)]
    many[150] = replace(many[150], state="held back", failed=("good",), size=None)
    shown = drawn(sweep(*many), terminal(100)).splitlines()
    assert len(shown) == 1 + 60 + 1
    assert shown[-1] == "and 140 more: --json has all of them"
    assert "held back by good" in shown[-2]
    assert len(drawn(sweep(*many), log()).splitlines()) == 201


def test_checks_alone_have_neither_size_nor_file() -> None:
    checks = [
        replace(variant(rank, 1.0), path=None, size=None, sha256=None, state=state, failed=failed)
        for rank, state, failed in ((4, "does not hold", ("good",)), (8, "holds", ()))
    ]
    lines = drawn(sweep(*checks), log()).splitlines()
    assert lines[0].split() == ["strength", "rank", "energy", "kept"]
    assert [line.split("%")[1].strip() for line in lines[1:]] == ["does not hold", "holds"]


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("width", [None, 60])
def test_hostile_values_are_shown_and_not_obeyed(name: str, width: int | None) -> None:
    one = Variant(
        step=f"o[x={name}]",
        values={name: name},
        state=name,
        path=Path("/x", name.replace("\x00", "")),
        failed=(name,),
        figures={name: 1.0},
    )
    table = SweepTable(name, {name: (name,)}, (Quantity(name, "number"),), (one,))
    found = Sweep({name: (name,)}, (table, table))
    text = drawn(found, log() if width is None else terminal(width))
    assert not steering(text)
    json.loads(json.dumps(sweep_json(found, HERE), allow_nan=False))


@pytest.mark.parametrize(
    ("unit", "number", "text"),
    [
        ("share", 0.5, "50.00%"),
        ("share", 0.99987, "99.99%"),
        ("bytes", 1_500_000.0, "1.5 MB"),
        ("count", 1234.0, "1,234"),
        ("number", 0.0123456, "0.01235"),
        ("number", 4.29, "4.290"),
        ("number", 4290.4, "4290"),
        ("number", None, ""),
    ],
)
def test_figures_are_written_like_this(unit: str, number: float | None, text: str) -> None:
    assert figure_text(Quantity("x", unit), number) == text


def test_as_json_it_is_what_the_schema_says() -> None:
    held = variant(8, 1.0, state="held back", failed=("good",), size=None, sha256=None)
    found = sweep(variant(4, 0.4), held)
    ready = [OutputReady("lora[strength=0.4,rank=4]", Path("/x.safetensors"), "ab" * 32, 5, written=True)]
    schema = json.loads(schema_file("built.v1.schema.json").read_text())
    Draft7Validator.check_schema(schema)
    for told in (built_json(ready, found), built_json(ready, None), built_json([], None)):
        Draft7Validator(schema).validate(json.loads(json.dumps(told, allow_nan=False)))

    (table,) = sweep_json(found, HERE)["outputs"]
    assert table["figures"] == {"energy kept": "share", "modules": "count"}
    assert [one["path"] for one in table["variants"]] == [
        "out/s0.4-r4.safetensors",
        "out/s1.0-r8.safetensors",
    ]
    assert [one["failed"] for one in table["variants"]] == [[], ["good"]]


def test_the_schemas_that_have_a_sweep_agree_on_it() -> None:
    shared = ("variants", "variant", "axis-value")
    built, events = (
        json.loads(schema_file(f"{name}.v1.schema.json").read_text())["definitions"]
        for name in ("built", "events")
    )
    assert {name: built[name] for name in shared} == {name: events[name] for name in shared}
