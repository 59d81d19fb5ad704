"""The scripts' command lines, taken as their own parsers take them."""

from __future__ import annotations

import importlib.util
import shlex
from collections.abc import Sequence

import pytest

from lorapipe.drafts.kohya.arguments import SCRIPTS, parse_command
from lorapipe.errors import UsageError

MERGE = "networks/merge_lora.py --models a b --ratios 0.6 -0.4 --save_to c.safetensors"


@pytest.mark.parametrize(
    "before",
    [
        "",
        "python ",
        "python3.11 -u ",
        "accelerate launch --num_cpu_threads_per_process 1 ",
        "./venv/bin/python ",
    ],
)
def test_what_stands_before_the_script_is_passed_over(before: str) -> None:
    found = parse_command(shlex.split(before + MERGE))
    assert found.script == "merge_lora"
    assert (found["models"], found["ratios"], found["save_to"]) == (["a", "b"], [0.6, -0.4], "c.safetensors")


@pytest.mark.parametrize(
    "name", ["merge_lora.py", "networks\\merge_lora.py", "../sd-scripts/networks/merge_lora.py"]
)
def test_the_script_may_be_called_from_anywhere(name: str) -> None:
    assert parse_command(["python", name, *shlex.split(MERGE)[1:]]).script == "merge_lora"


def test_the_script_may_be_run_as_a_module() -> None:
    words = ["python", "-m", "networks.sdxl_merge_lora", *shlex.split(MERGE)[1:]]
    assert parse_command(words).script == "sdxl_merge_lora"


def test_a_command_copied_as_one_text_is_split() -> None:
    assert parse_command(["python " + MERGE.replace(" --ratios", " \\\n --ratios")])["ratios"] == [0.6, -0.4]


def test_options_may_be_shortened_as_argparse_does() -> None:
    assert parse_command(shlex.split(MERGE.replace("--ratios", "--rat")))["ratios"] == [0.6, -0.4]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["python", "mrege_lora.py"], "did you mean 'merge_lora'?"),
        (["python"], "known are merge_lora.py"),
        (
            ["merge_lora.py", "--models", "a", "--ratios", "1"],
            "the following arguments are required: --save_to",
        ),
        (shlex.split(MERGE + " --lbws [1]"), "unrecognized arguments: --lbws"),
        (shlex.split(MERGE.replace("-0.4", "x")), "argument --ratios: invalid number value: 'x'"),
        (shlex.split(MERGE.replace("-0.4", "1e400")), "argument --ratios: invalid number value: '1e400'"),
        (shlex.split(MERGE.replace("-0.4", "nan")), "argument --ratios: invalid number value: 'nan'"),
        (["resize_lora.py", "--new_rank", "0"], "argument --new_rank: invalid rank value: '0'"),
        (["flux_extract_lora.py", "--dim", "-4"], "argument --dim: invalid rank value: '-4'"),
        (shlex.split(MERGE.replace(" -0.4", "")), "2 models, but 1 ratios"),
        (["merge_lora.py", "--save_to", "c"], "--models names no LoRA"),
        (["sdxl_" + word if "merge_lora" in word else word for word in ["merge_lora.py"]], "required"),
    ],
)
def test_what_the_script_would_refuse_is_refused(words: Sequence[str], text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_command(words)
    assert text in str(caught.value)


def test_a_list_of_block_weights_for_each_model() -> None:
    command = "sdxl_merge_lora.py --models a b --ratios 1 1 --save_to c --lbws [1,0.5] [0,1]"
    assert parse_command(shlex.split(command)).block_weights == ([1.0, 0.5], [0.0, 1.0])
    with pytest.raises(UsageError, match="2 models, but 1 lbws"):
        parse_command(shlex.split(command.replace(" [0,1]", "")))


@pytest.mark.parametrize("text", ["1,0.5", "{}", "[1, [2]]", "[true]", '["IN00"]', "[NaN]", "[1e999]"])
def test_block_weights_that_are_no_list_of_numbers_are_refused(text: str) -> None:
    found = parse_command(
        ["svd_merge_lora.py", "--models", "a", "--ratios", "1", "--save_to", "c", "--lbws", text]
    )
    with pytest.raises(UsageError, match="takes lists such as"):
        _ = found.block_weights


@pytest.mark.parametrize(
    ("options", "dtype"),
    [
        ("", "fp32"),
        ("--precision fp16", "fp16"),
        ("--precision fp16 --save_precision bf16", "bf16"),
        ("--save_precision float", "fp32"),
    ],
)
def test_what_is_saved_has_the_precision_of_saving_else_of_merging(options: str, dtype: str) -> None:
    assert parse_command(shlex.split(f"{MERGE} {options}")).saving == {"dtype": dtype}


def test_no_metadata_means_no_provenance() -> None:
    found = parse_command(shlex.split(MERGE + " --no_metadata"))
    assert found.saving == {"dtype": "fp32", "provenance": "none"}


def test_flux_takes_fp8_and_the_types_that_lorapipe_lacks_are_named() -> None:
    command = "flux_merge_lora.py --models a --ratios 1 --save_to c --save_precision "
    assert parse_command(shlex.split(command + "fp8")).dtype == "fp8_e4m3"
    with pytest.raises(UsageError, match="no precision 'fp8_e4m3fnuz'"):
        _ = parse_command(shlex.split(command + "fp8_e4m3fnuz")).dtype


def test_every_script_has_an_importer() -> None:
    from lorapipe.drafts.kohya import _IMPORTERS

    assert set(_IMPORTERS) == set(SCRIPTS)
    assert importlib.util.find_spec("networks") is None, "nothing of the scripts is needed"
