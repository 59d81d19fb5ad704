"""Recipe text to Recipe, whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator

import lorapipe.recipe
from lorapipe.errors import InputError, ManyErrors, RecipeError
from lorapipe.recipe.compose import MAX_BYTES
from lorapipe.recipe.language import core_language
from lorapipe.recipe.model import Term
from lorapipe.recipe.parsing import instantiate, load_recipe, parse, read
from lorapipe.recipe.schemas import bundle

from .complaints import HEAD, complaints, errors_of

LANGUAGE = core_language()

FIRST = """\
# yaml-language-server: $schema=recipe.v1.schema.json
lorapipe: 1
name: char-minus-style
params: {strength: 0.8}                 # lorapipe run char.yaml --set strength=0.6
defaults: {device: auto}                # auto | cpu | cuda | cuda:1 | mps

steps:
  base:   {load: models/sdxl.safetensors}
  char:   {load: loras/char.safetensors, sha256: DIGEST}
  style:  {load: loras/style.safetensors}

  both:   {concat: {char: $(strength), style: -1.0}}
  mixed:  {shuffle: both, seed: 7}
  small:  {svd-resize: mixed, rank: 32, conv-rank: 16}
  model:  {merge-into-checkpoint: base, loras: {small: 1.0}}

  lora:   {save: small, to: out/char-minus-style.safetensors, dtype: bf16}
  merged: {save: model, to: out/sdxl-char.safetensors}
""".replace("DIGEST", "3f2a" * 16)


def terms(*pairs: tuple[str, float]) -> list[tuple[str, float]]:
    return list(pairs)


def test_the_first_recipe_reads_as_it_is_meant() -> None:
    recipe = parse(FIRST, "char.yaml")
    assert recipe.file == "char.yaml"
    assert recipe.name == "char-minus-style"
    assert recipe.params == {"strength": 0.8}
    assert list(recipe.steps) == [
        "base",
        "char",
        "style",
        "both",
        "mixed",
        "small",
        "model",
        "lora",
        "merged",
    ]
    written = {
        step.id: (
            step.kind,
            {p: [(t.step, t.weight) for t in ts] for p, ts in step.inputs.items()},
            dict(step.params),
        )
        for step in recipe.steps.values()
    }
    assert written["char"] == ("load", {}, {"load": "loras/char.safetensors", "sha256": "3f2a" * 16})
    assert written["both"] == ("concat", {"concat": terms(("char", 0.8), ("style", -1.0))}, {})
    assert written["mixed"] == ("shuffle", {"shuffle": terms(("both", 1.0))}, {"seed": 7, "mode": "rotate"})
    assert written["model"] == (
        "merge-into-checkpoint",
        {"merge-into-checkpoint": terms(("base", 1.0)), "loras": terms(("small", 1.0))},
        {"unmatched": "error", "strength-rule": "exact"},
    )
    assert written["lora"][2]["dtype"] == "bf16"


def test_a_setting_replaces_a_param() -> None:
    term = parse(FIRST, params={"strength": 0.6}).steps["both"].inputs["concat"][0]
    assert isinstance(term, Term)
    assert term.weight == 0.6


# Every error as the design shows it, each on the line and column that it shows.
DESIGN = """\
lorapipe: 1
params: {r: four}
steps:
  a: {load: a.safetensors}
  b: {load: b.safetensors}


  typo-kind: {svd-resise: a}
  typo-opt: {svd-resize: a, rnak: 8}
  two: {shuffle: a, svd-resize: b}
  none: {rank: 8}


  wrong: {svd-resize: a, rank: four}


  hole: {svd-resize: a, rank: $(r)}

  oot: {shuffle: typo-oot}
  file:    {concat: [a, c.safetensors]}
  sp: {scale: a, by: 1.0}
  spc:
    concat: {a:0.7, b: -0.4}
  braces: {concat: a,
           b: -0.4}


  dup: {scale: a, by: 1, by: 2}
