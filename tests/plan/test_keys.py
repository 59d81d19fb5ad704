"""What changes a key and what does not, over real recipes and files: the laws, by property."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lorapipe.build.run import plan
from lorapipe.plan.lineage import Lineage, Profile, Source, canonical, content_key, over_results
from lorapipe.plan.provenance import output_key
from lorapipe.recipe.parsing import load_recipe, parse

from ..bench import Bench

_PROFILE = Profile(torch="2.13.0", device="cpu", compute="float64")

PER_EXAMPLE = settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

STEPS: Mapping[str, dict[str, object]] = {
    "a": {"load": "a.safetensors"},
    "b": {"load": "b.safetensors"},
    "both": {"concat": {"a": 1.0, "b": -0.5}},
    "mixed": {"shuffle": "both", "seed": 7},
    "small": {"svd-resize": "mixed", "rank": 2, "conv-rank": 1},
    "out": {"save": "small", "to": "out.safetensors", "dtype": "fp16"},
}


@pytest.fixture
def kitchen(bench: Bench) -> Path:
    bench.lora("a", seed=1)
    bench.lora("b", seed=2)
    return bench.folder


def keys(folder: Path, text: str) -> list[str]:
    """The keys of all steps that have one, whatever they are called, in no order."""
    path = folder / "r.yaml"
    path.write_text(text, encoding="utf-8")
    made = plan(load_recipe(path), read=True)
    return sorted(step.key for step in made.steps.values() if step.key is not None)


def as_json(steps: Mapping[str, object]) -> str:
    return json.dumps({"lorapipe": 1, "steps": steps})


def renamed(value: object, names: Mapping[str, str]) -> object:
    """Steps under other names, wherever they are named."""
    if isinstance(value, str):
        return names.get(value, value)
    if isinstance(value, Mapping):
        return {names.get(key, key): renamed(inner, names) for key, inner in value.items()}
    return value


def as_yaml(steps: Mapping[str, object], indent: int, comment: str) -> str:
    """Block style, indented as one likes, with a comment after each line that can have one."""
    lines = [f"lorapipe: 1  # {comment}", "", "steps:"]
    for name, step in steps.items():
        assert isinstance(step, Mapping)
        lines += [f"{' ' * indent}{name}:   # {comment}"]
        lines += [f"{' ' * 2 * indent}{key}: {json.dumps(value)}" for key, value in step.items()]
        lines += [f"# {comment}", ""]
    return "\n".join(lines)


comments = st.text(st.characters(max_codepoint=0x2FF, exclude_categories=["C"]), max_size=20)
ids = st.from_regex(r"\A[c-z][a-z0-9_-]{0,8}\Z").filter(lambda name: name not in STEPS)


def laid_out(step: Mapping[str, object]) -> st.SearchStrategy[dict[str, object]]:
    return st.permutations(list(step.items())).map(dict)


layouts = st.tuples(
    st.permutations(list(STEPS)), st.fixed_dictionaries({name: laid_out(STEPS[name]) for name in STEPS})
).map(lambda drawn: {name: drawn[1][name] for name in drawn[0]})


@given(steps=layouts, indent=st.integers(1, 8), comment=comments)
@PER_EXAMPLE
def test_layout_comments_and_order_do_not_change_keys(
    kitchen: Path, steps: Mapping[str, object], indent: int, comment: str
) -> None:
    assert keys(kitchen, as_yaml(steps, indent, comment)) == keys(kitchen, as_json(STEPS))


@given(st.lists(ids, min_size=len(STEPS), max_size=len(STEPS), unique=True))
@PER_EXAMPLE
def test_the_names_of_steps_do_not_change_keys(kitchen: Path, names: list[str]) -> None:
    called = dict(zip(STEPS, names, strict=True))
    steps = {
        called[name]: {key: v if key == "to" else renamed(v, called) for key, v in step.items()}
        for name, step in STEPS.items()
    }

    assert keys(kitchen, as_json(steps)) == keys(kitchen, as_json(STEPS))


@pytest.mark.parametrize(
    ("step", "option", "value"),
    [
        ("a", "family", "sd1"),
        ("a", "alpha", 3.0),
        ("both", "concat", {"a": 1.0, "b": -0.25}),
        ("both", "concat", {"b": -0.5, "a": 1.0}),
        ("mixed", "seed", 8),
        ("mixed", "mode", "permute"),
        ("small", "rank", 3),
        ("small", "conv-rank", 2),
        ("out", "dtype", "bf16"),
        ("out", "provenance", "minimal"),
        ("out", "metadata", {"title": "x"}),
    ],
)
def test_every_option_that_decides_bytes_changes_the_outputs_key(
    kitchen: Path, step: str, option: str, value: object
) -> None:
    if (step, option) == ("a", "alpha"):
        Bench(kitchen).lora("a", seed=1, alpha=None)
    changed = {**STEPS, step: {**STEPS[step], option: value}}

    assert _output_key(kitchen, changed) != _output_key(kitchen, STEPS)


def _output_key(folder: Path, steps: Mapping[str, object]) -> str | None:
    path = folder / "r.yaml"
    path.write_text(as_json(steps), encoding="utf-8")
    return plan(load_recipe(path), read=True).steps["out"].key


@given(st.floats(-4, 4), st.floats(-4, 4))
@settings(deadline=None, max_examples=100)
def test_two_weights_have_one_key_just_if_they_are_one_number(one: float, two: float) -> None:
    def digest(weight: float) -> str:
        recipe = parse(as_json({**STEPS, "both": {"concat": {"a": 1.0, "b": weight}}}), "r.yaml")
        (_, term) = recipe.steps["both"].inputs["concat"]
        return _concat(float(term.weight)).digest

    assert (digest(one) == digest(two)) == (one.hex() == two.hex())


def _concat(weight: float) -> Lineage:
    load = Lineage("load", 1, {}, source=Source("a", "a" * 64))
    return Lineage("concat", 1, {}, {"concat": ((weight, load),)})


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@PER_EXAMPLE
def test_any_byte_of_an_input_changes_every_key_below_it(kitchen: Path, place: float, bit: int) -> None:
    path = kitchen / "b.safetensors"
    good = path.read_bytes()
    before = keys(kitchen, as_json(STEPS))
    start = 8 + int.from_bytes(good[:8], "little")
    at = start + int(place * (len(good) - start))
    bad = bytearray(good)
    bad[at] ^= 1 << bit
    try:
        path.write_bytes(bad)
        assert not set(keys(kitchen, as_json(STEPS))) & set(before)
    finally:
        path.write_bytes(good)
    assert keys(kitchen, as_json(STEPS)) == before


values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 3),
        st.sampled_from([-1.0, 0.0, -0.0, 1.0, 1.5]),
        st.sampled_from(["", "1", "true", "null", "1.0"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(st.sampled_from("ab"), inner, max_size=2)
    ),
    max_leaves=4,
)


def typed(value: object) -> object:
    """A value that is equal only to one of the same types all through, and of the same bits."""
    if isinstance(value, dict):
        return ("map", tuple(sorted((key, typed(inner)) for key, inner in value.items())))
    if isinstance(value, list):
        return ("list", tuple(typed(inner) for inner in value))
    return (type(value).__name__, value.hex() if isinstance(value, float) else repr(value))


@given(values, values)
@settings(deadline=None, max_examples=400)
def test_values_share_a_text_just_if_they_are_equal_in_type_and_value(one: object, two: object) -> None:
    assert (canonical(one) == canonical(two)) == (typed(one) == typed(two))


@pytest.mark.parametrize(
    ("one", "two"), [(1, 1.0), (1, True), (1.0, True), (0, False), ("1", 1), (0.0, -0.0)]
)
def test_numbers_of_other_types_and_truths_are_other_keys(one: object, two: object) -> None:
    def key(value: object) -> str:
        return content_key(Lineage("k", 1, {"x": value}), _PROFILE)[0]  # type: ignore[dict-item]

    assert key(one) != key(two)


def test_a_whole_number_is_one_however_the_recipe_writes_it(kitchen: Path) -> None:
    """The schema says that it is an integer, so 2.0 and 2e0 are ways to write 2."""
    texts = [as_json(STEPS).replace('"rank": 2', f'"rank": {two}') for two in ("2", "2.0", "2e0")]

    assert len({tuple(keys(kitchen, text)) for text in texts}) == 1


def test_params_change_keys_only_through_what_they_are_put_into(kitchen: Path) -> None:
    plain = as_json(STEPS)
    by_param = json.dumps(
        {
            "lorapipe": 1,
            "params": {"r": 2, "unused": 5},
            "steps": {**STEPS, "small": {**STEPS["small"], "rank": "$(r)"}},
        }
    )

    assert keys(kitchen, by_param) == keys(kitchen, plain)


@pytest.mark.parametrize("folder", ["elsewhere", "a b", "x/y"])
def test_where_a_recipe_and_its_files_lie_does_not_change_keys(
    kitchen: Path, tmp_path: Path, folder: str
) -> None:
    before = keys(kitchen, as_json(STEPS))
    other = tmp_path / folder
    other.parent.mkdir(exist_ok=True)
    kitchen.rename(other)

    assert keys(other, as_json(STEPS)) == before


# --- over results ------------------------------------------------------------------------


def chain(version: int = 1, weight: float = 1.0) -> tuple[Lineage, Lineage]:
    """load -> svd-resize of a version -> concat with a weight -> shuffle; the middle one and the last."""
    load = Lineage("load", 1, {}, source=Source("a", "a" * 64))
    small = Lineage("svd-resize", version, {"rank": 2}, {"svd-resize": ((1.0, load),)})
    both = Lineage("concat", 1, {}, {"concat": ((weight, small), (1.0, load))})
    return small, Lineage("shuffle", 1, {"seed": 7}, {"shuffle": ((1.0, both),)})


def test_over_results_only_their_bytes_count_and_not_what_led_to_them() -> None:
    (one, below), (two, also) = chain(version=1), chain(version=2)
    result = "f" * 64

    assert below.digest != also.digest
    assert over_results(below, {one.digest: result}).digest == over_results(also, {two.digest: result}).digest
    assert (
        over_results(below, {one.digest: "e" * 64}).digest != over_results(below, {one.digest: result}).digest
    )


def test_over_results_what_stands_below_them_counts() -> None:
    (one, below), (two, also) = chain(weight=1.0), chain(weight=2.0)

    assert one.digest == two.digest
    assert (
        over_results(below, {one.digest: "f" * 64}).digest
        != over_results(also, {two.digest: "f" * 64}).digest
    )


def test_where_no_result_is_known_the_lineage_is_as_it_was() -> None:
    _, below = chain()

    assert over_results(below, {}).digest == below.digest
    assert over_results(below, {"0" * 64: "f" * 64}).digest == below.digest
    assert over_results(below, {below.digest: "f" * 64}).digest == below.digest, "it is what is to be made"


def test_only_the_nearest_results_count() -> None:
    small, last = chain()
    top = Lineage("svd-resize", 1, {"rank": 1}, {"svd-resize": ((1.0, last),)})
    result = {last.digest: "e" * 64}

    assert over_results(top, result).digest == over_results(top, {**result, small.digest: "f" * 64}).digest


def test_the_format_and_what_is_told_are_in_the_key_of_an_output() -> None:
    saved = Lineage("save", 1, {"provenance": "none"}, {"save": ((1.0, chain()[1]),)})
    names = ("a.safetensors", "b.safetensors", "c.pt")
    found = {output_key(saved, _PROFILE, Path(name), hidden=False)[0] for name in names}

    assert len(found) == 2
