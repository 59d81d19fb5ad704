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
from lorapipe.steps.kind import Cost

MIB = 1 << 20
ITSELF = 320 * MIB


def step(each: int = 0, kept: int = 0) -> PlannedStep:
    return cast(
        "PlannedStep", SimpleNamespace(cost=Cost(each=each, kept=kept), step=SimpleNamespace(id="small"))
    )


@dataclass
class Planned:
    steps: dict[str, Any]
    schedule: list[Any] = field(default_factory=list)


def plan(*steps: PlannedStep) -> Plan:
    names = {f"s{i}": s for i, s in enumerate(steps)}
    return cast("Plan", Planned(dict(names), [SimpleNamespace(step=name) for name in names]))


def test_without_a_limit_each_worker_has_two_items() -> None:
    assert Means(8).share(step(each=10 * MIB, kept=10**12)) == Share(8, 16, spooled=False)


def test_a_limit_takes_items_away_and_then_workers() -> None:
    means = Means(8, ITSELF + 100 * MIB)
    assert means.share(step(each=1 * MIB)) == Share(8, 16, spooled=False)
    assert means.share(step(each=10 * MIB)) == Share(8, 9, spooled=False)
    assert means.share(step(each=20 * MIB)) == Share(4, 4, spooled=False)
    assert means.share(step(each=50 * MIB)) == Share(1, 1, spooled=False)


def test_a_result_of_half_the_room_goes_to_the_disk() -> None:
    means = Means(2, ITSELF + 100 * MIB)
    assert means.share(step(each=10 * MIB, kept=50 * MIB)) == Share(2, 4, spooled=False)
    assert means.share(step(each=10 * MIB, kept=51 * MIB)) == Share(2, 4, spooled=True)


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
    assert 1 <= share.workers <= workers
    assert share.workers <= share.under_way or share.under_way == 2 * workers
    if share.under_way > 1:
        assert ITSELF + held + (share.under_way + 1) * each <= memory


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
