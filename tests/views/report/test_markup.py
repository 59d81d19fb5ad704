"""Markup: whatever is put into an element or an attribute comes out of a parser as it went in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lorapipe.views.report.elements import facts, folded, section, table
from lorapipe.views.report.markup import Html, cut, joined, name, tag
from lorapipe.views.report.numerals import Numeral, count, percent, seconds, signed, size, value
from lorapipe.views.text import visible

from .pages import read_page

TEXTS = st.text(max_size=60)


@given(TEXTS, TEXTS)
def test_a_text_stays_a_text(text: str, beside: str) -> None:
    page = read_page(tag("p", text, title=beside))
    assert "".join(page.texts) == visible(text)
    assert page.elements == [("p", {"title": visible(beside)})]


@given(TEXTS)
def test_a_name_is_one_element_and_nothing_else(text: str) -> None:
    page = read_page(tag("td", name(text)))
    assert [element for element, _ in page.elements] == ["td", "bdi"]


@given(st.text(min_size=0, max_size=3000), st.integers(3, 200))
def test_what_is_cut_is_no_longer_than_asked(text: str, most: int) -> None:
    shown = cut(text, most)
    assert len(shown) <= most
    assert shown.isprintable() or shown == ""
    if len(visible(text)) <= most:
        assert shown == visible(text)


def test_markup_goes_in_as_it_is_and_text_does_not() -> None:
    assert tag("b", Html("<i>x</i>"), "<i>") == "<b><i>x</i>&lt;i&gt;</b>"
    assert joined([None, 3, "&"]) == "3&amp;"


def test_attributes_that_are_nothing_are_left_out() -> None:
    assert (
        tag("a", hidden=True, open=False, title=None, class_="x", data_v=1.5)
        == '<a hidden class="x" data-v="1.5"></a>'
    )


@given(st.floats())
def test_every_number_has_words(number: float) -> None:
    for words in (value, signed, percent, seconds):
        made = words(number)
        assert made.words
        assert (made.number is None) == (number != number or number in (float("inf"), float("-inf")))  # noqa: PLR0124  # NaN


@given(st.floats(1e-4, 1e4))
def test_three_digits_are_right_to_half_a_percent(number: float) -> None:
    assert abs(float(value(number).words) - number) <= 0.005 * number


def test_what_is_not_known_is_a_dash_and_not_a_zero() -> None:
    unknown = [words(None) for words in (value, signed, percent, seconds)] + [count(None), size(None)]
    assert {numeral.words for numeral in unknown} == {"\N{EN DASH}"}
    assert {numeral.number for numeral in unknown} == {None}


@given(
    st.lists(
        st.lists(st.one_of(TEXTS, st.floats(allow_nan=False).map(value)), min_size=3, max_size=3), max_size=5
    )
)
def test_a_table_has_a_heading_for_each_column_and_names_its_rows(rows: list[list[str | Numeral]]) -> None:
    page = read_page(table("caption", ("a", "b", "c"), rows))
    elements = [element for element, _ in page.elements]
    assert elements.count("tr") == len(rows) + 1
    assert elements.count("th") == 3 + len(rows)
    assert elements.count("td") == 2 * len(rows)
    scopes = [attributes.get("scope") for element, attributes in page.elements if element == "th"]
    assert scopes == ["col"] * 3 + ["row"] * len(rows)


def test_numbers_keep_their_exact_value_for_sorting() -> None:
    exact = 0.1234567890123456
    page = read_page(table("caption", ("a", "b"), [["x", value(exact)], ["y", value(None)]]))
    assert page.attributes("data-v") == [repr(exact)]
    assert read_page(facts([("a", value(exact))])).attributes("data-v") == [repr(exact)]


def test_parts_of_a_page_are_where_links_lead() -> None:
    page = read_page(section("here", "Title", folded("more", "text")))
    assert [element for element, _ in page.elements] == ["section", "h2", "details", "summary"]
    assert page.attributes("id") == ["here"]
