"""What a LoRA's metadata say of its model: the table's facts, the sources' own words, no date."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest

from lorapipe.architectures import Family, families, family
from lorapipe.formats.layouts.modelspec import modelspec_metadata

SDXL = {
    "modelspec.sai_model_spec": "1.0.1",
    "modelspec.architecture": "stable-diffusion-xl-v1-base/lora",
    "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
    "modelspec.title": "LoRA",
    "modelspec.resolution": "1024x1024",
    "modelspec.prediction_type": "epsilon",
}


def test_a_familys_facts_are_told_and_that_it_is_a_lora() -> None:
    assert modelspec_metadata(family("sdxl"), {"ss_tag": "x"}, "keep") == SDXL


def test_what_the_sources_agree_on_stays() -> None:
    own = {"modelspec.title": "Ink", "modelspec.architecture": "stable-diffusion-xl-v1-turbo/lora"}
    assert modelspec_metadata(family("sdxl"), {**own, "ss_tag": "x"}, "kohya") == SDXL | own


@pytest.mark.parametrize("layout", ["diffusers", "peft"])
def test_diffusers_names_are_diffusers_implementation(layout: str) -> None:
    found = modelspec_metadata(family("sdxl"), {"modelspec.implementation": "sgm"}, layout)
    assert found == SDXL | {"modelspec.implementation": "diffusers"}


@pytest.mark.parametrize("name", [None, "sd2"])
def test_of_a_model_that_no_table_describes_nothing_is_made_up(name: str | None) -> None:
    known: Family | None = None if name is None else family(name)
    assert modelspec_metadata(known, {"modelspec.author": "me"}, "keep") == {"modelspec.author": "me"}


@pytest.mark.parametrize("name", [name for name in families() if family(name).modelspec])
def test_what_a_table_says_is_recognised_as_its_family(name: str) -> None:
    known = family(name)
    told = modelspec_metadata(known, {}, "keep")
    patterns = known.metadata["modelspec.architecture"]
    assert any(fnmatchcase(told["modelspec.architecture"].lower(), pattern) for pattern in patterns)
    assert {"modelspec.implementation", "modelspec.resolution"} <= told.keys()


def test_most_families_are_described() -> None:
    described = [name for name in families() if family(name).modelspec]
    assert {"sd1", "sdxl", "flux1", "lumina2", "wan"} <= set(described)
