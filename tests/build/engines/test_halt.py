"""One thread asks to stop; the others hear it wherever they wait or look."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from lorapipe.build.engines.halt import Halt
from lorapipe.errors import Halted


def test_nobody_stops_before_it_is_asked_for() -> None:
    halt = Halt()
    ready: Future[int] = Future()
    ready.set_result(7)

    halt.go_on()
    assert halt.result(ready) == 7


def test_after_it_was_asked_for_nobody_goes_on() -> None:
    halt = Halt()
    ready: Future[int] = Future()
    ready.set_result(7)
    halt.ask()
    halt.ask()

    with pytest.raises(Halted):
        halt.go_on()
    with pytest.raises(Halted):
        halt.result(ready)


def test_who_waits_for_something_that_never_comes_is_let_go() -> None:
    halt, never = Halt(), Future[None]()
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(halt.result, never)
        halt.ask()
        with pytest.raises(Halted):
            waits.result(timeout=20)


def test_what_the_other_thread_raised_is_raised() -> None:
    failed: Future[None] = Future()
    failed.set_exception(KeyError("a"))

    with pytest.raises(KeyError):
        Halt().result(failed)


def test_a_call_is_made_and_then_is_asked_whether_to_go_on() -> None:
    halt, made = Halt(), list[str]()
    call = halt.after(made.append)

    call("first")
    halt.ask()
    with pytest.raises(Halted):
        call("second")

    assert made == ["first", "second"]


def test_when_all_have_stopped_it_can_begin_anew() -> None:
    halt = Halt()
    halt.ask()
    halt.forget()

    halt.go_on()
    halt.ask()
    with pytest.raises(Halted):
        halt.go_on()


def test_many_threads_hear_of_it() -> None:
    halt, never, heard = Halt(), Future[None](), threading.Semaphore(0)

    def wait() -> None:
        try:
            halt.result(never)
        except Halted:
            heard.release()

    threads = [threading.Thread(target=wait) for _ in range(8)]
    for thread in threads:
        thread.start()
    halt.ask()
    for thread in threads:
        thread.join(20)

    assert all(heard.acquire(blocking=False) for _ in threads)
