"""The table of kinds, their interface, and the types of their ports."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from importlib.metadata import EntryPoint, EntryPoints

import pytest

import lorapipe.steps
from lorapipe.errors import RecipeError
from lorapipe.recipe.language import core_language
from lorapipe.steps import KINDS, find_kind
from lorapipe.steps.kind import Context, Cost, Inputs, Kind, Materialise, Weighted
from lorapipe.steps.types import adapter_spec, checkpoint_spec, factor_bytes
from lorapipe.weights.specs import FileSpec

from .kit import FILE, Q, lora, model

PLUGIN = Kind(
    name="acme.blur",
    version=3,
    materialise=Materialise.STORED,
    infer=lambda inputs, params: inputs.one("acme.blur"),
    work=lambda inputs, params, context: None,
)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_kind_goes_by_its_name_and_has_a_version(name: str) -> None:
    kind = find_kind(name)
    assert kind.name == name
    assert kind.version >= 1
    assert kind is find_kind(name)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_what_is_keyless_is_an_option(name: str) -> None:
    assert find_kind(name).keyless <= core_language().kind(name).options.keys()


@pytest.mark.parametrize("name", sorted(KINDS))
def test_what_is_computed_is_stored_what_is_free_is_lazy_and_what_names_a_file_is_written(name: str) -> None:
    expected = {
        "combine": Materialise.STORED,
        "check": Materialise.CHECK,
        "extract-lora": Materialise.STORED,
        "save": Materialise.OUTPUT,
        "shuffle": Materialise.STORED,
        "svd-resize": Materialise.STORED,
    }.get(name, Materialise.LAZY)
    assert find_kind(name).materialise is expected


def test_a_kind_that_says_nothing_of_cost_is_free() -> None:
    assert PLUGIN.cost(Inputs(), {}, lora()) == Cost()


def test_a_kind_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        find_kind("scale").version = 2  # type: ignore[misc]


def test_a_dotted_kind_is_a_third_partys(monkeypatch: pytest.MonkeyPatch) -> None:
    found = EntryPoint("acme.blur", f"{__name__}:PLUGIN", "lorapipe.steps")
    monkeypatch.setattr(EntryPoint, "load", lambda self: PLUGIN)
    monkeypatch.setattr(lorapipe.steps, "entry_points", lambda **which: EntryPoints([found]).select(**which))
    assert find_kind("acme.blur") is PLUGIN
    with pytest.raises(RecipeError, match=r"no step kind 'acme\.sharpen' is installed"):
        find_kind("acme.sharpen")


def test_a_plugin_cannot_take_the_place_of_a_kind_of_the_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lorapipe.steps, "entry_points", lambda **which: pytest.fail("asked for plugins"))
    assert find_kind("scale").name == "scale"


def test_inputs_are_by_port() -> None:
    inputs = Inputs({"a": (Weighted("x", 1.0, 10),), "b": (Weighted("y", 0.5, 20), Weighted("z", 2.0, 30))})
    assert inputs.one("a") == 10
    assert [(term.step, term.weight, term.value) for term in inputs.terms("b")] == [
        ("y", 0.5, 20),
        ("z", 2.0, 30),
    ]
    with pytest.raises(ValueError, match="unpack"):
        inputs.one("b")


def test_a_context_of_nothing_computes_on_the_cpu_in_float64_one_by_one_and_tells_nobody() -> None:
    context = Context()
    assert (context.device, context.compute, context.output, dict(context.provenance)) == (
        "cpu",
        "float64",
        None,
        {},
    )
    assert list(context.each(str, [1, 2])) == ["1", "2"]
    context.note("fact", 1)
    context.wrote(3)


def test_a_kind_has_nothing_to_warn_of_unless_it_says_so() -> None:
    assert PLUGIN.warn(Inputs(), {}, FileSpec({})) == ()


def test_types_pass_what_is_due_and_name_what_is_not() -> None:
    assert adapter_spec(lora(), "concat") == lora()
    assert checkpoint_spec(model(), "merge-into-checkpoint") == model()
    for due, wrong, says in (
        (adapter_spec, model(), "'x' takes a LoRA, 'in' is a checkpoint"),
        (adapter_spec, FILE, "'x' takes a LoRA, 'in' is a file"),
        (checkpoint_spec, lora(), "'x' takes a checkpoint, 'in' is a LoRA"),
        (checkpoint_spec, FILE, "'x' takes a checkpoint, 'in' is a file"),
    ):
        with pytest.raises(RecipeError) as caught:
            due(wrong, "x", "in")
        assert (caught.value.message, caught.value.option) == (says, "x")
        assert caught.value.hint


def test_factors_take_the_bytes_of_their_elements() -> None:
    spec = lora(4, shapes={Q: (20, 10)})
    assert factor_bytes(spec) == 8 * 4 * 30
    assert factor_bytes(spec, "F16") == 2 * 4 * 30
