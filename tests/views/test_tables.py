"""Tables of plans, modules and finished builds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from lorapipe.build.events import StepDone
from lorapipe.build.result import Built
from lorapipe.build.run import Options, build
from lorapipe.recipe.parsing import load_recipe
from lorapipe.views.bindings import BoundRow
from lorapipe.views.tables import (
    binding_table,
    built_table,
    family_text,
    module_table,
    print_table,
    spec_text,
)
from lorapipe.weights.specs import FileSpec, ModuleId, ModuleSpec, Spelling, TensorSpec

from ..bench import Bench
from .screens import HOSTILE, log, steering, terminal, text_of

STEPS = """
    a: {load: a.safetensors}
    s: {svd-resize: a, rank: 2}
    whole: {save: a, to: out/a-rather-long-name-for-a-file.safetensors}
    small: {save: s, to: out/small.safetensors, dtype: fp16}
"""


def built(bench: Bench, steps: str = STEPS, **options: Path) -> Built:
    if not (bench.folder / "a.safetensors").exists():
        bench.lora("a", rank=8)
    return build(load_recipe(bench.recipe(steps)), Options(workers=1, **options))  # type: ignore[arg-type]


def drawn(made: Built, folder: Path, console: Console) -> str:
    print_table(built_table(made, folder), console)
    return text_of(console)


def test_what_was_made_is_this_table(bench: Bench) -> None:
    made = replace(
        built(bench), steps=(StepDone("whole", "written", 1.23), StepDone("small", "written", 0.04))
    )
    first, second = made.outputs
    size = [f"{output.path.stat().st_size / 1000:.3g} kB" for output in made.outputs]

    assert (
        drawn(made, bench.folder, log())
        == f"""\
output                                            size  sha256
out/a-rather-long-name-for-a-file.safetensors  {size[0]:>7}  {first.sha256[:12]}  written in 1.2 s
  LoRA, SD1.x, 4 modules, rank 8
out/small.safetensors                          {size[1]:>7}  {second.sha256[:12]}  written in 0.0 s
  LoRA, SD1.x, 4 modules, rank 2
"""
    )


def test_a_second_build_says_that_nothing_was_to_do(bench: Bench) -> None:
    built(bench)
    text = drawn(built(bench), bench.folder, log())
    assert text.count("up to date") == 2
    assert "written" not in text


def test_outputs_outside_the_folder_are_named_whole(bench: Bench, tmp_path: Path) -> None:
    made = built(bench, output_root=tmp_path / "root")
    assert f"{tmp_path}/root/out/small.safetensors" in drawn(made, bench.folder, log())


@pytest.mark.parametrize("width", [40, 80])
def test_the_table_fits_a_terminal_and_loses_nothing(bench: Bench, width: int) -> None:
    made = built(bench)
    text = drawn(made, bench.folder, terminal(width))

    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    if width == 80:
        assert len(text.splitlines()) == 6
        assert all(output.sha256[:12] in text for output in made.outputs)


def test_a_merged_checkpoint_says_how_much_of_it_changed(bench: Bench) -> None:
    bench.checkpoint()
    steps = """
        base: {load: base.safetensors}
        a: {load: a.safetensors}
        m: {merge-into-checkpoint: base, loras: a}
        o: {save: m, to: o.safetensors}
    """
    text = drawn(built(bench, steps), bench.folder, log())
    assert "  checkpoint, SD1.x, 7 tensors, 4 of them changed\n" in text


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("width", [None, 40, 80])
def test_hostile_names_are_shown_and_not_obeyed(name: str, width: int | None) -> None:
    module = ModuleId("unet", name, (0, 4))
    tables = [
        module_table([(module, ModuleSpec((4, 4), 2, Spelling(name)))]),
        binding_table([BoundRow("a", name, name, (0, 4)), BoundRow("a", name, None, reason=name)]),
    ]
    for table in tables:
        console = log() if width is None else terminal(width)
        print_table(table, console)
        text = text_of(console)
        assert not steering(text)
        if width is None:
            assert len(text.splitlines()) == 1 + table.row_count


def test_markup_in_a_name_is_text(bench: Bench) -> None:
    console = terminal(colour=True)
    module = ModuleId("unet", "[red]key[/red]")
    print_table(module_table([(module, ModuleSpec((4, 4), 2, Spelling("[bold]x[/bold]")))]), console)

    text = text_of(console)
    assert "[red]key[/red]" in text
    assert "[bold]x[/bold]" in text
    assert "\x1b[31m" not in text


def test_modules_and_rows_are_written_like_this() -> None:
    console = log()
    print_table(
        module_table(
            [
                (
                    ModuleId("te2", "a.in_proj_weight", (0, 1280)),
                    ModuleSpec((1280, 1280), 16, Spelling("te2_q")),
                ),
                (ModuleId("unet", "b.weight"), ModuleSpec((320, 4, 3, 3), 4, Spelling("unet_b"))),
            ]
        ),
        console,
    )
    assert (
        text_of(console)
        == """\
module  binds to                  shape      rank
te2_q   a.in_proj_weight[0:1280]  1280x1280    16
unet_b  b.weight                  320x4x3x3     4
"""
    )


def test_bindings_are_written_like_this() -> None:
    console = log()
    rows = [
        BoundRow("char", "te2_q", "a.in_proj_weight", (0, 1280)),
        BoundRow("style", "other", None, reason="the checkpoint has no such weight"),
    ]
    print_table(binding_table(rows), console)
    assert (
        text_of(console)
        == """\
lora   module  goes to
char   te2_q   a.in_proj_weight[0:1280]
style  other   nowhere: the checkpoint has no such weight
"""
    )


@pytest.mark.parametrize(("name", "text"), [("sd1", "SD1.x"), ("sdxl", "SDXL"), (None, "unknown family")])
def test_families_go_by_their_name_for_people(name: str | None, text: str) -> None:
    assert family_text(name) == text


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({}, "2 tensors"),
        ({"model.safetensors": ("a", "b")}, "2 tensors"),
        ({"unet/1.safetensors": ("a",), "unet/2.safetensors": ("b",)}, "2 tensors in 2 files"),
    ],
)
def test_an_output_of_several_files_says_how_many(files: dict[str, tuple[str, ...]], text: str) -> None:
    tensors = {name: TensorSpec("F32", (2,)) for name in "ab"}
    assert spec_text(FileSpec(tensors, files=files)) == text
