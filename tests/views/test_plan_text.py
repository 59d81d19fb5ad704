"""The plan as people read it."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from lorapipe.build.run import Options, build, plan
from lorapipe.recipe.parsing import load_recipe
from lorapipe.store.digest import sha256_file
from lorapipe.views.plan_text import print_plan, print_warnings
from lorapipe.views.text import visible

from ..bench import SHAPES, TE, TO_Q, Bench
from .screens import HOSTILE, log, planned, steering, terminal, text_of

STEPS = """
    base: {load: base.safetensors}
    a: {load: a.safetensors}
    b: {load: b.safetensors}
    both: {concat: {a: 0.7, b: -0.4}}
    small: {svd-resize: both, rank: 4}
    model: {merge-into-checkpoint: base, loras: {small: 0.5}}
    lora: {save: small, to: out/small.safetensors}
    merged: {save: model, to: out/model.safetensors}
"""


@pytest.fixture
def inputs(bench: Bench) -> Bench:
    bench.checkpoint()
    bench.lora("a", rank=8)
    bench.lora("b", rank=12, alpha=None, seed=1)
    return bench


def sizes(bench: Bench) -> dict[str, str]:
    files = {name: bench.folder / f"{name}.safetensors" for name in ("base", "a", "b")}
    return {name: f"{path.stat().st_size / 1000:.3g} kB" for name, path in files.items()}


def drawn(bench: Bench, console: Console, steps: str = STEPS, **how: bool) -> str:
    made, folder = planned(bench, steps, read=how.pop("read", False))
    print_plan(made, folder, console=console, **how)
    return text_of(console)


def test_a_plan_of_unknown_inputs_is_this_text(inputs: Bench) -> None:
    size = sizes(inputs)
    assert (
        drawn(inputs, log())
        == f"""\
base    load base.safetensors
        sha256 not hashed yet
        checkpoint, SD1.x, 7 tensors, {size["base"]} to read
a       load a.safetensors
        sha256 not hashed yet
        LoRA, SD1.x, 4 modules, rank 8, {size["a"]} to read
b       load b.safetensors
        sha256 not hashed yet
        LoRA, SD1.x, 4 modules, rank 12, {size["b"]} to read
both    concat 0.7 a, -0.4 b
        LoRA, SD1.x, 4 modules, rank 20
        will run: fused into what uses it
small   svd-resize both
        LoRA, SD1.x, 4 modules, rank 4, 7.94 kB to the store, 418 kB of memory
        will run, or be found in the store once hashed: an input is not hashed yet
model   merge-into-checkpoint base, 0.5 small
        checkpoint, SD1.x, 7 tensors, 4 of them changed
        will run: fused into what uses it
lora    save small to out/small.safetensors
        12 tensors, 3.98 kB to write, 81.9 kB of memory
        will run, or be found in the store once hashed: an input is not hashed yet
merged  save model to out/model.safetensors
        7 tensors, 6.8 kB to write, 389 kB of memory
        will run, or be found in the store once hashed: an input is not hashed yet

2 outputs to write on cpu: 30.2 kB to read, 18.7 kB to write
lorapipe plan --hash reads what is not hashed yet, and decides the rest
"""
    )


def test_after_a_build_the_plan_says_what_is_there_and_what_nobody_needs(inputs: Bench) -> None:
    build(load_recipe(inputs.recipe(STEPS)))
    size = sizes(inputs)

    text = drawn(inputs, log(), read=True)

    key = re.findall(r": key ([0-9a-f]{12})$", text, re.MULTILINE)
    digest = [f"{sha256_file(inputs.folder / f'{name}.safetensors')[:12]}..." for name in size]
    assert (
        text
        == f"""\
base    load base.safetensors
        sha256 {digest[0]} checked
        checkpoint, SD1.x, 7 tensors, {size["base"]}
        not needed: nothing that will run uses it
a       load a.safetensors
        sha256 {digest[1]} checked
        LoRA, SD1.x, 4 modules, rank 8, {size["a"]}
        not needed: nothing that will run uses it
