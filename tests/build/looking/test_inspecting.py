"""A look in stages: what is read for which, and what is remembered of it."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lorapipe.build.looking.inspecting import Look, hashes_of, look
from lorapipe.errors import InputError
from lorapipe.formats.hashes import FileHashes
from lorapipe.weights.algebra import portrait
from lorapipe.weights.specs import AdapterSpec

from ...bench import TO_Q, Bench


def stages(path: Path, **asked: bool | None) -> list[tuple[bool, bool, bool]]:
    """Of each stage whether hashes, figures and tensors are there."""
    found = look(path, **asked)  # type: ignore[arg-type]  # family is not asked for
    return [(s.hashes is not None, s.figures is not None, s.tensors is not None) for s in found]


HEADER, HASHED, FIGURES = (False, False, False), (True, False, False), (True, True, False)


def test_a_lora_is_hashed_then_measured(bench: Bench) -> None:
    assert stages(bench.lora("a")) == [HEADER, HASHED, FIGURES]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"hashes": False, "norms": False}, [HEADER]),
        ({"norms": False}, [HEADER, HASHED]),
        ({"hashes": False}, [HEADER, (False, True, False)]),
        ({"hashes": False, "norms": False, "spectra": True}, [HEADER, (False, True, False)]),
    ],
)
def test_what_is_not_wanted_is_not_done(
    bench: Bench, asked: dict[str, bool], expected: list[tuple[bool, bool, bool]]
) -> None:
    assert stages(bench.lora("a"), **asked) == expected


def test_a_checkpoint_is_neither_unless_asked_for(bench: Bench) -> None:
    path = bench.checkpoint()
    assert stages(path) == stages(path, spectra=True) == [HEADER]
    assert stages(path, norms=True) == [HEADER, (False, False, True)]
    assert stages(path, hashes=True, norms=True) == [HEADER, HASHED, (True, False, True)]


def test_a_sha256_that_was_made_once_is_known_and_costs_no_reading(bench: Bench) -> None:
    path = bench.checkpoint()
    time.sleep(0.06)  # younger than the tick of the file system's clock it would not be remembered
    found = hashes_of(path)
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    (header, known) = look(path)
    assert (header.hashes, known.hashes) == (None, FileHashes(found.sha256, found.autov1))
    os.utime(path)
    assert stages(path) == [HEADER]


def test_figures_are_those_of_the_portrait(bench: Bench) -> None:
    path = bench.lora("a", rank=3)
    *_, whole = look(path)
    assert whole.figures is not None
    assert isinstance(whole.inspection.spec, AdapterSpec)
    for module, figures in whole.figures.items():
        stem = whole.inspection.spec.modules[module].spelling.stem
        values = np.linalg.svd(bench.deltas["a"][stem], compute_uv=False)[:3]
        assert figures.singular_values == pytest.approx(tuple(values), rel=1e-11)


def test_trouble_is_told_where_nobody_asked_and_raised_where_somebody_did(bench: Bench) -> None:
    path = bench.lora("a")
    tensors = load_file(path)
    tensors[f"{TO_Q}.lora_up.weight"][0, 0] = torch.inf
    tensors[f"{TO_Q}.alpha"] = torch.tensor(0.0)
    save_file(tensors, path, {"ss_base_model_version": "sd_v1", "ss_v2": "False"})
    *_, told = look(path)
    assert told.figures is None
    assert told.trouble is not None
    assert {part.split(" (")[0].split(":")[0] for part in told.trouble.split("; ")} == {
        "1 tensor with NaN or Inf",
        "1 alpha of 0, NaN or Inf",
    }
    with pytest.raises(Exception, match="NaN or Inf"):
        list(look(path, norms=True))


def test_a_fault_of_ours_is_not_taken_for_trouble(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(portrait, "portrait", fails)
    with pytest.raises(ZeroDivisionError):
        list(look(bench.lora("a")))


def test_a_missing_file_is_told_before_anything(bench: Bench) -> None:
    with pytest.raises(InputError):
        next(look(bench.folder / "nope.safetensors"))
    assert Look.__slots__
