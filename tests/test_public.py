"""The public face: what `import lorapipe` offers, what it costs, and that it is the recipes' algebra."""

from __future__ import annotations

import inspect
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from keyword import iskeyword
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import load_file

import lorapipe
import lorapipe.api
from lorapipe.errors import BuildError, InputError, RecipeError, UsageError
from lorapipe.recipe.language import core_language
from lorapipe.steps import KINDS

from .bench import SHAPES, TO_Q, Bench

ROOT = Path(lorapipe.__file__).parent.parent


# --- names ------------------------------------------------------------------------------


def test_what_is_offered_is_sorted_and_is_what_is_served() -> None:
    assert list(lorapipe.__all__) == sorted(lorapipe.__all__)
    assert set(lorapipe.__all__) <= set(dir(lorapipe))
    for name in lorapipe.__all__:
        assert getattr(lorapipe, name) is not None


def test_all_of_the_api_is_offered() -> None:
    assert set(lorapipe.api.__all__) <= set(lorapipe.__all__)
    for name in lorapipe.api.__all__:
        assert getattr(lorapipe, name) is getattr(lorapipe.api, name)


def test_what_is_not_offered_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'lorapipe' has no attribute 'nonsense'"):
        lorapipe.nonsense  # noqa: B018  # the access is the test


def test_the_version_is_the_packages() -> None:
    command = [sys.executable, "-m", "lorapipe", "--version"]
    said = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert said.stdout == f"lorapipe {lorapipe.__version__}\n"


# --- what is loaded ---------------------------------------------------------------------

SLOW = ("torch", "networkx", "jsonschema", "rich", "numpy", "asyncio", "ssl", "fsspec")


def loaded(code: str, folder: Path = ROOT) -> set[str]:
    """Which of the slow packages a fresh interpreter has loaded after ``code``."""
    script = f"import sys\n{code}\nprint(*(n for n in {SLOW!r} if n in sys.modules))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        check=True,
    )
    return set(done.stdout.splitlines()[-1].split())


def command(*arguments: str) -> str:
    return f"from lorapipe.cli import main\nassert main({list(arguments)!r}) == 0"


@pytest.fixture
def kitchen(bench: Bench) -> Bench:
    bench.lora("a")
    bench.recipe("a: {load: a.safetensors}\nm: {shuffle: a}\nout: {save: m, to: o.safetensors}")
    return bench


def test_the_import_loads_nothing_slow() -> None:
    assert loaded("import lorapipe") == set()


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"], ["plan", "--help"]])
def test_help_loads_nothing_slow(arguments: list[str]) -> None:
    assert loaded(command(*arguments)) == set()


def test_validate_loads_neither_torch_nor_networkx(kitchen: Bench) -> None:
    assert not loaded(command("validate", "r.yaml"), kitchen.folder) & {"torch", "networkx"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan", "r.yaml"],
        ["plan", "r.yaml", "--json", "--modules", "--hash"],
        ["graph", "r.yaml"],
        ["inspect", "a.safetensors", "--no-norms"],
        ["steps", "save"],
        ["schema"],
    ],
)
def test_looking_loads_no_torch(kitchen: Bench, arguments: list[str]) -> None:
    assert "torch" not in loaded(command(*arguments), kitchen.folder)


def test_a_run_with_nothing_to_do_loads_no_torch(kitchen: Bench) -> None:
    assert "torch" in loaded(command("run", "r.yaml"), kitchen.folder)
    assert "torch" not in loaded(command("run", "r.yaml"), kitchen.folder)


@pytest.mark.parametrize("arguments", [["plan", "r.yaml"], ["run", "r.yaml"]])
def test_without_urls_nothing_of_the_network_is_loaded(kitchen: Bench, arguments: list[str]) -> None:
    loaded(command("run", "r.yaml"), kitchen.folder)
    assert not {"asyncio", "ssl", "fsspec"} & loaded(command(*arguments), kitchen.folder)


def test_the_api_is_there_without_torch() -> None:
    assert "torch" not in loaded("import lorapipe\n[getattr(lorapipe, n) for n in lorapipe.__all__]")


# --- signatures -------------------------------------------------------------------------


