"""The readers of recipes and of safetensors on any input: named errors in a moment, nothing else.

Two thousand inputs each; ``python -m tests.fuzz`` feeds as many as wanted.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .inputs import MAKERS
from .targets import TARGETS, read_recipe, read_safetensors

ROOT = Path(__file__).resolve().parents[2]
_NUMBERS = st.integers(0, 2**64)
_ROUND = settings(max_examples=1000, deadline=1000)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@_ROUND
@given(number=_NUMBERS)
def test_any_nearly_sound_recipe_is_read_or_refused_by_name(number: int, scratch: Path) -> None:
    assert read_recipe(MAKERS["recipe"](Random(number)), scratch)


@_ROUND
@given(text=st.text() | st.binary())
def test_any_text_is_a_recipe_or_refused_by_name(text: str | bytes, scratch: Path) -> None:
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    assert read_recipe(data, scratch)


@_ROUND
@given(number=_NUMBERS)
def test_any_nearly_sound_safetensors_file_is_read_or_refused_by_name(number: int, scratch: Path) -> None:
    assert read_safetensors(MAKERS["safetensors"](Random(number)), scratch)


@_ROUND
@given(data=st.binary(max_size=200), length=st.integers(0, 200) | st.integers(0, 2**64 - 1))
def test_any_bytes_are_a_safetensors_file_or_refused_by_name(data: bytes, length: int, scratch: Path) -> None:
    assert read_safetensors(length.to_bytes(8, "little") + data, scratch)


@pytest.mark.parametrize(("name", "codes"), [("recipe", 20), ("safetensors", 16)])
def test_the_inputs_reach_far(name: str, codes: int, scratch: Path) -> None:
    """What is refused at the door tests the door only."""
    found = Counter(TARGETS[name](MAKERS[name](Random(number)), scratch) for number in range(400))
    assert len(found) >= codes
    assert found["read"] >= 10
    assert found.most_common(1)[0][1] < 200


def test_the_long_run_counts_and_a_number_gives_its_input_again() -> None:
    for name, make in MAKERS.items():
        assert make(Random(7)) == make(Random(7))
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz", name, "--count", "20", "--first", "5"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.startswith(f"20 inputs of {name} in ")
        assert ": 0 failures\n" in done.stdout
