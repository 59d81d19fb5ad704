"""Factors that wait on the disk come back bit for bit, from any thread, and leave nothing behind."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from lorapipe.build.running.spool import Spool
from lorapipe.errors import BuildError
from lorapipe.weights.structures.structure import LowRank


def factors(rows: int, rank: int, columns: int, dtype: torch.dtype = torch.float64) -> LowRank:
    return LowRank(torch.randn(rows, rank).to(dtype), torch.randn(rank, columns).to(dtype))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_factors_come_back_as_they_were(tmp_path: Path, dtype: torch.dtype) -> None:
    spool = Spool(tmp_path / "temp")
    given = [factors(5, rank, 7, dtype) for rank in (1, 3, 2)]
    back = [spool.put_away(each) for each in given]
    for one, other in zip(given, back, strict=True):
        assert (other.shape, other.rank, other.plain) == (one.shape, one.rank, True)
        loaded = other.load()
        assert isinstance(loaded, LowRank)
        assert torch.equal(loaded.up, one.up)
        assert torch.equal(loaded.down, one.down)


def test_a_view_of_larger_factors_takes_its_own_size(tmp_path: Path) -> None:
    whole = factors(50, 20, 30)
    cut = LowRank(whole.up[:, :2], whole.down[:2])
    loaded = Spool(tmp_path).put_away(cut).load()
    assert isinstance(loaded, LowRank)
    assert torch.equal(loaded.up @ loaded.down, cut.up @ cut.down)


def test_nothing_is_left_in_the_folder(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    kept = spool.put_away(factors(4, 2, 4))
    assert list(tmp_path.iterdir()) == []
    assert kept.load().shape == (4, 4)


def test_a_step_that_puts_nothing_away_makes_no_file(tmp_path: Path) -> None:
    Spool(tmp_path / "temp")
    assert not (tmp_path / "temp").exists()


def test_many_threads_may_put_away_and_read(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    given = [factors(6, 3, 4) for _ in range(50)]

    def there_and_back(value: LowRank) -> bool:
        loaded = spool.put_away(value).load()
        assert isinstance(loaded, LowRank)
        return torch.equal(loaded.up, value.up) and torch.equal(loaded.down, value.down)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(there_and_back, given))


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(BuildError) as caught:
        Spool(tmp_path).put_away(factors(2, 1, 2))
    assert caught.value.code == "disk-full"
    assert caught.value.hint == "free some space, or build with more memory"
