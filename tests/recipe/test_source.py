"""Text, spans, places, and the report that collects errors."""

from __future__ import annotations

import pytest
import yaml.cyaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lorapipe.errors import ManyErrors, Place, RecipeError, UsageError
from lorapipe.recipe.source import MAX_ERRORS, Report, Source, Span


def test_a_place_counts_from_one_and_carries_its_line() -> None:
    source = Source("one\ntwo words\n", "r.yaml")
    assert source.place(Span(1, 4, 1, 9)) == Place(file="r.yaml", line=2, column=5, width=5, text="two words")


def test_of_a_span_over_several_lines_the_first_is_shown() -> None:
    place = Source("ab{c\nd}\n", "r").place(Span(0, 2, 1, 2))
    assert (place.column, place.width, place.text) == (3, 2, "ab{c")


def test_a_span_behind_the_end_is_a_place_too() -> None:
    assert Source("a", "r").place(Span(7, 0, 7, 1)) == Place(file="r", line=8, column=1, width=1, text="")


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r", "\x85", "\u2028", "\u2029"])
def test_lines_are_counted_as_the_yaml_scanner_counts_them(newline: str) -> None:
    text = f"a: 1{newline}b: [x]{newline}"
    parser = yaml.cyaml.CParser(text)
    marks = []
    while parser.check_event():
        event = parser.get_event()
        if getattr(event, "value", None) in ("b", "x"):
            marks.append((event.start_mark.line, event.start_mark.column))
    source = Source(text, "r")
    assert [source.line(line)[column] for line, column in marks] == ["b", "x"]


@settings(max_examples=50, deadline=None)
@given(st.text(alphabet="ab\n\r\u2028", min_size=1, max_size=20), st.data())
def test_span_at_finds_the_character_of_an_index(text: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(text) - 1))
    if text[at] in "\n\r\u2028":
        return
    source = Source(text, "r")
    span = source.span_at(at)
    assert source.line(span.line)[span.column] == text[at]


def report_of(text: str = "a\nb\n") -> Report:
    return Report(Source(text, "r"))


def test_a_report_without_errors_raises_nothing() -> None:
    report_of().raise_errors()


def test_one_error_is_raised_as_itself_and_several_together_in_the_order_of_the_text() -> None:
    report = report_of()
    report.add("second", "two", Span(1, 0, 1, 1), "mend it")
    with pytest.raises(RecipeError, match=r"^r:2:1: error: two - mend it$"):
        report.raise_errors()
    report.add("first", "one", Span(0, 0, 0, 1))
    report.add_error(UsageError("setting", "none"))
    with pytest.raises(ManyErrors) as caught:
        report.raise_errors()
    assert [error.code for error in caught.value.errors] == ["setting", "first", "second"]


def test_an_error_found_twice_at_one_place_is_one_error() -> None:
    report = report_of()
    report.add("same", "one", Span(0, 0, 0, 1))
    report.add("same", "one", Span(0, 0, 0, 1))
    assert len(report.errors) == 1


def test_a_text_that_is_all_errors_is_given_up() -> None:
    report = report_of()
    for number in range(MAX_ERRORS - 1):
        report.add("bad", "bad", Span(number, 0, number, 1))
    with pytest.raises(ManyErrors) as caught:
        report.add("bad", "bad", Span(MAX_ERRORS, 0, MAX_ERRORS, 1))
    assert len(caught.value.errors) == MAX_ERRORS + 1
    assert str(caught.value.errors[-1]) == f"r: error: more than {MAX_ERRORS} errors - mend these first"
