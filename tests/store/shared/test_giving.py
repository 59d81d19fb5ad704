"""Uploads beside the work: all are done when it is finished, none when it is given up, faults are heard."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from lorapipe.store.shared.giving import Giving

Sent = Callable[[int], None]


def ignored(done: int, total: int) -> None:
    pass


def test_all_that_was_given_is_done_when_it_is_finished() -> None:
    giving, done = Giving(), []
    for number in range(50):
        giving.later(lambda sent, number=number: done.append(number), 1)  # type: ignore[misc]  # no lambda's default
    giving.finish(ignored)

    assert sorted(done) == list(range(50))


def test_nobody_waits_until_it_is_finished() -> None:
    giving, may = Giving(), threading.Event()
    giving.later(lambda sent: may.wait(30) and None, 1)
    may.set()
    giving.finish(ignored)


def test_bytes_are_told_as_they_go_and_what_needed_no_sending_counts_as_sent() -> None:
    giving, told = Giving(), []

    def sends(sent: Sent) -> None:
        sent(30)
        sent(10)

    giving.later(sends, 40)
    giving.later(lambda sent: None, 60)
    giving.finish(lambda done, total: told.append((done, total)))

    assert told[-1] == (100, 100)
    assert all(done <= total == 100 for done, total in told)


def test_with_nothing_to_give_nothing_is_told() -> None:
    told: list[tuple[int, int]] = []
    Giving().finish(lambda done, total: told.append((done, total)))
    assert told == []


def test_it_can_be_finished_again_with_what_came_later() -> None:
    giving, done = Giving(), []
    for number in range(3):
        giving.later(lambda sent, number=number: done.append(number), 5)  # type: ignore[misc]  # as above
        giving.finish(ignored)
    assert done == [0, 1, 2]


def test_what_is_given_up_is_not_begun() -> None:
    giving, may, done = Giving(), threading.Event(), []
    for _ in range(2):  # both threads are at work
        giving.later(lambda sent: may.wait(30) and None, 1)
    giving.later(lambda sent: done.append(1), 1)
    giving.abandon()
    may.set()
    giving.finish(ignored)
    assert done == []


def test_a_mistake_of_the_program_is_raised_where_somebody_waits() -> None:
    giving = Giving()

    def wrong(sent: Sent) -> None:
        raise ZeroDivisionError

    giving.later(wrong, 1)
    with pytest.raises(ZeroDivisionError):
        giving.finish(ignored)


def test_its_threads_keep_no_program_alive() -> None:
    giving, may = Giving(), threading.Event()
    giving.later(lambda sent: may.wait(30) and None, 1)
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == "lorapipe-share")
    may.set()
    giving.finish(ignored)
