from __future__ import annotations

import threading
import time
from concurrent.futures import Future

import pytest

from lorapipe.remote.waiting import aside, awaited


class Stop(Exception):
    pass


def stopping_after(seconds: float) -> object:
    until = time.monotonic() + seconds

    def go_on() -> None:
        if time.monotonic() > until:
            raise Stop

    return go_on


def test_what_is_asked_aside_is_given() -> None:
    assert aside(lambda: None, divmod, 7, 2) == (3, 1)


def test_what_it_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        aside(lambda: None, divmod, 1, 0)


def test_who_need_not_go_on_does_not_wait_for_the_end() -> None:
    over = threading.Event()
    started = time.monotonic()
    with pytest.raises(Stop):
        aside(stopping_after(0.15), over.wait, 30)
    assert time.monotonic() - started < 5
    over.set()


def test_what_is_done_already_is_not_asked_about() -> None:
    done: Future[int] = Future()
    done.set_result(3)
    assert awaited(done, stopping_after(0.0)) == 3
