"""Verified and rebuilt outputs: the farthest tensors first, names that steer nothing, numbers JSON has."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from lorapipe.build.proving.comparing import Comparison, TensorDifference
from lorapipe.build.proving.rebuild import Again, Rebuilt, Remade
from lorapipe.build.proving.verify import State, Verified
from lorapipe.store.lockfile import LockedOutput
from lorapipe.views.verification import print_verification, verification_json
from lorapipe.weights.closeness import Closeness
from lorapipe.weights.specs import TensorSpec

from .screens import HOSTILE, log, steering, terminal, text_of

FOLDER = Path("/models")


def output(name: str = "o.safetensors") -> Verified:
    locked = LockedOutput(name, "ab" * 32, 1_500_000, "cd" * 32)
    return Verified("out", FOLDER / name, State.OK, locked, "ab" * 32)


def apart(count: int, name: str = "t") -> tuple[TensorDifference, ...]:
    """Tensors of which each is one place further off than the one before."""
    return tuple(
        TensorDifference(f"{name}{n}", TensorSpec("BF16", (2, 3)), Closeness(6, 1, 0.5, 0.25, n + 1))
        for n in range(count)
    )


def remade(*differing: TensorDifference, structure: tuple[str, ...] = ()) -> Rebuilt:
    found = Comparison(40, differing, structure, ("metadata lorapipe.provenance",))
    return Rebuilt((Remade(output(), "ef" * 32, Again.OTHER, found),), ("torch 2.12.0 -> 2.13.0",))


def test_the_tensors_farthest_apart_come_first_and_the_rest_are_counted() -> None:
    console = log()
    print_verification([output()], remade(*apart(23), structure=("n: gone",)), FOLDER, console)

    lines = text_of(console).splitlines()
    assert lines[1].split() == ["o.safetensors", "1.5", "MB", "abababababab", "ok", "other", "bytes"]
    assert lines[2:5] == [
        "out: n: gone",
        "out: metadata lorapipe.provenance differs",
        "out: 23 of 40 tensors differ",
    ]
    assert lines[6].split() == ["t22", "BF16", "1", "of", "6", "0.5", "0.25", "23"]
    assert lines[-2] == "and 3 more; --json lists all"
    assert lines[-1] == "the lock was made with another: torch 2.12.0 -> 2.13.0"


def test_an_output_that_is_not_locked_has_no_digest_to_show() -> None:
    console = log()
    unlocked = Verified("out", FOLDER / "x.safetensors", State.NOT_LOCKED, None, "ab" * 32)
    print_verification([unlocked], None, FOLDER, console)
    assert text_of(console).splitlines()[1].split() == ["x.safetensors", "not", "locked"]
    assert verification_json([unlocked], None, FOLDER)["outputs"][0]["locked"] is None


def test_json_lists_all_and_has_no_infinity() -> None:
    odd = TensorDifference("odd", TensorSpec("F32", ()), Closeness(1, 1, math.inf, math.inf, math.inf))
    told = verification_json([output()], remade(*apart(30), odd), FOLDER)
    text = json.dumps(told, allow_nan=False)
    rebuilt = json.loads(text)["outputs"][0]["rebuilt"]
    assert len(rebuilt["differing"]) == 31
    assert rebuilt["differing"][-1] == {
        "tensor": "odd", "dtype": "F32", "shape": [], "values": 1, "differing": 1,
        "max-abs": None, "max-rel": None, "max-ulps": None,
    }  # fmt: skip
    assert told["machine"] == ["torch 2.12.0 -> 2.13.0"]


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("console", [log, terminal])
def test_no_name_steers_the_terminal(name: str, console: object) -> None:
    screen = console()  # type: ignore[operator]  # one of the two functions
    print_verification([output(name)], remade(*apart(2, name), structure=(f"{name}: gone",)), FOLDER, screen)
    assert steering(text_of(screen)) == []
