"""Sizes are read exactly, and what is none is refused."""

from __future__ import annotations

import pytest

from lorapipe.errors import RecipeError
from lorapipe.recipe.sizes import size_in_bytes


@pytest.mark.parametrize(
    ("size", "found"),
    [(7, 7), ("7", 7), ("0", 0), ("7B", 7), ("2kB", 2000), ("2KB", 2000), ("100MB", 100_000_000), ("0.5 GB", 500_000_000),
     ("80MiB", 80 << 20), ("1.5GiB", 3 << 29), ("1TiB", 1 << 40), ("0.1MB", 100_000)],
)  # fmt: skip
def test_a_size_is_read_exactly(size: int | str, found: int) -> None:
    assert size_in_bytes(size) == found


@pytest.mark.parametrize(
    "size", ["", "1.5", "9" * 31, "٤", "MB", "1e3MB", "-1MB", "100 mb", "1kiB", "1,5GB", "100MBit"]
)
def test_what_is_no_size_is_refused(size: str) -> None:
    with pytest.raises(RecipeError) as caught:
        size_in_bytes(size)
    assert (caught.value.code, caught.value.option) == ("bad-size", "max-size")
