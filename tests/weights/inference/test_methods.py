"""The table of methods, what their settings may be, and how many terms they take."""

from __future__ import annotations

import pytest

from lorapipe.errors import RecipeError
from lorapipe.recipe.language import core_language
from lorapipe.weights.inference.methods import METHODS, Result, Settings, check_weights

SCHEMA = core_language().kind("combine")


def methods_of(option: str) -> set[str]:
    """The methods that an option goes with, by the schema."""
    pattern = SCHEMA.closed["dependencies"][option]["properties"]["method"]["pattern"]
    return set(pattern.removeprefix("^(?:").removesuffix(")$").split("|"))


def test_the_table_and_the_schema_have_the_same_methods_in_the_same_order() -> None:
    assert tuple(METHODS) == SCHEMA.options["method"].choices


def test_the_schema_says_of_each_option_whose_it_is() -> None:
    dense = {name for name, row in METHODS.items() if row.result is Result.DENSE}
    assert methods_of("dense") == dense
    assert methods_of("density") == dense | {"knots"}
    assert methods_of("epsilon") == {name for name, row in METHODS.items() if row.chances} == {"della"}
    assert methods_of("elect") == methods_of("normalize") == {"ties", "dare-ties", "della", "knots"}
    assert methods_of("seed") == {"dare-linear", "dare-ties", "della"}
    assert methods_of("t") == {"slerp"}
    assert methods_of("gamma") == {"breadcrumbs"}
    assert methods_of("directions") == methods_of("side") == methods_of("projection") == {"null-space"}


def test_what_an_option_is_unless_given_is_what_its_words_say() -> None:
    told = {"epsilon": 0.15, "gamma": 0.01, "t": 0.5, "elect": "total", "normalize": "mean", "side": "input"}
    for option, value in told.items():
        assert getattr(Settings(), option) == value
        words = SCHEMA.options[option].description
        assert f"{value} unless given" in words or f"{value}: " in words or f"{value} (" in words
        assert "default" not in SCHEMA.options[option].schema


@pytest.mark.parametrize("density", [0.0, -0.5, 1.1, float("nan")])
def test_a_density_is_above_0_and_at_most_1(density: float) -> None:
    with pytest.raises(RecipeError) as caught:
        Settings(density=density)
    assert (caught.value.code, caught.value.option) == ("bad-density", "density")


@pytest.mark.parametrize("factor", [0.0, float("inf"), float("nan")])
def test_a_lambda_is_a_number_other_than_0(factor: float) -> None:
    with pytest.raises(RecipeError) as caught:
        Settings(factor=factor)
    assert (caught.value.code, caught.value.option) == ("not-a-number", "lambda")


@pytest.mark.parametrize(
    ("density", "epsilon"), [(0.5, 0.15), (0.9, 0.1), (1.0, 0.4), (0.2, 0.1), (0.7, 0.0)]
)
def test_chances_within_0_and_1_are_fine(density: float, epsilon: float) -> None:
    Settings(density=density, epsilon=epsilon).check_epsilon()


@pytest.mark.parametrize(
    ("density", "epsilon", "most"), [(0.9, 0.15, "0.1"), (0.1, 0.15, "0.1"), (0.3, 0.3, "0.3")]
)
def test_chances_beyond_0_or_1_are_refused_with_what_would_do(
    density: float, epsilon: float, most: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        Settings(density=density, epsilon=epsilon).check_epsilon()
    assert caught.value.code == "bad-epsilon"
    assert str(caught.value) == (
        f"error: values are kept with a chance of density - epsilon to density + epsilon, which {density} "
        f"and {epsilon} are not - with 'density: {density}' 'epsilon' is "
        + (f"below {most}" if density <= 0.5 else f"at most {most}")
    )


@pytest.mark.parametrize(
    "method", ["slerp", "nuslerp", "karcher", "sce", "orthogonal", "null-space", "knots"]
)
def test_methods_about_two_need_two(method: str) -> None:
    with pytest.raises(RecipeError) as caught:
        check_weights(method, [("a", 1.0)])
    assert (caught.value.code, caught.value.option) == ("too-few-terms", "combine")
    assert "it has 'a' alone" in caught.value.message
    with pytest.raises(RecipeError, match="only 'b' has a weight"):
        check_weights(method, [("a", 0.0), ("b", 1.0)])
    check_weights(method, [("a", 1.0), ("b", 1.0)])


def test_the_words_for_one_too_few() -> None:
    with pytest.raises(RecipeError) as caught:
        check_weights("karcher", [("a", 1.0)])
    assert str(caught.value) == (
        "error: 'karcher' is about two LoRAs or more, it has 'a' alone"
        " - give another in braces; a single one is scaled by 'scale'"
    )


@pytest.mark.parametrize("method", ["slerp", "nuslerp"])
def test_methods_about_two_take_no_more(method: str) -> None:
    with pytest.raises(RecipeError) as caught:
        check_weights(method, [("a", 1.0), ("b", 1.0), ("c", 1.0)])
    assert str(caught.value) == (
        f"error: '{method}' is about two LoRAs, it has 3: a, b, c - 'karcher' does the like with any number"
    )
    check_weights(method, [("a", 1.0), ("b", 0.0), ("c", 1.0)])


@pytest.mark.parametrize("method", ["nuslerp", "karcher"])
def test_shares_are_not_negative(method: str) -> None:
    with pytest.raises(RecipeError) as caught:
        check_weights(method, [("a", 1.0), ("b", -0.5)])
    assert str(caught.value) == (
        f"error: weights of '{method}' are shares of the whole: 'b' cannot have -0.5"
        " - to turn it round, give it a step of its own: {scale: b, by: -1}"
    )


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"nuslerp", "karcher"}))
def test_strengths_may_be_negative(method: str) -> None:
    check_weights(method, [("a", 1.0), ("b", -0.5)])


@pytest.mark.parametrize("method", METHODS)
def test_where_nothing_has_a_weight_the_join_says_so(method: str) -> None:
    check_weights(method, [("a", 0.0), ("b", 0.0)])
