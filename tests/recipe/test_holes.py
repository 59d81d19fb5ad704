"""``$(name)``: what is inserted, with which type, and where errors stand."""

from __future__ import annotations

import pytest

from lorapipe.recipe.compose import compose
from lorapipe.recipe.holes import Value, fill
from lorapipe.recipe.nodes import Node, Scalar, to_json
from lorapipe.recipe.parsing import parse
from lorapipe.recipe.source import Report, Source, Span

from .complaints import complaints

VALUES = {
    "n": Value(4, "4"),
    "w": Value(0.8, "0.80"),
    "e": Value(1000.0, "1e3"),
    "t": Value(True, "True"),
    "s": Value("char", "char"),
    "nested": Value("$(s)", "$(s)"),
    "due": Value(None, "", known=False),
}


def filled(text: str) -> tuple[Node, Report]:
    report = Report(Source(text, "r"))
    return fill(compose(report), VALUES, report), report


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$(n)", 4),
        ("$(w)", 0.8),
        ("$(t)", True),
        ("$(s)", "char"),
        ("'$(n)'", 4),
        ('"$(n)"', 4),
        ("a $(n)", "a 4"),
        ("$(n) ", 4),
        ("'$(n) '", "4 "),
        ("out/$(s)-$(w).safetensors", "out/char-0.80.safetensors"),
        ("$(e)x", "1e3x"),
        ("$(t)!", "True!"),
        ("$$(n)", "$(n)"),
        ("$$$(n)", "$$(n)"),
        ("$(n)$$($(s)", "4$(char"),
        ("$n (n) $ $)", "$n (n) $ $)"),
        ("$(nested)", "$(s)"),
        ("x$(nested)", "x$(s)"),
    ],
)
def test_a_hole_keeps_its_type_alone_and_is_text_inside_text(text: str, value: object) -> None:
    node, report = filled(text)
    assert not report.errors
    assert to_json(node) == value
    assert type(to_json(node)) is type(value)


def test_lists_and_maps_are_filled_and_keys_are_not() -> None:
    node, report = filled("{a: [$(n), {b: $(w)}], c: d}")
    assert to_json(node) == {"a": [4, {"b": 0.8}], "c": "d"}
    assert not report.errors


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("$(neted)", "r:1:1: error: no param 'neted' - did you mean 'nested'?"),
        ("x$(zzzz)", "r:1:2: error: no param 'zzzz' - declare it: params: {zzzz: ...}"),
        ("a $(N) b", "r:1:3: error: '$(' begins a value to insert - write $(name) with a name from params, or $$( for the text"),
        ("$(n", "r:1:1: error: '$(' begins a value to insert - write $(name) with a name from params, or $$( for the text"),
        ("{$(s): 1}", "r:1:2: error: a key takes no $(name): '$(s)'"),
        ("x" + "$(n)" * 101, "r:1:1: error: more than 100 times $( in one value"),
    ],
)  # fmt: skip
def test_what_cannot_be_filled_is_refused_at_the_hole(text: str, error: str) -> None:
    _, report = filled(text)
    assert [str(one) for one in report.errors] == [error]


@pytest.mark.parametrize("text", ["$(due)", "a$(due)b", "$(zzzz)"])
def test_what_depends_on_a_missing_value_is_unknown(text: str) -> None:
    node, _ = filled(text)
    assert isinstance(node, Scalar)
    assert node.unknown


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("aa $(n)", Span(0, 3, 0, 7)),
        ("'it''s $(n)'", Span(0, 7, 0, 11)),
        ('"\\t$(n)"', Span(0, 3, 0, 7)),
        ("|\n  line\n  $(n) x\n", Span(2, 2, 2, 6)),
        ("a\n  b $(n)\n", Span(1, 4, 1, 8)),
        ('"\\x24(n)"', Span(0, 0, 0, 9)),
    ],
)
def test_a_hole_is_found_in_the_source_however_it_is_quoted(text: str, span: Span) -> None:
    node, _ = filled(text)
    assert isinstance(node, Scalar)
    assert [hole.span for hole in node.inserted] == [span]


def test_a_recipe_is_filled_in_values_and_not_where_they_come_from() -> None:
    recipe = parse(
        "lorapipe: 1\nname: n-$(s)\ndescription: of $(s)\nparams: {s: char, w: 2, c: float32}\n"
        "defaults: {compute: $(c)}\nx-mine: $(s)\nsteps: {a: {load: x}, b: {concat: {a: $(w)}}}\n"
    )
    assert recipe.name == "n-char"
    assert recipe.description == "of char"
    assert recipe.defaults["compute"] == "float32"
    assert recipe.extensions["x-mine"] == "$(s)"
    assert recipe.steps["b"].inputs["concat"][0].weight == 2.0


def test_a_hole_may_name_a_step() -> None:
    text = "lorapipe: 1\nparams: {which: a}\nsteps: {a: {load: x}, b: {shuffle: $(which)}}"
    assert parse(text).steps["b"].inputs["shuffle"][0].step == "a"
    assert complaints(text.replace("which: a", "which: zzzz")) == [
        "r.yaml:3:36: error: no step 'zzzz' - $(which) is 'zzzz'"
    ]
