"""The families that there are, and what users call them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import lorapipe
from lorapipe.architectures import families, family, titles
from lorapipe.architectures.catalogue import heads
from lorapipe.errors import RecipeError

TITLES = {
    "chroma": "Chroma",
    "flux1": "FLUX.1",
    "flux2-dev": "FLUX.2 dev",
    "flux2-klein-4b": "FLUX.2 klein 4B",
    "flux2-klein-9b": "FLUX.2 klein 9B",
    "hunyuan-video": "HunyuanVideo",
    "sd1": "SD1.x",
    "sd2": "SD2.x",
    "sd3": "SD3.x medium",
    "sd35-large": "SD3.5 large",
    "sdxl": "SDXL",
}


def test_each_table_is_a_family_with_a_title_for_people() -> None:
    assert list(families()) == sorted(families())
    assert {name: family(name).title for name in TITLES} == TITLES
    assert titles().items() >= TITLES.items()
    assert titles() == {name: family(name).title for name in families()}


def test_the_main_model_comes_first_and_is_what_recipes_call_the_unet() -> None:
    for name in families():
        known = family(name)
        assert next(known.group(component) for component in known.components) == "unet"
        assert {known.group(component) for component in known.components} <= {"unet", "te"}


def test_a_family_is_loaded_once() -> None:
    assert family("sd1") is family("sd1")


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("sd15", "sd1"),
        ("SD1.5", "sd1"),
        ("sd1.x", "sd1"),
        ("sd21", "sd2"),
        ("SD2.1", "sd2"),
        ("SDXL", "sdxl"),
        (" xl ", "sdxl"),
        ("flux", "flux1"),
        ("FLUX.1-dev", "flux1"),
        ("flux.2", "flux2-dev"),
        ("SD3.5-medium", "sd3"),
        ("sd3.5 large", "sd35-large"),
        ("HunyuanVideo", "hunyuan-video"),
    ],
)
def test_a_family_answers_to_what_users_call_it(alias: str, name: str) -> None:
    assert family(alias).name == name


@pytest.mark.parametrize(
    ("typo", "message"),
    [
        ("sdlx", "error: no model family 'sdlx' - did you mean 'sdxl'?"),
        ("SD15x", "error: no model family 'SD15x' - did you mean 'sd1'?"),
    ],
)
def test_an_unknown_family_is_an_error_with_a_remedy(typo: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        family(typo)
    assert (str(caught.value), caught.value.code) == (message, "unknown-family")


def test_a_name_like_no_other_is_told_what_there_is() -> None:
    with pytest.raises(RecipeError) as caught:
        family("qqqq")
    assert str(caught.value) == f"error: no model family 'qqqq' - known are {', '.join(families())}"


def test_heads_say_what_the_tables_say() -> None:
    assert [head.name for head in heads()] == list(families())
    assert all(head.source and (head.signs or head.starts) for head in heads())


def modules_after(script: str) -> str:
    out = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(lorapipe.__file__).resolve().parent.parent,
    )
    return out.stdout.strip()


def test_titles_are_told_without_reading_a_table() -> None:
    script = (
        "import lorapipe.architectures as a, lorapipe.architectures.table as t\n"
        "t.parse_table = None; a.titles(); print(len(a.titles()) == len(a.families()))"
    )
    assert modules_after(script) == "True"


def test_architectures_load_without_torch_or_networkx() -> None:
    script = (
        "import sys, lorapipe.architectures as a\n"
        "a.family('sdxl').targets(); print({'torch', 'numpy', 'networkx'} & set(sys.modules))"
    )
    assert modules_after(script) == "set()"