b       load b.safetensors
        sha256 {digest[2]} checked
        LoRA, SD1.x, 4 modules, rank 12, {size["b"]}
        not needed: nothing that will run uses it
both    concat 0.7 a, -0.4 b
        LoRA, SD1.x, 4 modules, rank 20
        not needed: nothing that will run uses it
small   svd-resize both
        LoRA, SD1.x, 4 modules, rank 4
        in the store: key {key[0]}
model   merge-into-checkpoint base, 0.5 small
        checkpoint, SD1.x, 7 tensors, 4 of them changed
        not needed: nothing that will run uses it
lora    save small to out/small.safetensors
        12 tensors, 3.98 kB
        up to date: key {key[1]}
merged  save model to out/model.safetensors
        7 tensors, 6.8 kB
        up to date: key {key[2]}

nothing to do: every output is up to date
"""
    )


def test_a_hashed_plan_decides_every_step(inputs: Bench) -> None:
    text = drawn(inputs, log(), read=True)

    assert "not hashed" not in text
    assert "small   svd-resize both\n" in text
    assert "        will run: no result with this key in the store\n" in text
    assert text.count("will run: the file is not there yet") == 2
    assert text.endswith("2 outputs to write on cpu: 30.2 kB to read, 18.7 kB to write\n")


def test_a_pin_stands_for_a_digest_and_says_that_nobody_checked_it(inputs: Bench) -> None:
    pin = "ab" * 32
    text = drawn(
        inputs, log(), f"a: {{load: a.safetensors, sha256: {pin}}}\no: {{save: a, to: o.safetensors}}"
    )

    assert "sha256 abababababab... pinned, not checked" in text
    assert "will run: the file is not there yet" in text


def test_an_input_outside_the_recipes_folder_is_named_whole_and_said_to_be(
    inputs: Bench, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "models"
    elsewhere.mkdir()
    (inputs.folder / "b.safetensors").rename(elsewhere / "b.safetensors")
    recipe = load_recipe(inputs.recipe("b: {load: b.safetensors}\no: {save: b, to: o.safetensors}"))
    console = log()

    print_plan(plan(recipe, Options(models=(elsewhere,))), inputs.folder, console=console)

    assert text_of(console).startswith(
        f"b  load {elsewhere}/b.safetensors\n   sha256 not hashed yet, outside the recipe's folder\n"
    )


def test_outputs_under_another_root_are_named_whole(inputs: Bench, tmp_path: Path) -> None:
    recipe = load_recipe(inputs.recipe("a: {load: a.safetensors}\no: {save: a, to: out/o.safetensors}"))
    console = log()

    print_plan(plan(recipe, Options(output_root=tmp_path / "root")), inputs.folder, console=console)

    assert f"o  save a to {tmp_path}/root/out/o.safetensors\n" in text_of(console)


@pytest.mark.parametrize("width", [40, 80])
def test_a_plan_fits_a_terminal_and_breaks_no_word(inputs: Bench, width: int) -> None:
    text = drawn(inputs, terminal(width))

    assert max(map(len, text.splitlines())) <= width
    assert text.split() == drawn(inputs, log()).split()


def test_a_log_is_not_wrapped_and_has_no_trailing_spaces(
    inputs: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    console = log()
    made, folder = planned(inputs, STEPS)
    print_plan(made, folder, console=console)

    raw = console.file.getvalue()  # type: ignore[attr-defined]
    assert raw == text_of(console)
    assert "will run, or be found in the store once hashed: an input is not hashed yet\n" in raw


def test_without_colour_nothing_but_weight_is_written(inputs: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    build(load_recipe(inputs.recipe(STEPS)))
    console = terminal(colour=True)
    text = drawn(inputs, console)

    assert "\x1b[3" not in text
    assert "up to date" in text


def test_colour_tells_what_is_done_from_what_is_to_do(inputs: Bench) -> None:
    build(load_recipe(inputs.recipe(STEPS)))
    text = drawn(inputs, terminal(colour=True))

    assert "\x1b[32mup to date: key" in text
    assert "\x1b[36min the store: key" in text
    assert "\x1b[2mnot needed: nothing" in text


def test_modules_are_listed_with_their_place_shape_and_rank(inputs: Bench) -> None:
    text = drawn(inputs, log(), modules=True)

    line = next(line for line in text.splitlines() if line.startswith(TO_Q))
    assert line.split() == [
        TO_Q, "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight", "20x20", "8",
    ]  # fmt: skip
    # Four LoRAs of four modules, and a merge.
    assert sum(line.startswith("lora_") for line in text.splitlines()) == 16
    assert sum(line.startswith("small  lora_") for line in text.splitlines()) == 4


def test_a_merge_says_of_each_module_where_it_goes_or_why_nowhere(bench: Bench) -> None:
    bench.checkpoint()
    bench.lora("a", modules={TO_Q: SHAPES[TO_Q], TE.replace("layers_0", "layers_1"): SHAPES[TE]})

    text = drawn(bench, log(), """
        base: {load: base.safetensors}
        a: {load: a.safetensors}
        model: {merge-into-checkpoint: base, loras: a, unmatched: warn}
        out: {save: model, to: o.safetensors}
    """, modules=True)  # fmt: skip

    lost = "lora_te_text_model_encoder_layers_1_self_attn_q_proj"
    assert (
        f"a     {TO_Q}  model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight\n"
        in text
    )
    assert f"a     {lost}                  nowhere: the checkpoint has no such weight\n" in text
    assert "\nwarning: step 'model': 1 of 2 modules of 'a' has no place in the checkpoint\n" in text


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_folder_is_shown_and_not_obeyed(bench: Bench, tmp_path: Path, name: str) -> None:
    folder = tmp_path / name.replace("/", "_").replace("\x00", "")[:200]
    folder.mkdir()
    bench.lora("a").rename(folder / "a.safetensors")
    recipe = load_recipe(bench.recipe("a: {load: a.safetensors}\no: {save: a, to: o.safetensors}"))
    made = plan(recipe, Options(models=(folder,), output_root=folder))

    for console in (log(), terminal(40)):
        print_plan(made, bench.folder, modules=True, console=console)
        assert not steering(text_of(console))
    console = log()
    print_plan(made, bench.folder, console=console)
    shown = visible(str(folder))
    assert f"a  load {shown}/a.safetensors\n" in text_of(console)
    assert f"o  save a to {shown}/o.safetensors\n" in text_of(console)


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_module_name_is_shown_and_not_obeyed(bench: Bench, name: str) -> None:
    bench.lora("a", modules={f"lora_{name.encode().hex()[:9]}_{name}": (8, 8)}, metadata={})

    for console in (log(), terminal(40)):
        made, folder = planned(bench, "a: {load: a.safetensors}\no: {save: a, to: o.safetensors}")
        print_plan(made, folder, modules=True, console=console)
        assert not steering(text_of(console))


def test_warnings_keep_their_lines_and_nothing_else(inputs: Bench) -> None:
    made, _ = planned(inputs, STEPS)
    console = log()

    print_warnings(replace(made, warnings=("one\n  \x1b[31mtwo", "[red]three")), console)

    assert text_of(console) == "warning: one\n  \\x1b[31mtwo\nwarning: [red]three\n"


def test_a_disk_that_is_too_small_is_a_warning_of_the_plan(
    inputs: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = shutil.disk_usage(inputs.folder)._replace(free=1234)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)

    text = drawn(inputs, log())

    assert f"warning: {inputs.folder} has 1,234 bytes free, the outputs take" in text


def test_what_only_the_data_tell_is_shown_as_the_most_it_can_be(bench: Bench) -> None:
    bench.lora("a", rank=8)
    steps = "a: {load: a.safetensors}\ns: {svd-resize: a, rank: 6, dynamic: {sv-fro: 0.8}}\n"
    made, folder = planned(bench, steps + "o: {save: s, to: o.safetensors}", read=True)
    console = log()
    print_plan(made, folder, modules=True, console=console)
    text = text_of(console)
    assert "4 modules, rank <= 6, at most " in text
    assert text.count("at most ") == 3
    assert "kB to read, at most " in text
