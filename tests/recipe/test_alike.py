"""One mistake that shows with several values, said once."""

from __future__ import annotations

from lorapipe.errors import Place, RecipeError
from lorapipe.recipe.alike import alike


def error(message: str, hint: str | None = None, line: int = 1, code: str = "bad") -> RecipeError:
    return RecipeError(code, message, hint=hint, where=Place(file="r.yaml", line=line, column=1))


def texts(*found: list[RecipeError]) -> list[str]:
    return [str(one) for one in alike(found)]


def test_the_same_words_are_said_once() -> None:
    assert texts([error("no", "do")], [error("no", "do")], []) == ["r.yaml:1:1: error: no - do"]
    assert texts([error("no")], [error("no")]) == ["r.yaml:1:1: error: no"]


def test_values_in_hints_are_told_up_to_three() -> None:
    def found(count: int) -> list[list[RecipeError]]:
        return [[error("no", f"$(r) is {n}")] for n in range(count)]

    assert texts(*found(2)) == ["r.yaml:1:1: error: no - $(r) is 0; $(r) is 1"]
    assert texts(*found(5)) == ["r.yaml:1:1: error: no - $(r) is 0; $(r) is 1; $(r) is 2; and 2 more"]


def test_values_in_messages_are_counted() -> None:
    assert texts([error("not 1", "x is 1")], [error("not 2", "x is 2")]) == [
        "r.yaml:1:1: error: not 1 - x is 1; and 1 more like it"
    ]
    assert texts([error("not 1")], [error("not 2")]) == ["r.yaml:1:1: error: not 1 - and 1 more like it"]


def test_other_places_other_codes_and_a_second_of_its_kind_are_other_mistakes() -> None:
    one = [error("a"), error("b"), error("c", line=2), error("d", code="other")]
    assert texts(one, one) == [str(each) for each in one]