"""


def test_the_errors_of_the_design_read_as_they_should() -> None:
    """All in one pass."""
    ranked = ", ".join(kind.name for kind in LANGUAGE.having("rank"))
    assert errors_of(lambda: instantiate(read(DESIGN, "char.yaml"), {}, LANGUAGE)) == [
        "char.yaml:8:15: error: no step kind 'svd-resise' - did you mean 'svd-resize'?",
        "char.yaml:9:29: error: svd-resize has no option 'rnak' - did you mean 'rank'?",
        "char.yaml:10:21: error: step 'two' has two kinds: shuffle and svd-resize - give each its own step; 'svd-resize' could take 'two'",
        f"char.yaml:11:3: error: step 'none' has no kind - 'rank' is an option of {ranked}",
        "char.yaml:14:32: error: 'rank' takes a whole number from 1, or $(name), not 'four'",
        "char.yaml:17:31: error: 'rank' takes a whole number from 1, or $(name) - $(r) is 'four'",
        "char.yaml:19:18: error: no step 'typo-oot' - did you mean 'typo-opt'?",
        "char.yaml:20:25: error: no step 'c.safetensors' - a file is read by its own step: {load: c.safetensors}",
        "char.yaml:23:14: error: 'a:0.7' needs a space after the colon",
        "char.yaml:25:12: error: concat has no option 'b' - 'b' is a step: weights go in braces, {concat: {a: 1.0, b: -0.4}}",
        "char.yaml:28:26: error: 'by' is given twice - first at line 28",
    ]  # fmt: skip


def test_many_errors_have_the_exit_status_of_a_recipe() -> None:
    with pytest.raises(ManyErrors) as caught:
        parse(DESIGN)
    assert caught.value.exit_status == 3
    with pytest.raises(RecipeError):
        parse("")


def test_a_document_may_be_filled_again_and_again() -> None:
    document = read(FIRST)
    weights = [
        instantiate(document, {"strength": w}).steps["both"].inputs["concat"][0].weight for w in (1, 2)
    ]
    assert weights == [1.0, 2.0]


def test_the_package_offers_its_public_names_and_no_others() -> None:
    for name in lorapipe.recipe.__all__:
        assert getattr(lorapipe.recipe, name) is not None
    assert lorapipe.recipe.parse is parse
    with pytest.raises(AttributeError, match="has no attribute 'prase'"):
        lorapipe.recipe.prase  # noqa: B018 - the access is the test


# --- files ------------------------------------------------------------------------------


def test_a_file_is_read_under_the_name_given(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + HEAD.encode().replace(b"\n", b"\r\n"))
    recipe = load_recipe(path)
    assert recipe.file == str(path)
    assert recipe.steps["a"].place.line == 3
    assert recipe.steps["a"].place.text == "  a: {load: a.safetensors}"


@pytest.mark.parametrize(
    ("name", "reason"),
    [("missing.yaml", "no such file or directory"), (".", "is a directory"), ("a\0b", "embedded null byte")],
)
def test_a_file_that_cannot_be_read_is_an_input_error(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        load_recipe(str(tmp_path / name))
    assert caught.value.exit_status == 4


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"a: 1\nb: caf\xe9\n", "r.yaml:2:7: error: the byte 0xe9 is not UTF-8 - save the file as UTF-8"),
        ("a: 1\n".encode("utf-16"), "r.yaml:1:1: error: the byte 0xff is not UTF-8 - save the file as UTF-8"),
        (b"a: \xc3\xa9\xff", "r.yaml:1:5: error: the byte 0xff is not UTF-8 - save the file as UTF-8"),
        (b"\xef\xbb\xbfa: \xff", "r.yaml:1:4: error: the byte 0xff is not UTF-8 - save the file as UTF-8"),
        (b"a: " + b"x" * MAX_BYTES, f"r.yaml:1:1: error: a recipe has at most {MAX_BYTES} bytes"),
        (b"\xe2\x82" * MAX_BYTES, f"r.yaml:1:1: error: a recipe has at most {MAX_BYTES} bytes"),
    ],
)
def test_bytes_that_are_no_recipe_are_refused_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, error: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_bytes(data)
    assert errors_of(lambda: load_recipe("r.yaml")) == [error]


# --- laws -------------------------------------------------------------------------------

ids = st.sampled_from(["a", "b", "c"])
scalars = st.sampled_from(
    [None, True, 0, 1, 4, 4.0, -3, 0.5, 2**53, "", "a", "four", "fp16", "rotate", "x.pt", "x.txt", "$(v)", "a" * 64, "UP", "lora"]
)  # fmt: skip
terms_of = st.one_of(
    ids,
    st.lists(ids, max_size=3),
    st.dictionaries(ids, scalars, max_size=3),
    scalars.filter(lambda value: value not in ("a", "four", "rotate", "lora", "fp16", "a" * 64)),
)
keys = [*sorted({name for kind in LANGUAGE.kinds.values() for name in kind.options}), "description", "rnak"]
values = st.one_of(
    scalars, terms_of, st.dictionaries(st.sampled_from(["unet", "te", "vae", "k"]), scalars, max_size=2)
)


@st.composite
def steps(draw: st.DrawFn) -> dict[str, Any]:
    """A step, mostly near to a right one."""
    kind = LANGUAGE.kind(draw(st.sampled_from(sorted(LANGUAGE.kinds))))
    step: dict[str, Any] = {}
    for option in kind.options.values():
        if draw(st.integers(0, 9)) < (9 if option.required else 3):
            right = option.examples[0] if option.port is None else "a"
            right = {**right, **dict.fromkeys(option.inner, "a")} if option.inner else right
            step[option.name] = draw(st.one_of(st.just(right), values if option.port is None else terms_of))
    for key in draw(st.lists(st.sampled_from(keys), max_size=1)):
        # Words of other kinds' ports would be unknown steps, which no schema knows of.
        step.setdefault(
            key, draw(terms_of if any(key in k.ports for k in LANGUAGE.kinds.values()) else values)
        )
    return step


VALIDATOR = Draft7Validator(bundle(LANGUAGE.files))


@settings(max_examples=400, deadline=None)
@given(steps())
def test_lorapipe_and_the_bundle_agree_on_every_step(step: dict[str, Any]) -> None:
    """An editor shows a mistake where validate shows one, and nowhere else."""
    recipe = {"lorapipe": 1, "params": {"v": None}, "steps": {i: {"load": "f"} for i in "abc"} | {"x": step}}
    ours = [
        error
        for error in complaints(json.dumps(recipe))
        if "param 'v' needs a value" not in error
    ]  # fmt: skip
    theirs = [error.message for error in VALIDATOR.iter_errors(recipe)]
    assert bool(ours) == bool(theirs), (ours, theirs)


pieces = st.sampled_from(
    ["lorapipe: 1\n", "steps:\n", "  a: ", "{load: f}\n", "{", "}", "[", "]", ": ", ", ", "\n", "  ", "- ", "a", "b", "x",
     "svd-resize: a", "rank: 4", "concat: {a: 1}", "save: a", "to: x.pt", "$(v)", "$$(", "$(", "params: {v: 1}\n",
     "&a ", "*a", "!t ", "<<: ", "'", '"', "#", "|\n", "012", "1e3", ".inf", "~", "\t", "\x00", "é", "acme.x: a", "matrix: {}\n"]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    st.lists(pieces, max_size=25).map("".join), st.dictionaries(st.sampled_from("vw"), scalars, max_size=2)
)
def test_no_text_raises_anything_but_errors_with_a_message(text: str, params: dict[str, Any]) -> None:
    for start in ("", HEAD, "lorapipe: 1\nparams: {v: 1}\nsteps:\n  a: {load: f}\n  b: "):
        assert all(complaints(start + text, params))


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60))
def test_any_text_at_all_is_read_or_refused(text: str) -> None:
    assert all(complaints(text))


@settings(max_examples=50, deadline=None)
@given(st.permutations(FIRST.splitlines()[7:]))
def test_the_order_of_steps_does_not_matter(lines: list[str]) -> None:
    shuffled = parse("\n".join([*FIRST.splitlines()[:7], *lines]))
    straight = parse(FIRST)
    assert {s.id: (s.kind, s.params) for s in shuffled.steps.values()} == {
        s.id: (s.kind, s.params) for s in straight.steps.values()
    }


def test_parsing_loads_neither_torch_nor_networkx_nor_numpy() -> None:
    script = (
        "import sys; from lorapipe.recipe import parse; parse(sys.argv[1]);"
        "print([name for name in ('torch', 'networkx', 'numpy', 'click', 'rich') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, FIRST],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(lorapipe.recipe.__file__).parents[2])},
    )
    assert done.stdout.strip() == "[]"
