from __future__ import annotations

import random

import pytest

from lorapipe.errors import BuildError
from lorapipe.remote import uploading
from lorapipe.remote.listing import listing
from lorapipe.remote.removing import remove
from lorapipe.remote.state import state
from lorapipe.remote.targets.target import ABSENT, ANYTHING, Expected
from lorapipe.remote.uploading import Upload, abort, try_writing
from lorapipe.remote.url import parse_url

from ..google import LEAST, Google
from ..servers import Faults


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploading, "PART", 2 * LEAST)


def some(size: int) -> bytes:
    return random.Random(size).randbytes(size)  # noqa: S311  # the same each time


def upload(gs: Google, name: str, data: bytes, expected: Expected = ABSENT) -> Upload:
    sending = Upload(parse_url(gs.url(name)), len(data), expected=expected)
    for at in range(0, len(data), 100_003):
        sending.write(data[at : at + 100_003])
    return sending


@pytest.mark.parametrize("size", [0, 10, 2 * LEAST, 2 * LEAST + 1, 4 * LEAST, 5 * LEAST + 7])
def test_an_object_has_the_bytes_that_were_written_and_is_not_there_before(gs: Google, size: int) -> None:
    sending = upload(gs, "a/x y.bin", some(size))
    sending.seal()
    assert gs.files == {}
    sending.complete()
    assert gs.files == {"a/x y.bin": some(size)}


def test_its_state_is_that_of_its_generation(gs: Google) -> None:
    upload(gs, "x", some(10)).complete()
    assert state(parse_url(gs.url("x"))).revision == str(gs.generations["x"])
    assert listing(parse_url(gs.url(""))).files["x"].etag == state(parse_url(gs.url("x"))).etag


def test_an_upload_that_is_aborted_leaves_nothing(gs: Google) -> None:
    sending = upload(gs, "x", some(5 * LEAST))
    assert gs.sessions
    abort((sending,))
    assert (gs.files, gs.sessions) == ({}, {})


@pytest.mark.parametrize("size", [10, 5 * LEAST])
def test_only_what_is_expected_is_replaced(gs: Google, size: int) -> None:
    sending = upload(gs, "x", some(size))
    gs.lay("x", b"another's")
    with pytest.raises(BuildError) as caught:
        sending.complete()
    assert caught.value.code == "output-raced"
    abort((sending,))
    assert gs.files == {"x": b"another's"}
    sending = upload(gs, "x", b"")
    sending.look()
    sending.complete()
    gs.lay("x", b"another's")
    upload(gs, "x", some(size), ANYTHING).complete()
    assert gs.files == {"x": some(size)}


@pytest.mark.parametrize("size", [10, 5 * LEAST])
def test_answers_that_get_lost_cost_nothing(gs: Google, size: int) -> None:
    sending = upload(gs, "x", some(size))
    sending.seal()
    gs.lose = 1
    sending.complete()
    assert (gs.files, gs.lose) == ({"x": some(size)}, 0)


def test_a_part_that_was_taken_is_not_taken_twice(gs: Google) -> None:
    gs.lose = 2
    upload(gs, "x", some(9 * LEAST)).complete()
    assert (gs.files, gs.lose) == ({"x": some(9 * LEAST)}, 0)


def test_a_server_that_fails_for_a_while_is_asked_again_and_nobody_hears_of_it(
    gs: Google, capfd: pytest.CaptureFixture[str]
) -> None:
    gs.faults = Faults(status=503, times=1)
    upload(gs, "x", some(5 * LEAST)).complete()
    assert gs.files == {"x": some(5 * LEAST)}
    assert capfd.readouterr() == ("", "")


def test_what_cannot_be_written_says_why(gs: Google) -> None:
    with pytest.raises(BuildError) as caught:
        try_writing(parse_url("gs://another/x"))
    assert (caught.value.code, caught.value.where) == ("remote-missing", "gs://another/x")
    gs.faults = Faults(status=403)
    with pytest.raises(BuildError) as caught:
        try_writing(parse_url(gs.url("x")))
    assert (caught.value.code, caught.value.exit_status) == ("remote-forbidden", 5)
    assert "GOOGLE_APPLICATION_CREDENTIALS" in str(caught.value.hint)


def test_what_can_be_written_is_left_as_it_was(gs: Google) -> None:
    try_writing(parse_url(gs.url("x")))
    assert (gs.files, gs.sessions) == ({}, {})


def test_objects_go_when_they_are_removed(gs: Google) -> None:
    gs.lay("m/a b", b"1")
    gs.lay("m/b", b"2")
    remove([parse_url(gs.url("m/a b")), parse_url(gs.url("m/gone"))])
    assert gs.files == {"m/b": b"2"}
