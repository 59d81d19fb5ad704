"""A build takes the memory it is given: fewer items at a time, results on the disk, or a word beforehand."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorapipe.build.running.means import LEAST, Means, Share
from lorapipe.errors import UsageError
from lorapipe.plan.plan import Plan, PlannedStep
from lorapipe.remote.url import Url
from lorapipe.steps.kind import Cost

MIB = 1 << 20
ITSELF = 320 * MIB


def step(each: int = 0, kept: int = 0, output: Url | None = None, written: int = 0) -> PlannedStep:
    cost = Cost(each=each, kept=kept, written=written)
    return cast("PlannedStep", SimpleNamespace(cost=cost, step=SimpleNamespace(id="small"), output=output))


@dataclass
class Planned:
    steps: dict[str, Any]
    schedule: list[Any] = field(default_factory=list)


def plan(*steps: PlannedStep) -> Plan:
    names = {f"s{i}": s for i, s in enumerate(steps)}
    return cast("Plan", Planned(dict(names), [SimpleNamespace(step=name) for name in names]))


def test_without_a_limit_each_worker_has_two_items() -> None:
    assert Means(8).share(step(each=10 * MIB, kept=10**12)) == Share(16, spooled=False)


def test_a_limit_takes_items_away_until_one_is_left() -> None:
    means = Means(8, ITSELF + 100 * MIB)
    assert means.share(step(each=1 * MIB)) == Share(16, spooled=False)
    assert means.share(step(each=10 * MIB)) == Share(9, spooled=False)
    assert means.share(step(each=20 * MIB)) == Share(4, spooled=False)
    assert means.share(step(each=50 * MIB)) == Share(1, spooled=False)


def test_a_result_of_half_the_room_goes_to_the_disk() -> None:
    means = Means(2, ITSELF + 100 * MIB)
    assert means.share(step(each=10 * MIB, kept=50 * MIB)) == Share(4, spooled=False)
    assert means.share(step(each=10 * MIB, kept=51 * MIB)) == Share(4, spooled=True)


@given(
    workers=st.integers(1, 64),
    memory=st.integers(LEAST, 1 << 36),
    each=st.integers(0, 1 << 30),
    kept=st.integers(0, 1 << 36),
)
def test_what_is_given_out_is_within_the_limit(workers: int, memory: int, each: int, kept: int) -> None:
    means, planned = Means(workers, memory), step(each, kept)
    try:
        means.check(plan(planned))
    except UsageError:
        assert ITSELF + 2 * each > memory
        return
    share = means.share(planned)
    held = 0 if share.spooled else kept
    assert 1 <= share.under_way <= 2 * workers
    if share.under_way > 1:
        assert ITSELF + held + (share.under_way + 1) * each <= memory


@given(each=st.integers(1, 1 << 28), kept=st.integers(0, 1 << 30))
def test_what_a_step_needs_is_what_its_share_lets_it_take(each: int, kept: int) -> None:
    assert Means(2).need(step(each, kept)) == 5 * each + kept  # two at work, two that wait, one in use
    held = Means(2, 2 << 30)
    assert held.room == (2 << 30) - ITSELF
    if ITSELF + 2 * each <= 2 << 30:
        assert held.need(step(each, kept)) <= held.room


def test_without_a_limit_a_part_of_what_is_free_is_left_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lorapipe.build.running.means.available", lambda: 1000 * MIB)
    assert Means(2).room == 750 * MIB
    monkeypatch.setattr("lorapipe.build.running.means.available", lambda: None)
    assert Means(2).room is None


@pytest.mark.parametrize(("memory", "named"), [(LEAST - 1, "512MiB"), (100, "512MiB")])
def test_less_than_any_build_takes_is_refused(memory: int, named: str) -> None:
    with pytest.raises(UsageError) as caught:
        Means(2, memory).check(plan())
    assert caught.value.code == "memory-too-small"
    assert named in str(caught.value.hint)


def test_a_step_that_cannot_be_kept_within_it_is_named_before_work() -> None:
    means = Means(2, LEAST)
    means.check(plan(step(each=96 * MIB)))
    with pytest.raises(UsageError) as caught:
        means.check(plan(step(), step(each=97 * MIB)))
    assert "'small'" in caught.value.message
    assert caught.value.hint == "give --memory 514MiB or more"
    Means(2).check(plan(step(each=1 << 40)))


def test_what_is_on_its_way_to_a_url_counts() -> None:
    there = Url("s3", "bucket", "x")
    assert Means(2).need(step(each=MIB, output=there)) == Means(2).need(step(each=MIB)) + 64 * MIB
    assert Means(2).need(step(output=there, written=5 << 40)) > 4 << 30
    limited = Means(8, 600 * MIB)
    assert limited.share(step(20 * MIB, output=there)).under_way < limited.share(step(20 * MIB)).under_way
    with pytest.raises(UsageError) as caught:
        Means(1, LEAST).check(plan(step(each=80 * MIB, output=there)))
    assert caught.value.code == "memory-too-small"
    Means(1, LEAST).check(plan(step(each=80 * MIB)))
