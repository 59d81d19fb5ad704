"""Step kinds as text."""

from __future__ import annotations

import pytest

from lorapipe.recipe.language import core_language
from lorapipe.recipe.parsing import parse
from lorapipe.views.language import example, kind_page, kind_table, option_takes
from lorapipe.weights.inference.scoring import REFERENCES

LANGUAGE = core_language()


def test_the_table_has_a_line_for_each_kind() -> None:
    lines = kind_table(LANGUAGE.kinds.values()).splitlines()
    assert [line.split()[0] for line in lines] == list(LANGUAGE.kinds)
    assert "svd-resize             Reduce a LoRA to a smaller rank" in lines


def test_a_page_tells_all_about_a_kind() -> None:
    assert kind_page(LANGUAGE.kind("shuffle")) == (
        "shuffle: Mix the ranks so that the sources cannot be read off\n"
        "\n"
        "Replaces a LoRA's factors by others with the same product. The delta stays what it is; with mode\n"
        "rotate the factors tell nothing of the LoRAs they came from.\n"
        "\n"
        "    {shuffle: both}\n"
        "\n"
        "  shuffle      the id of a step; required\n"
        "               The LoRA to shuffle.\n"
        "  seed         a whole number from 0 to 2^53 - 1; default 0\n"
        "               The seed: the same seed gives the same bytes on any machine.\n"
        "  mode         rotate or permute; default rotate\n"
        "               rotate: a random rotation of the sum's own singular vectors; hides the sources.\n"
        "               permute: the order of the ranks only; hides nothing.\n"
        "  description  text; a note for readers"
    )


@pytest.mark.parametrize("name", LANGUAGE.kinds)
def test_the_example_of_a_page_is_a_step_that_validates(name: str) -> None:
    others = ["char", "style", "both", "mixed", "small", "base", "tuned", "dynamic"]
    others += ["epoch-1", "epoch-2", "epoch-3"]
    loads = "".join(f"  {one}: {{load: f}}\n" for one in others)
    step = parse(f"lorapipe: 1\nsteps:\n{loads}  x: {example(LANGUAGE.kind(name))}\n").steps["x"]
    assert step.kind == name


@pytest.mark.parametrize("name", LANGUAGE.kinds)
def test_every_option_is_on_its_page_within_the_width(name: str) -> None:
    kind = LANGUAGE.kind(name)
    page = kind_page(kind)
    for option in kind.options.values():
        assert f"\n  {option.name} " in page
        assert option_takes(option)
    assert all(len(line) <= 100 for line in page.splitlines())


def test_an_option_takes_what_its_schema_says() -> None:
    options = {**LANGUAGE.kind("svd-resize").options, **LANGUAGE.kind("save").options}
    assert option_takes(options["rank"]) == "a whole number from 1"
    assert option_takes(options["metadata"]) == "a map"
    assert option_takes(options["to"]) == "a file to write"
    assert option_takes(LANGUAGE.kind("load").options["family"]) == "text"


def test_the_keys_of_a_map_are_under_the_option_that_takes_it_further_in() -> None:
    page = kind_page(LANGUAGE.kind("svd-resize"))
    _, _, score = page.partition("\n  score ")
    score, _, _ = score.partition("\n  max-size ")
    names = [line[:22].rstrip() for line in score.splitlines()[1:] if line[:22].strip()]
    assert (names[:2], names[-1]) == (["    against", "    by"], "    threshold")
    assert names[2:-1] == [f"      {name}" for name in REFERENCES]
