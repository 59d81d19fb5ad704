"""Everything that a layout cannot hold comes at once, counted, three of each by name."""

from __future__ import annotations

import pytest

from lorapipe.errors import ManyErrors, RecipeError
from lorapipe.formats.layouts.refusals import Refusals


def test_nothing_refused_is_no_error() -> None:
    Refusals("layout").check()


def test_one_reason_is_one_error_at_its_option() -> None:
    refused = Refusals("layout")
    for name in "abbcde":
        refused.say("no-name", "{n} module{s} without a name", name, "choose another")
    with pytest.raises(RecipeError) as caught:
        refused.check()
    assert str(caught.value) == "error: 5 modules without a name: a, b, c and 2 more - choose another"
    assert (caught.value.code, caught.value.option) == ("no-name", "layout")


def test_several_reasons_come_together_in_the_order_found() -> None:
    refused = Refusals("save")
    refused.say("b", "{n} module{s} of b", "x", "h")
    refused.say("a", "{n} module{s} of a", "y", "h")
    refused.say("b", "{n} module{s} of b", "z", "h")
    with pytest.raises(ManyErrors) as caught:
        refused.check()
    assert [str(error) for error in caught.value.errors] == [
        "error: 2 modules of b: x, z - h",
        "error: 1 module of a: y - h",
    ]
