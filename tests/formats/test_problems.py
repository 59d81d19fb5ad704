"""Problems are gathered by kind, counted, and told in one go."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorapipe.errors import InputError, ManyErrors
from lorapipe.formats import problems
from lorapipe.formats.problems import Problems, file_name

from .sources import HeaderSource


class OnDisk(HeaderSource):
    path = Path("loras/a.safetensors")


def test_no_problem_is_no_error() -> None:
    Problems(HeaderSource({})).check()


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (1, "1 module with an up but no down: m0"),
        (3, "3 modules with an up but no down: m0, m1, m2"),
        (4, "4 modules with an up but no down: m0, m1, m2 and 1 more"),
        (264, "264 modules with an up but no down: m0, m1, m2 and 261 more"),
    ],
)
def test_names_are_counted_and_the_first_shown(count: int, text: str) -> None:
    found = Problems(OnDisk({}))
    for i in range(count):
        found.add("up-without-down", f"m{i}")
    with pytest.raises(InputError) as caught:
        found.check()
    assert str(caught.value) == (
        f"loras/a.safetensors: error: {text} - the file is incomplete or damaged: copy or download it again"
    )
    assert caught.value.code == "up-without-down"


def test_kinds_are_told_together_in_the_order_found() -> None:
    found = Problems(HeaderSource({}))
    found.add("not-finite", "a")
    found.add("bad-alpha", "b")
    found.add("not-finite", "c")
    with pytest.raises(ManyErrors) as caught:
        found.check()
    assert [error.message for error in caught.value.errors] == [
        "2 tensors with NaN or Inf: a, c",
        "1 alpha of 0, NaN or Inf: b",
    ]
    assert caught.value.exit_status == 4


def test_one_code_may_have_many_messages() -> None:
    found = Problems(HeaderSource({}))
    for kind in ("LoHa", "LoKr", "LoHa"):
        found.say("unsupported-kind", f"{{n}} tensor{{s}} of {kind}", "x", "hint")
    with pytest.raises(ManyErrors) as caught:
        found.check()
    assert [error.message for error in caught.value.errors] == [
        "2 tensors of LoHa: x, x",
        "1 tensor of LoKr: x",
    ]


def test_long_names_are_cut() -> None:
    found = Problems(HeaderSource({}))
    found.add("unknown-tensors", "x" * 10_000)
    with pytest.raises(InputError) as caught:
        found.check()
    assert len(str(caught.value)) < 300


def test_names_with_braces_are_no_templates() -> None:
    found = Problems(HeaderSource({}))
    found.add("unknown-tensors", "{n}{oops}")
    with pytest.raises(InputError, match=r"1 tensor of no LoRA module: \{n\}\{oops\}"):
        found.check()


def test_only_what_will_be_shown_is_worth_looking_up() -> None:
    found = Problems(HeaderSource({}))
    shown = []
    for i in range(5):
        shown.append(found.shows("not-finite"))
        found.add("not-finite", str(i))
    assert shown == [True, True, True, False, False]
    assert found.shows("bad-alpha")


def test_a_source_without_a_path_has_no_place() -> None:
    assert file_name(HeaderSource({})) is None
    assert file_name(OnDisk({})) == "loras/a.safetensors"


def test_every_kind_has_a_message_and_a_remedy() -> None:
    for code, kind in problems._KINDS.items():
        assert "{n}" in kind.message, code
        assert kind.hint, code