def function_of(kind: str) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(lorapipe, kind.replace("-", "_"))
    return found


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_function_takes_just_the_options_of_its_kinds_schema(kind: str) -> None:
    schema = core_language().kind(kind)
    options = {
        name.replace("-", "_") + ("_" if iskeyword(name) else "") for name in schema.options if name != kind
    }
    # The main input goes first, whatever it is called.
    _, *others = inspect.signature(function_of(kind)).parameters.values()

    assert {parameter.name for parameter in others} == options
    for parameter in others:
        name = parameter.name.rstrip("_").replace("_", "-")
        assert (parameter.default is parameter.empty) == schema.options[name].required, name
        if not schema.options[name].required:
            assert parameter.default is None


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_function_says_what_it_does(kind: str) -> None:
    assert (function_of(kind).__doc__ or "").strip().endswith((".", "``.", "each."))


# --- the same algebra -------------------------------------------------------------------


def test_calls_write_the_bytes_of_the_recipe_of_the_same_steps(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.checkpoint()
    bench.lora("a", rank=8, alpha=4.0, seed=1)
    bench.lora("b", rank=12, alpha=None, seed=2)
    built = lorapipe.run(
        bench.recipe("""
            base: {load: base.safetensors, as: checkpoint}
            a: {load: a.safetensors}
            b: {load: b.safetensors, family: sd1}
            half: {scale: a, by: 0.5, components: {te: 0.25}}
            both: {concat: {half: 0.7, b: -0.4}}
            mixed: {shuffle: both, seed: 7}
            moved: {shuffle: both, mode: permute}
            small: {svd-resize: both, rank: 4, conv-rank: 3, conv1x1-rank: 2}
            model: {merge-into-checkpoint: base, loras: {small: 0.8, a: 0.1}}
            o-half: {save: half, to: half.safetensors}
            o-both: {save: both, to: both.safetensors, dtype: fp32, metadata: {modelspec.title: "$$(x)"}}
            o-mixed: {save: mixed, to: mixed.safetensors, dtype: bf16}
            o-moved: {save: moved, to: moved.safetensors}
            o-small: {save: small, to: small.ckpt, dtype: fp16}
            o-small2: {save: small, to: small.safetensors, provenance: minimal}
            o-model: {save: model, to: model.safetensors}
        """)
    )
    folder = tmp_path / "by-hand"
    folder.mkdir()
    monkeypatch.chdir(bench.folder)

    base = lorapipe.load("base.safetensors", as_="checkpoint")
    a = lorapipe.load("a.safetensors")
    b = lorapipe.load(bench.folder / "b.safetensors", family="sd1")
    half = lorapipe.scale(a, by=0.5, components={"te": 0.25})
    both = lorapipe.concat([(half, 0.7), (b, -0.4)])
    mixed = lorapipe.shuffle(both, seed=7)
    moved = lorapipe.shuffle(both, mode="permute")
    small = lorapipe.svd_resize(both, rank=4, conv_rank=3, conv1x1_rank=2)
    model = lorapipe.merge_into_checkpoint(base, [(small, 0.8), (a, 0.1)])
    made = [
        lorapipe.save(half, folder / "half.safetensors"),
        lorapipe.save(both, folder / "both.safetensors", dtype="fp32", metadata={"modelspec.title": "$(x)"}),
        lorapipe.save(mixed, folder / "mixed.safetensors", dtype="bf16"),
        lorapipe.save(moved, folder / "moved.safetensors"),
        lorapipe.save(small, folder / "small.ckpt", dtype="fp16"),
        lorapipe.save(small, folder / "small.safetensors", provenance="minimal"),
        lorapipe.save(model, folder / "model.safetensors"),
    ]

    assert [output.path.name for output in built.outputs] == [path.name for path in made]
    for output, path in zip(built.outputs, made, strict=True):
        assert path.read_bytes() == output.path.read_bytes(), path.name
    with safe_open(made[1], "pt") as file:
        assert file.metadata()["modelspec.title"] == "$(x)"
        steps = json.loads(file.metadata()["lorapipe.provenance"])["steps"]
    assert steps["concat-1"]["inputs"]["concat"] == [["scale-1", 0.7], ["load-2", -0.4]]


def test_terms_may_be_a_lora_several_or_some_with_weights(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bench.folder)
    bench.lora("a", seed=1)
    bench.lora("b", seed=2)
    a, b = lorapipe.load("a.safetensors"), lorapipe.load("b.safetensors")

    alone = lorapipe.save(lorapipe.concat(a), "alone.safetensors")
    plain = lorapipe.save(lorapipe.concat([a, b]), "plain.safetensors")
    mixed = lorapipe.save(lorapipe.concat([a, (b, 1.0)]), "mixed.safetensors")
    twice = lorapipe.save(lorapipe.concat([(a, 0.5), (a, 0.5)]), "twice.safetensors")

    assert plain.read_bytes() == mixed.read_bytes()
    assert load_file(twice)[f"{TO_Q}.lora_up.weight"].shape[1] == 8
    assert set(load_file(alone)) == set(load_file("a.safetensors"))


def test_a_value_can_be_looked_at(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bench.folder)
    bench.lora("a", rank=8)
    spec = lorapipe.svd_resize(lorapipe.load("a.safetensors"), rank=2).value.spec
    assert {module.rank for module in spec.modules.values()} == {2}


def test_a_saved_file_is_known_as_lorapipes_own(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bench.folder)
    bench.lora("a", seed=1)
    a = lorapipe.load("a.safetensors")
    lorapipe.save(a, "o.safetensors")

    assert lorapipe.save(lorapipe.scale(a, by=2.0), "o.safetensors") == bench.folder / "o.safetensors"

    Path("o.safetensors").write_bytes(b"precious")
    with pytest.raises(BuildError, match="was changed since lorapipe wrote it"):
        lorapipe.save(a, "o.safetensors")
    assert Path("o.safetensors").read_bytes() == b"precious"


# --- mistakes ---------------------------------------------------------------------------


@pytest.fixture
def lora(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> lorapipe.Weights:
    monkeypatch.chdir(bench.folder)
    bench.lora("a")
    return lorapipe.load("a.safetensors")


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda a: lorapipe.svd_resize(a, rank=0), "error: 'rank' takes a whole number from 1"),
        (lambda a: lorapipe.svd_resize(a, rank="4"), "whole number from 1, or $(name), not '4'"),
        (lambda a: lorapipe.svd_resize(a, rank=2.5), "error: 'rank' takes a whole number from 1"),
        (lambda a: lorapipe.shuffle(a, mode="rotated"), "did you mean 'rotate'?"),
        (lorapipe.scale, "scale needs"),
        (lambda a: lorapipe.scale(a, by="much"), "'by' takes a number"),
        (lambda a: lorapipe.save(a, "o.safetensors", dtype="float16"), "did you mean 'fp16'?"),
        (lambda a: lorapipe.save(a, "o.safetensors", metadata={"a": 1}), "'a'"),
        (lambda a: lorapipe.load("a.safetensors", sha256="abc"), "'sha256' takes"),
        (lambda a: lorapipe.load("a.safetensors", as_="model"), "'as' takes"),
        (lambda a: lorapipe.concat([(a, math.inf)]), "number"),
        (lambda a: lorapipe.concat([]), "concat"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_a_usage_error_in_the_words_of_the_recipe(
    lora: lorapipe.Weights, call: Callable[[Any], object], says: str
) -> None:
    with pytest.raises(UsageError) as caught:
        call(lora)
    assert says in str(caught.value)
    assert caught.value.exit_status == 2


def test_several_wrong_options_come_together(lora: lorapipe.Weights) -> None:
    with pytest.raises(lorapipe.ManyErrors) as caught:
        lorapipe.save(lora, "o.safetensors", dtype="half", provenance="some")
    assert len(caught.value.errors) == 2
    assert all(isinstance(error, UsageError) for error in caught.value.errors)


def test_mistakes_of_the_inputs_are_those_of_a_recipe(lora: lorapipe.Weights, bench: Bench) -> None:
    bench.checkpoint()
    base = lorapipe.load("base.safetensors")
    with pytest.raises(InputError, match=r"no file 'nope\.safetensors'"):
        lorapipe.load("nope.safetensors")
    with pytest.raises(InputError, match="sha256"):
        lorapipe.load("a.safetensors", sha256="ab" * 32)
    with pytest.raises(RecipeError, match="takes a LoRA, its input is a checkpoint"):
        lorapipe.scale(base, by=0.5)
    with pytest.raises(RecipeError, match="takes a checkpoint, its input is a LoRA"):
        lorapipe.merge_into_checkpoint(lora, lora)


# --- run --------------------------------------------------------------------------------


def test_run_takes_params_and_options(bench: Bench, tmp_path: Path) -> None:
    bench.lora("a", rank=8, alpha=4.0)
    recipe = bench.recipe(
        "a: {load: a.safetensors}\ns: {scale: a, by: $(by)}\nout: {save: s, to: o.safetensors}",
        head="params: {by: 1.0}\n",
    )

    built = lorapipe.run(
        recipe, params={"by": 0.25}, options=lorapipe.Options(output_root=tmp_path / "out", workers=1)
    )

    (output,) = built.outputs
    assert output.path == tmp_path / "out" / "o.safetensors"
    assert output.written
    tensors = load_file(output.path)
    up, down = (tensors[f"{TO_Q}.{part}.weight"].double().numpy() for part in ("lora_up", "lora_down"))
    delta = float(tensors[f"{TO_Q}.alpha"]) / up.shape[1] * up @ down
    np.testing.assert_allclose(delta, 0.25 * bench.deltas["a"][TO_Q], rtol=1e-6, atol=1e-9)
    assert (
        not lorapipe.run(recipe, {"by": 0.25}, lorapipe.Options(output_root=tmp_path / "out"))
        .outputs[0]
        .written
    )


def test_run_takes_a_path_as_text(bench: Bench) -> None:
    bench.lora("a")
    recipe = bench.recipe("a: {load: a.safetensors}\nout: {save: a, to: o.safetensors}")
    assert lorapipe.run(str(recipe)).outputs[0].step == "out"


def test_run_raises_what_is_wrong_with_the_recipe(bench: Bench) -> None:
    with pytest.raises(lorapipe.LorapipeError, match="did you mean 'load'"):
        lorapipe.run(bench.recipe("a: {lod: a.safetensors}\nout: {save: a, to: o.safetensors}"))
    with pytest.raises(lorapipe.LorapipeError, match="no param 'x'"):
        lorapipe.run(bench.recipe("a: {load: a.safetensors}\nout: {save: a, to: o.safetensors}"), {"x": 1})


def test_make_plan_foretells_and_writes_nothing(bench: Bench, tmp_path: Path) -> None:
    bench.lora("a")
    recipe = bench.recipe("a: {load: a.safetensors}\nout: {save: a, to: o.safetensors}")

    plan = lorapipe.make_plan(recipe)

    assert [step.step.id for step in plan.pending] == ["out"]
    assert len(plan.steps["a"].spec.modules) == len(SHAPES)  # type: ignore[union-attr]
    assert sorted(path.name for path in bench.folder.iterdir()) == ["a.safetensors", "r.yaml"]
    assert not (tmp_path / "store").exists()


def test_a_term_that_is_no_lora_is_told_with_the_remedy(bench: Bench) -> None:
    lora = lorapipe.load(bench.lora("a"))

    for given in ("a.safetensors", [(lora, "x")], [bench.folder], [(lora, 1.0, 2.0)]):
        with pytest.raises(UsageError, match="is not a LoRA, nor a pair of one and its weight"):
            lorapipe.concat(given)  # type: ignore[arg-type]


def test_numpys_numbers_are_options_like_pythons(bench: Bench) -> None:
    lora = lorapipe.load(bench.lora("a", rank=6))

    small = lorapipe.svd_resize(lora, rank=np.int64(2))  # type: ignore[arg-type]

    assert {module.rank for module in small.value.spec.modules.values()} == {2}  # type: ignore[union-attr]


def test_an_input_is_not_overwritten_by_what_was_made_of_it(bench: Bench) -> None:
    path = bench.folder / "mine.safetensors"
    lorapipe.save(lorapipe.load(bench.lora("a")), path)
    before = path.read_bytes()

    with pytest.raises(RecipeError, match="which was loaded"):
        lorapipe.save(lorapipe.scale(lorapipe.load(path), by=0.5), path)

    assert path.read_bytes() == before


def test_a_value_at_a_prompt_is_one_short_line(bench: Bench) -> None:
    assert repr(lorapipe.load(bench.lora("a"))) == "<Weights: sd1, 4 modules>"
    assert repr(lorapipe.load(bench.checkpoint())) == "<Weights: sd1, checkpoint>"


def test_a_file_replaced_after_it_was_loaded_does_not_change_the_value(bench: Bench) -> None:
    path = bench.lora("a", seed=1)
    first = lorapipe.save(lorapipe.load(path), bench.folder / "first.safetensors").read_bytes()
    lora = lorapipe.load(path)
    bench.lora("other", seed=2).replace(path)

    assert lorapipe.save(lora, bench.folder / "second.safetensors").read_bytes() == first


def test_a_file_rewritten_after_it_was_loaded_is_an_input_error(bench: Bench) -> None:
    path = bench.lora("a", seed=1)
    lora = lorapipe.load(path)
    path.write_bytes(bench.lora("other", seed=2).read_bytes())

    with pytest.raises(InputError, match="changed"):
        lorapipe.save(lora, bench.folder / "o.safetensors")

    assert not (bench.folder / "o.safetensors").exists()
