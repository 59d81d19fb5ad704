"""The one form, case by case: before and after."""

from __future__ import annotations

import pytest

from lorapipe.recipe.formatting import format_text
from lorapipe.recipe.formatting.printing import WIDTH

CASES = {
    "two spaces a level": (
        "steps:\n      a:\n         load: x\n",
        "steps:\n  a:\n    load: x\n",
    ),
    "spaces in braces and brackets": (
        "steps:\n  a: { concat : {b: 1,c:  -0.5 } }\n  d: {concat: [ b,c ]}\n",
        "steps:\n  a: {concat: {b: 1, c: -0.5}}\n  d: {concat: [b, c]}\n",
    ),
    "braces of neighbours in one column": (
        "steps:\n  a: {load: x}\n  style: {load: y}\n\n  bb: {load: z}\n",
        "steps:\n  a:     {load: x}\n  style: {load: y}\n\n  bb: {load: z}\n",
    ),
    "a comment does not part neighbours, a step in lines does": (
        "steps:\n  a: {load: x}\n  # why\n  style: {load: y}\n  mm:\n    load: v\n  bb: {load: z}\n",
        "steps:\n  a:     {load: x}\n  # why\n  style: {load: y}\n  mm:\n    load: v\n  bb: {load: z}\n",
    ),
    "one empty line of several": ("\n\nname: x\n\n\n\nsteps: {}\n\n\n", "name: x\n\nsteps: {}\n"),
    "no empty line below a key": ("steps:\n\n  a: {}\n", "steps:\n  a: {}\n"),
    "comments in lines": (
        "# head\nsteps: # beside\n # first\n  a: {load: x} # behind\n   # above b\n\n  # b\n  b: {load: y}\n  # last\n# end",
        "# head\nsteps:  # beside\n  # first\n  a: {load: x}  # behind\n  # above b\n\n  # b\n  b: {load: y}\n  # last\n# end\n",
    ),
    "comments of neighbours in one column": (
        "steps:\n  a: {load: x} # one\n  bb: {load: longer} # two\n",
        "steps:\n  a:  {load: x}       # one\n  bb: {load: longer}  # two\n",
    ),
    "comments in braces": (
        "steps:\n  a: { # all\n    load: x, # the file\n    # its kind\n    as: lora\n    # no more\n    } # end\n",
        "steps:\n  a: {  # all\n      load: x,  # the file\n      # its kind\n      as: lora\n      # no more\n     }  # end\n",
    ),
    "a comment between a key and its value": (
        "steps:\n  a: # why\n    # so\n      {load: x}\n",
        "steps:\n  a:  # why\n    # so\n    {load: x}\n",
    ),
    "quotes only where due": (
        "name: 'plain text'\nx-a: ['no', 'null', \"1\", 'a: b', \"*ff*\", 'C:\\x', \"caf\\u00e9\"]\n",
        'name: plain text\nx-a: [no, "null", "1", "a: b", "*ff*", \'C:\\x\', "caf\\u00e9"]\n',
    ),
    "numbers and nothing as written": (
        "x-a: {a: 0.70, b: 1e-3, c: ~, d: , e}\n",
        "x-a: {a: 0.70, b: 1e-3, c: ~, d, e}\n",
    ),
    "lists in lines, deeper than their key": (
        "x-a:\n- b\n-   c: 1\n    d: 2\n- - e\n  - f\n-\n  # g\n  h: 1\n",
        "x-a:\n  - b\n  - c: 1\n    d: 2\n  - - e\n    - f\n  -\n    # g\n    h: 1\n",
    ),
    "anchors and aliases": (
        "x-a:   &a  {rank: 8}\nx-b: &b\n   c:  *a\nsteps:\n  a: {svd-resize: &s x, rank:  *a}\n",
        "x-a: &a {rank: 8}\nx-b: &b\n  c: *a\nsteps:\n  a: {svd-resize: &s x, rank: *a}\n",
    ),
    "folded and literal text moves as one": (
        "steps:\n a:\n      description: >-  # said\n           one\n             two\n\n           three\n      load: x\n",
        "steps:\n  a:\n    load: x\n    description: >-  # said\n      one\n        two\n\n      three\n",
    ),
    "text of several lines keeps its lines": (
        "name: plain\n     text\ndescription: 'one\n\n    two'\n",
        "name: plain\n  text\ndescription: 'one\n\n  two'\n",
    ),
    "three dashes stay": ("# a\n---\n# b\nname: x\n...\n# c\n", "# a\n---\n# b\nname: x\n# c\n"),
    "a comment between an anchor and its value": (
        "x-a: &k # why\n    b\n",
        "x-a: &k # why\n  b\n",
    ),
    "a recipe in braces": (
        "{lorapipe: 1,steps: {a: {as: lora,load: x}}}  # all",
        "{lorapipe: 1, steps: {a: {load: x, as: lora}}}  # all\n",
    ),
    "breaks in braces stay, but for the first": (
        "steps:\n  a: {\n    concat:\n      {b: 1, c: 2,\n d: 3}\n  }\n",
        "steps:\n  a: {concat: {b: 1, c: 2,\n               d: 3}}\n",
    ),
}


@pytest.mark.parametrize(("before", "after"), CASES.values(), ids=CASES)
def test_the_form(before: str, after: str) -> None:
    assert format_text(before) == after
    assert format_text(after) == after


def test_a_line_that_is_too_long_is_broken_behind_a_comma_and_goes_on_below_its_brace() -> None:
    terms = ", ".join(f"lora-number-{number}: 0.{number}" for number in range(10))
    text = format_text(
        f"steps:\n  merged: {{merge-into-checkpoint: base, loras: {{{terms}}}, unmatched: warn}}\n"
    )
    lines = text.splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert lines[1] == "  merged: {merge-into-checkpoint: base,"
    assert lines[2].startswith("           loras: {lora-number-0: 0.0, ")
    assert lines[3].startswith("                   lora-number-")
    assert lines[-1].endswith("unmatched: warn}")


def test_a_line_of_just_the_width_stays_and_one_more_is_broken() -> None:
    fits = "steps:\n  a: {load: " + "x" * (WIDTH - 23) + ", as: lora}\n"
    assert len(fits.splitlines()[1]) == WIDTH
    assert format_text(fits) == fits
    assert len(format_text(fits.replace("x,", "xx,")).splitlines()) == 3


def test_comments_that_would_leave_the_width_stand_two_spaces_behind() -> None:
    text = f"steps:\n  a:   {{load: x}}  # {'long ' * 15}\n  abc: {{load: {'y' * 40}}}  # short\n"
    assert format_text(text) == text.replace("long  ", "long").replace("long \n", "long\n")
