"""What a plan asks of a shared store, and what it makes of the answer."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import pytest

from lorapipe.build.run import build, plan
from lorapipe.plan.plan import Plan, Status
from lorapipe.plan.shared import with_shared
from lorapipe.recipe.parsing import load_recipe

from ..bench import Bench

#   a -- small -- mixed -- one
#           \ fine (check)
#   b -- other -- (nothing)
STEPS = """
    a: {load: a.safetensors}
    small: {svd-resize: a, rank: 2}
    fine: {check: small, norm: {max: 1000}}
    mixed: {shuffle: small, seed: 7}
    twin: {shuffle: small, seed: 7}
    one: {save: mixed, to: one.safetensors}
    two: {save: twin, to: two.safetensors}
    other: {svd-resize: a, rank: 1}
"""


@dataclass
class Shared:
    """A shared store that has some keys; ``asked`` and ``needed`` are what it was asked for."""

    has: Mapping[str, int] = field(default_factory=dict)
    unasked: str | None = None
    asked: list[set[str]] = field(default_factory=list)
    needed: list[set[str]] = field(default_factory=list)

    def look(self, keys: Collection[str], needed: Collection[str] = ()) -> Mapping[str, int]:
        self.asked.append(set(keys))
        self.needed.append(set(needed))
        return {key: size for key, size in self.has.items() if key in keys}


@pytest.fixture
def made(bench: Bench) -> Plan:
    bench.lora("a")
    bench.recipe(STEPS)
    return plan(load_recipe(bench.folder / "r.yaml"), read=True)


def key(made: Plan, step: str) -> str:
    found = made.steps[step].key
    assert found is not None
    return found


def test_it_is_asked_once_for_all_that_would_run_and_checks_are_needed_whole(made: Plan) -> None:
    shared = Shared()
    assert with_shared(made.steps, made.schedule, shared) == dict(made.steps)

    assert shared.asked == [{key(made, step) for step in ("small", "fine", "mixed")}]
    assert shared.needed == [{key(made, "fine")}]


def test_what_it_has_need_not_run_and_tells_its_bytes(made: Plan) -> None:
    shared = Shared({key(made, "mixed"): 1000, key(made, "fine"): 10})
    found = with_shared(made.steps, made.schedule, shared)

    for step in ("mixed", "twin"):  # steps of one key have one result
        assert (found[step].status, found[step].fetch) == (Status.IN_STORE, 1000)
        assert (found[step].standing, found[step].reason) == (
            "in the shared store",
            f"key {key(made, 'mixed')[:12]}",
        )
    assert (found["fine"].status, found["fine"].fetch) == (Status.UP_TO_DATE, None)
    assert found["small"] == made.steps["small"]


def test_of_a_result_of_no_bytes_a_fetch_is_one_all_the_same(made: Plan) -> None:
    found = with_shared(made.steps, made.schedule, Shared({key(made, "small"): 0}))
    assert (found["small"].fetch, found["small"].standing) == (0, "in the shared store")


def test_with_nothing_to_do_it_is_not_asked(bench: Bench) -> None:
    bench.lora("a")
    recipe = load_recipe(bench.recipe(STEPS))
    build(recipe)
    done = plan(recipe)
    shared = Shared()
    assert with_shared(done.steps, done.schedule, shared) == dict(done.steps)
    assert shared.asked == []


def test_inputs_that_are_not_hashed_have_no_keys_to_ask_for(bench: Bench) -> None:
    bench.lora("a")
    unread = plan(load_recipe(bench.recipe(STEPS)))
    shared = Shared()
    with_shared(unread.steps, unread.schedule, shared)
    assert shared.asked == []
