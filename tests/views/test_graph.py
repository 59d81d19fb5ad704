"""Graphs for other programs: whatever the names are, the syntax holds."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorapipe.recipe.model import Recipe
from lorapipe.recipe.parsing import parse
from lorapipe.views.graph import FORMATS, dot, mermaid

from .screens import HOSTILE, steering

RECIPE = """
lorapipe: 1
steps:
  a: {load: loras/a.safetensors}
  b: {load: b.safetensors}
  both: {concat: {a: 1.0, b: -0.4}, description: '"]; not part of a graph'}
  small: {svd-resize: both, rank: 4}
  out: {save: small, to: out/small.safetensors}
"""


def recipe(name: str) -> Recipe:
    """Two steps, the file of the first called ``name``."""
    # A recipe's text may not hold every character; the graph must not depend on that.
    made = parse("lorapipe: 1\nsteps:\n  end: {load: x.pt}\n  graph: {save: end, to: o.safetensors}\n")
    named = replace(made.steps["end"], params={**made.steps["end"].params, "load": name})
    return replace(made, steps={**made.steps, "end": named})


def test_the_mermaid_graph_of_a_small_recipe_is_this_text() -> None:
    assert (
        mermaid(parse(RECIPE))
        == """\
flowchart LR
    s0[("a<br>load<br>a.safetensors")]
    s1[("b<br>load<br>b.safetensors")]
    s2["both<br>concat"]
    s3["small<br>svd-resize"]
    s4[/"out<br>save<br>small.safetensors"/]
    s0 --> s2
    s1 -->|-0.4| s2
    s2 --> s3
    s3 --> s4
"""
    )


def test_the_dot_graph_of_a_small_recipe_is_this_text() -> None:
    assert (
        dot(parse(RECIPE))
        == """\
digraph recipe {
    rankdir=LR
    node [shape=box]
    "a" [label="a\\nload\\na.safetensors" shape=cylinder]
    "b" [label="b\\nload\\nb.safetensors" shape=cylinder]
    "both" [label="both\\nconcat"]
    "small" [label="small\\nsvd-resize"]
    "out" [label="out\\nsave\\nsmall.safetensors" shape=note]
    "a" -> "both"
    "b" -> "both" [label="-0.4"]
    "both" -> "small"
    "small" -> "out"
}
"""
    )


def test_a_step_used_twice_by_another_has_an_edge_for_each_port() -> None:
    found = mermaid(parse("""
lorapipe: 1
steps:
  base: {load: m.safetensors}
  a: {load: a.safetensors}
  merged: {merge-into-checkpoint: base, loras: {a: 0.5}}
  out: {save: merged, to: o.safetensors}
