"""What to read of a file for some rows of a reference weight, wherever it keeps them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorapipe.weights.inference.reference import Take, takes, whole_shape
from lorapipe.weights.specs import CheckpointSpec, Place, TensorSpec


def spec(shapes: dict[str, tuple[int, ...]], **keys: tuple[Place, ...]) -> CheckpointSpec:
    return CheckpointSpec("sdxl", {name: TensorSpec("F16", shape) for name, shape in shapes.items()}, keys)


FUSED = spec(
    {"q": (4, 5), "k": (4, 5), "v": (4, 5)},
    qkv=(Place("q", (0, 4)), Place("k", (4, 8)), Place("v", (8, 12))),
)
SWAPPED = spec({"w": (6, 3)}, w=(Place("w", (0, 3), 3), Place("w", (3, 6), 0)))
TURNED = spec({"p": (5, 7)}, p=(Place("p", transposed=True),))


def test_the_whole_is_put_together_from_what_the_file_has() -> None:
    assert whole_shape(FUSED, "qkv") == (12, 5)
    assert whole_shape(SWAPPED, "w") == (6, 3)
    assert whole_shape(TURNED, "p") == (7, 5)
    assert whole_shape(spec({"c": (4, 3, 3, 3)}, c=(Place("c"),)), "c") == (4, 3, 3, 3)
    assert whole_shape(spec({"s": ()}, s=(Place("s"),)), "s") == ()


@pytest.mark.parametrize(
    "places",
    [
        (),
        (Place("q", (4, 8)),),
        (Place("q", (0, 4)), Place("k", (8, 12))),
        (Place("q", (0, 4)), Place("wide", (4, 8))),
    ],
    ids=["none", "not from the start", "a gap", "of another width"],
)
def test_what_lacks_rows_is_not_there(places: tuple[Place, ...]) -> None:
    shapes: dict[str, tuple[int, ...]] = {"q": (4, 5), "k": (4, 5), "wide": (4, 6)}
    assert whole_shape(spec(shapes, w=places), "w") is None
    assert whole_shape(FUSED, "nothing") is None


def test_rows_are_taken_from_the_tensors_that_have_them() -> None:
    assert list(takes(FUSED, "qkv", 2, 9)) == [Take("q", 2, 4, 0), Take("k", 0, 4, 2), Take("v", 0, 1, 6)]
    assert list(takes(SWAPPED, "w", 1, 5)) == [Take("w", 4, 6, 0), Take("w", 0, 2, 2)]
    assert list(takes(TURNED, "p", 2, 4)) == [Take("p", 2, 4, 0, transposed=True)]
    assert list(takes(spec({"s": ()}, s=(Place("s"),)), "s", 0, 1)) == [Take("s", 0, 1, 0)]


@given(st.data())
def test_what_is_taken_is_the_rows_asked_for(data: st.DataObject) -> None:
    """The weight is cut into tensors that lie in any order in the file's own."""
    heights = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    whole = np.random.default_rng(0).standard_normal((sum(heights), 3))
    ends = np.cumsum([0, *heights])
    parts = {f"t{i}": whole[a:b] for i, (a, b) in enumerate(pairwise(ends))}
    places = tuple(Place(n, (int(a), int(b))) for n, (a, b) in zip(parts, pairwise(ends), strict=True))
    known = spec({name: part.shape for name, part in parts.items()}, w=places)
    start = data.draw(st.integers(0, len(whole) - 1))
    stop = data.draw(st.integers(start + 1, len(whole)))
    found = np.zeros((stop - start, 3))
    for take in takes(known, "w", start, stop):
        found[take.first : take.first + take.stop - take.start] = parts[take.key][take.start : take.stop]
    np.testing.assert_array_equal(found, whole[start:stop])
