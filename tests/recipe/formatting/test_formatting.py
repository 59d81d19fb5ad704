"""``lorapipe fmt`` as a whole: the same recipe with the same comments, and nothing to do the second time."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from lorapipe.errors import LorapipeError, Place, RecipeError
from lorapipe.recipe.draft import Draft, render
from lorapipe.recipe.formatting import format_text
from lorapipe.recipe.nodes import to_json
from lorapipe.recipe.parsing import read

from .texts import recipes

RECIPES = sorted((Path(__file__).resolve().parents[3] / "recipes").glob("*.yaml"))


def values(text: str) -> object:
    """What a text says: order counts, but for that of a step's keys. By our reader; its own tests hold that."""
    said = to_json(read(text).root)
    assert isinstance(said, dict)
    steps = {
        name: sorted(step.items()) if isinstance(step, dict) else step for name, step in said["steps"].items()
    }
    return json.dumps([[key, steps if key == "steps" else value] for key, value in said.items()])


def notes(text: str) -> list[str]:
    """The marks that the comments of the strategy have, and its scalars have not."""
    return sorted(re.findall(r"§\d", text))


def attempt(text: str) -> tuple[str | None, tuple[LorapipeError, ...]]:
    """The text formatted, or why it was refused."""
    try:
        return format_text(text), ()
    except LorapipeError as error:
        return None, error.parts


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(recipes())
def test_it_stays_the_same_recipe_with_the_same_comments_or_is_refused_with_a_place(text: str) -> None:
    formatted, refused = attempt(text)
    if formatted is None:
        assert refused
        assert all(isinstance(one.where, Place) for one in refused)
        return
    assert values(formatted) == values(text)
    assert notes(formatted) == notes(text)
    assert format_text(formatted) == formatted


def test_most_of_what_people_might_write_is_not_refused() -> None:
    """Or the law above would hold of nothing."""
    kept: list[bool] = []

    @settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(recipes())
    def ask(text: str) -> None:
        with contextlib.suppress(LorapipeError):
            kept.append(bool(format_text(text)))

    ask()
    assert len(kept) > 25


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_recipes_of_the_repository_are_in_form(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert format_text(text, str(path)) == text


def test_what_lorapipe_writes_itself_is_in_form() -> None:
    loras = {f"lora-{number}": number / 8 for number in range(5)}
    draft = Draft(
        {
            "a": {"load": "x y.safetensors"},
            "longer": {"load": "C:/b.safetensors"},
            "sum": {"concat": {"a": 1.0, "longer": -0.5}},
            "wide": {"merge-into-checkpoint": "base", "loras": loras, "unmatched": "warn"},
            "z": {"save": "sum", "to": "out/c.safetensors"},
        },
        name="some",
        defaults={"device": "cpu"},
        head=["Written by a test."],
        remarks={"sum": ["One line", "and another"]},
    )
    assert format_text(render(draft)) == render(draft)


def test_line_ends_stay_and_a_byte_order_mark_goes() -> None:
    assert format_text("\ufefflorapipe: 1\r\nsteps:\r\n a: {load:  x.pt}") == (
        "lorapipe: 1\r\nsteps:\r\n  a: {load: x.pt}\r\n"
    )


def test_a_recipe_that_is_half_written_is_formatted_too() -> None:
    assert format_text("steps:\n    new:   {}\n    b: {laod: x}\n") == "steps:\n  new: {}\n  b:   {laod: x}\n"


def test_errors_of_the_text_are_its_errors() -> None:
    with pytest.raises(RecipeError, match="is given twice"):
        format_text("steps:\n  a: {load: x, load: y}\n")


def test_two_thousand_steps_are_quick() -> None:
    import time

    text = "lorapipe: 1\nsteps:\n" + "".join(
        f"  s{n}: {{load: 'f{n}.safetensors'}}  # {n}\n" for n in range(2000)
    )
    begin = time.process_time()
    format_text(text)
    assert time.process_time() - begin < 4