"""))  # fmt: skip
    assert "    s0 --> s2\n    s1 -->|0.5| s2\n    s2 --> s3\n" in found


# The grammar of what is written, rule by rule. Mermaid: a quoted label ends at the first quote, `#` begins
# an entity of its own, a label in backticks is Markdown. Dot: a string ends at a quote without backslash.
MERMAID_LINE = re.compile(
    r'    s\d+(?:\[\("[^"#`]*"\)\]|\[/"[^"#`]*"/\]|\["[^"#`]*"\])|    s\d+ -->(?:\|-?[0-9.e+-]+\|)? s\d+'
)
DOT_STRING = r'"(?:[^"\\]|\\.)*"'
DOT_LINE = re.compile(
    rf"    {DOT_STRING} \[label={DOT_STRING}(?: shape=\w+)?\]"
    rf"|    {DOT_STRING} -> {DOT_STRING}(?: \[label={DOT_STRING}\])?"
)


def mermaid_names(text: str) -> list[str]:
    """The file names that a reader of the graph sees; every line is checked against the grammar."""
    head, *lines = text.splitlines()
    assert head == "flowchart LR"
    for line in lines:
        assert MERMAID_LINE.fullmatch(line.replace("`", "'")), line
    labels = [re.search('"(.*)"', line) for line in lines]
    shown = [label[1].split("<br>") for label in labels if label]
    return [html.unescape(parts[2]) for parts in shown if len(parts) == 3]


def dot_names(text: str) -> list[str]:
    lines = text.splitlines()
    assert lines[:3] == ["digraph recipe {", "    rankdir=LR", "    node [shape=box]"]
    assert lines[-1] == "}"
    for line in lines[3:-1]:
        assert DOT_LINE.fullmatch(line), line
    found = [re.search(rf"label=({DOT_STRING}) shape", line) for line in lines]
    labels = [label[1][1:-1] for label in found if label]
    parts = [re.split(r"(?<!\\)(?:\\\\)*\\n", label) for label in labels]
    return [html.unescape(re.sub(r"\\(.)", r"\1", part[2])) for part in parts if len(part) == 3]


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("form", FORMATS)
def test_a_hostile_file_name_cannot_break_out_of_its_label(form: str, name: str) -> None:
    text = FORMATS[form](recipe(f"{name}.safetensors"))

    assert not steering(text)
    assert len(text.splitlines()) == {"mermaid": 4, "dot": 7}[form]
    assert "<script" not in text or form == "dot"
    (mermaid_names if form == "mermaid" else dot_names)(text)


FILE_NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=40).filter(
    lambda name: "/" not in name and "$" not in name and name.strip() == name and name.isprintable()
)


@given(FILE_NAMES)
def test_every_printable_name_is_shown_as_it_is(name: str) -> None:
    made = recipe(f"x{name}.safetensors")
    assert mermaid_names(mermaid(made)) == [f"x{name}.safetensors", "o.safetensors"]
    assert dot_names(dot(made)) == [f"x{name}.safetensors", "o.safetensors"]


def test_a_step_named_as_a_word_of_the_language_is_still_a_step() -> None:
    assert mermaid(recipe("a.safetensors")).splitlines()[1].startswith("    s0[")
    assert '    "end" -> "graph"' in dot(recipe("a.safetensors"))


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_graphviz_itself_reads_it(name: str) -> None:
    program = shutil.which("dot")
    if program is None:
        pytest.skip("Graphviz is not installed")
    text = dot(recipe(f"{name}.safetensors")).encode()
    done = subprocess.run([program, "-Tcanon"], input=text, capture_output=True, check=False, timeout=20)
    assert (done.returncode, done.stderr) == (0, b"")


SWEEP = """
lorapipe: 1
matrix: {strength: [0.5, 1.0], rank: [2, 4, 8]}
steps:
  a: {load: a.safetensors}
  b: {load: b.safetensors}
  both: {concat: {a: $(strength), b: -0.4}}
  small: {svd-resize: both, rank: $(rank)}
  good: {check: small, finite: true}
  out: {save: small, to: out/s$(strength)-r$(rank).safetensors}
"""


def test_the_variants_of_a_step_are_one_node() -> None:
    assert (
        mermaid(parse(SWEEP))
        == """\
flowchart LR
    s0[("a<br>load<br>a.safetensors")]
    s1[("b<br>load<br>b.safetensors")]
    s2["both<br>concat<br>2 variants"]
    s3["small<br>svd-resize<br>6 variants"]
    s4{{"good<br>check<br>6 variants"}}
    s5[/"out<br>save<br>6 variants"/]
    s0 --> s2
    s1 -->|-0.4| s2
    s2 --> s3
    s3 --> s4
    s3 --> s5
    s4 -.-> s5
"""
    )
    assert dot(parse(SWEEP)).count("->") == 6


def test_each_variant_is_a_node_for_who_asks() -> None:
    text = mermaid(parse(SWEEP), each=True)
    assert text.count("svd-resize") == 6
    assert "-->|0.5|" in text
    assert "small[strength=0.5,rank=8]" in text
    assert dot(parse(SWEEP), each=True).count("->") == 4 + 6 + 6 + 6 + 6
