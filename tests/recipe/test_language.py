"""The language as values."""

from __future__ import annotations

import pytest

from lorapipe.recipe.language import HOLE, RESERVED, FileUse, Port, closed, core_language

LANGUAGE = core_language()


def test_ports_files_params_and_defaults_follow_from_the_schemas() -> None:
    table = {
        kind.name: (dict(kind.ports), dict(kind.files), kind.params, dict(kind.defaults), kind.required)
        for kind in LANGUAGE.kinds.values()
    }
    step, terms = Port.STEP, Port.TERMS
    assert table == {
        "load": (
            {},
            {"load": FileUse.INPUT},
            ("load", "as", "family", "alpha", "variant", "sha256"),
            {},
            ("load",),
        ),
        "scale": ({"scale": step}, {}, ("by", "components", "blocks", "modules"), {}, ("scale",)),
        "concat": ({"concat": terms}, {}, (), {}, ("concat",)),
        "combine": (
            {"combine": terms},
            {},
            (
                *("method", "density", "seed", "elect", "normalize", "lambda", "epsilon", "gamma", "t"),
                *("directions", "side", "projection", "rank", "conv-rank", "conv1x1-rank", "dense"),
            ),
            {},
            ("combine", "method"),
        ),
        "shuffle": ({"shuffle": step}, {}, ("seed", "mode"), {"seed": 0, "mode": "rotate"}, ("shuffle",)),
        "svd-resize": (
            {"svd-resize": step, "score.against": step},
            {},
            ("rank", "conv-rank", "conv1x1-rank", "dynamic", "score", "max-size"),
            {},
            ("svd-resize",),
        ),
        "merge-into-checkpoint": (
            {"merge-into-checkpoint": step, "loras": terms},
            {},
            ("unmatched", "strength-rule"),
            {"unmatched": "error", "strength-rule": "exact"},
            ("merge-into-checkpoint", "loras"),
        ),
        "extract-lora": (
            {"extract-lora": terms, "base": terms},
            {},
            (
                *("rank", "conv-rank", "conv1x1-rank", "dynamic", "components"),
                *("min-diff", "bias", "full", "method", "unmatched"),
            ),
            {"bias": "none", "full": False, "method": "exact", "unmatched": "error"},
            ("extract-lora", "base", "rank"),
        ),
        "dylora-slice": (
            {"dylora-slice": step},
            {},
            ("components", "alpha"),
            {"alpha": "keep"},
            ("dylora-slice", "components"),
        ),
        "ema": (
            {"ema": terms},
            {},
            ("decay", "sigma-rel", "steps", "average"),
            {"average": "factors"},
            ("ema",),
        ),
        "filter": ({"filter": step}, {}, ("keep", "drop"), {}, ("filter",)),
        "check": (
            {"check": step, "energy.of": step, "differs-from": step},
            {},
            ("rank", "modules", "finite", "norm", "energy"),
            {"finite": False},
            ("check",),
        ),
        "save": (
            {"save": step},
            {"to": FileUse.OUTPUT},
            ("to", "dtype", "shard-size", "metadata", "provenance", "layout", "dense"),
            {"dtype": "keep", "provenance": "full", "layout": "keep", "dense": False},
            ("save", "to"),
        ),
    }


def test_kinds_options_and_reserved_keys_are_disjoint_and_without_dots() -> None:
    kinds = set(LANGUAGE.kinds)
    options = {name for kind in LANGUAGE.kinds.values() for name in kind.options if name != kind.name}
    assert not kinds & options
    assert not (kinds | options | {"description"}) & set(RESERVED)
    assert not any("." in name for name in kinds | options)


def test_the_main_option_has_the_name_of_the_kind_and_comes_first() -> None:
    for kind in LANGUAGE.kinds.values():
        assert next(iter(kind.options)) == kind.name == kind.main.name
        assert kind.main.required


def test_having_finds_the_kinds_with_an_option() -> None:
    assert [kind.name for kind in LANGUAGE.having("rank")] == [
        "combine",
        "svd-resize",
        "extract-lora",
        "check",
    ]
    assert list(LANGUAGE.having("none")) == []


def test_a_port_inside_of_an_option_goes_by_both_names_and_the_option_is_no_port() -> None:
    check = LANGUAGE.kind("check")
    assert check.options["energy"].inner == {"of": Port.STEP}
    assert check.options["energy"].port is None
    assert check.options["energy"].ports == {"energy.of": Port.STEP}


def test_of_files_and_of_what_gives_nothing_no_step_can_make_use() -> None:
    assert [kind.name for kind in LANGUAGE.kinds.values() if kind.last] == ["check", "save"]


def test_an_unknown_kind_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        LANGUAGE.kind("svd-resise")


def test_an_extended_language_leaves_the_core_as_it_is() -> None:
    schema = {
        "properties": {
            "acme.x": {"$ref": "../common.schema.json#/definitions/terms"},
            "to": {"type": "string"},
        }
    }
    extended = LANGUAGE.extended({"acme.x": schema})
    assert extended.kind("acme.x").ports == {"acme.x": Port.TERMS}
    assert "acme.x" not in LANGUAGE.kinds
    assert list(extended.kinds) == [*LANGUAGE.kinds, "acme.x"]


@pytest.mark.parametrize(
    ("schema", "without"),
    [
        (
            {"type": ["integer", "string"], "pattern": f"^{HOLE}$", "minimum": 1},
            {"type": ["integer"], "minimum": 1},
        ),
        ({"type": "string", "pattern": f"^(?:a|b|{HOLE})$"}, {"type": "string", "pattern": "^(?:a|b)$"}),
        ({"type": "string", "pattern": "^x$"}, {"type": "string", "pattern": "^x$"}),
        ({"items": [{"pattern": f"^(?:a|{HOLE})$"}]}, {"items": [{"pattern": "^(?:a)$"}]}),
    ],
)
def test_a_closed_schema_has_no_place_for_holes(schema: object, without: object) -> None:
    assert closed(schema) == without


def test_nothing_of_a_closed_kind_speaks_of_holes() -> None:
    for kind in LANGUAGE.kinds.values():
        for option in kind.closed["properties"].values():
            assert HOLE not in str(option.get("pattern"))


def test_an_option_that_takes_a_map_tells_its_keys() -> None:
    score = LANGUAGE.kind("svd-resize").options["score"]
    parts = {part.name: part for part in score.parts}
    assert list(parts) == ["score.against", "score.by", "score.threshold"]
    assert (parts["score.by"].required, parts["score.threshold"].required) == (True, False)
    assert parts["score.against"].port is Port.STEP
    assert [part.name for part in parts["score.by"].parts][:2] == ["score.by.spectral", "score.by.frobenius"]
    assert LANGUAGE.kind("concat").options["concat"].parts == ()
