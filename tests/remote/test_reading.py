"""Ranges of files elsewhere, with all that goes wrong on the way."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from lorapipe.errors import InputError
from lorapipe.remote.hashing import sha256_of
from lorapipe.remote.ranges import WHOLE
from lorapipe.remote.reading import HEAD, RemoteFile
from lorapipe.remote.state import Version, state
from lorapipe.remote.url import Url, parse_url

from .servers import Bucket, Faults, Files, Forward, Hub, Response, Zeros, plain

DATA = random.Random(1).randbytes(300_000)  # noqa: S311  # numbers for a test

Place = tuple[Url, Any]
"""A file of :data:`DATA`, and the server that it comes from, with its faults."""


EVERYWHERE = pytest.mark.parametrize("place", ["web", "s3", "hub"], indirect=True)


@pytest.fixture(params=["web", "s3"])  # the Hub's files come as the web's do
def place(request: pytest.FixtureRequest) -> Place:
    if request.param == "web":
        web: Files = request.getfixturevalue("web")
        return parse_url(web.put("a/b.safetensors", DATA)), web
    if request.param == "s3":
        s3: Bucket = request.getfixturevalue("s3")
        return parse_url(s3.put("a/b.safetensors", DATA)), s3.proxy
    hub: Hub = request.getfixturevalue("hub")
    hub.commit("org/repo", {"a/b.safetensors": DATA})
    return parse_url("hf://org/repo/a/b.safetensors"), hub.cdn


def body(method: str, path: str) -> bool:
    return method == "GET"


@EVERYWHERE
def test_any_range_is_what_the_file_has_there(place: Place) -> None:
    url, _ = place
    with RemoteFile(url) as file:
        assert file.size == len(DATA)
        for start, length in [
            (0, 0),
            (0, 1),
            (0, len(DATA)),
            (HEAD - 1, 2),
            (200_000, 100_000),
            (299_999, 1),
        ]:
            assert file.read(start, length) == DATA[start : start + length]
        assert file.head(10) == DATA[:10]


@EVERYWHERE
def test_opening_reads_the_head_and_no_more(place: Place) -> None:
    url, server = place
    with RemoteFile(url) as file:
        file.read(0, HEAD)
    assert [asked.sent for asked in server.asked if asked.sent] == [HEAD]


def test_several_threads_read_at_once(place: Place) -> None:
    url, server = place
    with RemoteFile(url) as file, ThreadPoolExecutor(8) as pool:
        server.faults = Faults(latency=0.2)
        server.forget()
        parts = list(pool.map(lambda i: file.read(i * 30_000, 30_000), range(2, 10)))
    assert b"".join(parts) == DATA[60_000:300_000]
    assert server.most_at_once > 4, "they waited for each other"


FAULTS = pytest.mark.parametrize(
    "faults",
    [
        Faults(drop_after=0, times=2),
        Faults(drop_after=5_000, times=3),
        Faults(short_by=7_000, times=2),
        Faults(status=503, times=2),
        Faults(status=500, times=1),
        Faults(stall_after=1_000, times=1),
    ],
    ids=["dropped at once", "dropped", "short", "503", "500", "stalled"],
)


@FAULTS
def test_what_fails_in_passing_is_asked_for_again(place: Place, faults: Faults) -> None:
    url, server = place
    with RemoteFile(url) as file:
        faults.only = body
        server.faults = faults
        assert file.read(100_000, 150_000) == DATA[100_000:250_000]


@EVERYWHERE
def test_only_what_is_missing_is_asked_for_again(place: Place) -> None:
    url, server = place
    with RemoteFile(url) as file:
        server.forget()
        server.faults = Faults(drop_after=64_000, times=1, only=body)
        assert file.read(100_000, 150_000) == DATA[100_000:250_000]
    assert server.sent == pytest.approx(150_000, abs=2_000)


def test_a_server_that_is_silent_is_given_up_in_time(place: Place) -> None:
    url, server = place
    with RemoteFile(url) as file:
        file._patience = 0.6
        server.faults = Faults(stall_after=100, only=body)
        begun = time.monotonic()
        with pytest.raises(InputError) as caught:
            file.read(100_000, 150_000)
        assert time.monotonic() - begun < 15
    assert (caught.value.code, caught.value.exit_status) == ("remote-timeout", 4)
    assert caught.value.hint


def test_a_server_that_only_fails_is_given_up_in_time(place: Place) -> None:
    url, server = place
    with RemoteFile(url) as file:
        file._patience = 0.6
        server.faults = Faults(status=503, only=body)
        begun = time.monotonic()
        with pytest.raises(InputError) as caught:
            file.read(100_000, 150_000)
        assert time.monotonic() - begun < 15
    # What speaks to S3 asks again by itself, and may still be at it.
    expected = {"remote-failing"} if url.scheme != "s3" else {"remote-failing", "remote-timeout"}
    assert caught.value.code in expected


def test_another_file_under_the_name_is_noticed(web: Files, s3: Bucket) -> None:
    for put in (web.put, s3.put):
        with RemoteFile(parse_url(put("x.bin", DATA))) as file:
            put("x.bin", DATA[::-1])
            with pytest.raises(InputError) as caught:
                file.read(100_000, 10)
            assert caught.value.code == "input-changed"
            put("x.bin", DATA)
            assert file.read(100_000, 10) == DATA[100_000:100_010]
            put("x.bin", DATA[:-1])
            with pytest.raises(InputError, match="changed"):
                file.read(100_000, 10)


class Liar(Files):
    """A server whose answers are of what was not asked for."""

    lie: Callable[[Response], Response] = staticmethod(lambda response: response)

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Response:
        return type(self).lie(super().answer(method, path, headers, body))


def another_range(response: Response) -> Response:
    response.headers["Content-Range"] = f"bytes 7-{6 + response.length}/300000"
    return response


def no_range(response: Response) -> Response:
    del response.headers["Content-Range"]
    return response


def longer_than_it_is(response: Response) -> Response:
    at = response.headers["Content-Range"].rpartition("/")[0]
    response.headers["Content-Range"] = f"{at}/999999999"
    return response


def more_than_asked(response: Response) -> Response:
    response.body, response.length = iter([DATA, DATA]), 2 * len(DATA)
    return response


def beyond_its_end(response: Response) -> Response:
    return plain(416, headers={"Content-Range": "bytes */300000"})


def nonsense(response: Response) -> Response:
    response.headers["Content-Range"] = "bytes -5-x/y"
    return response


@pytest.mark.parametrize(
    ("lie", "codes"),
    [
        (another_range, {"remote-failing"}),
        (no_range, {"remote-failing"}),
        (nonsense, {"remote-failing"}),
        (longer_than_it_is, {"input-changed"}),
        (beyond_its_end, {"remote-failing"}),
    ],
)
def test_a_server_that_lies_is_found_out_in_time(
    patience: None, lie: Callable[[Response], Response], codes: set[str]
) -> None:
    server = Liar()
    try:
        with RemoteFile(parse_url(server.put("x.bin", DATA))) as file:
            file._patience = 0.3
            Liar.lie = staticmethod(lie)
            with pytest.raises(InputError) as caught:
                file.read(100_000, 10_000)
            assert caught.value.code in codes
    finally:
        Liar.lie = staticmethod(lambda response: response)
        server.close()


def test_more_than_was_asked_for_is_not_taken(patience: None) -> None:
    server = Liar()
    try:
        with RemoteFile(parse_url(server.put("x.bin", DATA))) as file:
            Liar.lie = staticmethod(more_than_asked)
            assert len(file.read(100_000, 10_000)) == 10_000
    finally:
        Liar.lie = staticmethod(lambda response: response)
        server.close()


def test_a_length_that_is_a_lie_from_the_beginning_ends_in_an_error(patience: None) -> None:
    server = Liar()
    Liar.lie = staticmethod(longer_than_it_is)
    try:
        with RemoteFile(parse_url(server.put("x.bin", DATA))) as file:
            file._patience = 0.3
            with pytest.raises(InputError) as caught:
                file.read(299_000, 10_000)
            assert caught.value.code in ("remote-failing", "input-changed")
    finally:
        Liar.lie = staticmethod(lambda response: response)
        server.close()


def test_a_small_file_of_a_server_without_ranges_is_read_whole_once(web: Files) -> None:
    web.ranges = False
    with RemoteFile(parse_url(web.put("x.bin", DATA))) as file:
        assert file.read(200_000, 1_000) == DATA[200_000:201_000]
        assert file.read(0, len(DATA)) == DATA
    assert len(web.asked) == 1


def test_a_file_that_comes_whole_and_without_a_length_is_read_too(web: Files) -> None:
    web.ranges = web.lengths = False
    with RemoteFile(parse_url(web.put("x.bin", DATA))) as file:
        assert (file.size, file.read(299_000, 1_000)) == (len(DATA), DATA[299_000:])


def test_a_large_file_of_a_server_without_ranges_is_refused_before_it_is_read(web: Files) -> None:
    web.ranges = False
    with pytest.raises(InputError) as caught:
        RemoteFile(parse_url(web.put("x.bin", Zeros(b"", WHOLE + 1))))
    assert caught.value.code == "remote-no-ranges"
    assert web.sent < 20 << 20


def test_an_empty_file_has_no_bytes(web: Files, s3: Bucket) -> None:
    for put in (web.put, s3.put):
        with RemoteFile(parse_url(put("x.bin", b""))) as file:
            assert (file.size, file.head()) == (0, b"")


def test_what_lies_beyond_the_end_is_an_error_without_a_request(place: Place) -> None:
    url, server = place
    with RemoteFile(url) as file:
        server.forget()
        with pytest.raises(InputError, match="ends before byte 300001"):
            file.read(300_000, 1)
    assert server.asked == []


def test_a_closed_file_is_not_read_and_lets_go_of_those_who_wait(place: Place) -> None:
    url, server = place
    file = RemoteFile(url)
    server.faults = Faults(stall_after=0, only=body)
    caught: list[BaseException] = []

    def read() -> None:
        try:
            file.read(100_000, 10)
        except ValueError as error:
            caught.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    time.sleep(0.1)
    file.close()
    reader.join(1)
    assert [type(error) for error in caught] == [ValueError]
    with pytest.raises(ValueError, match="closed"):
        file.read(100_000, 10)


def test_an_address_that_sends_on_elsewhere_is_followed(web: Files) -> None:
    there = web.put("there.bin", DATA)
    web.moved["here.bin"] = there
    with RemoteFile(parse_url(f"{web.address}/here.bin")) as file:
        assert file.read(290_000, 10_000) == DATA[290_000:]


def _refused(server: Any, ask: Callable[[], object]) -> InputError:
    with pytest.raises(InputError) as caught:
        ask()
    assert caught.value.hint
    assert caught.value.exit_status == 4
    assert "Traceback" not in str(caught.value)
    return caught.value


def test_what_is_not_there_is_missing(web: Files, s3: Bucket, hub: Hub) -> None:
    hub.commit("org/repo", {"a.bin": DATA})
    missing = {
        f"{web.address}/no.bin": "no such file",
        s3.url("no.bin"): "no such file",
        "s3://no-such-bucket-here/no.bin": "no such bucket",
        "hf://org/repo/no.bin": "no such file",
        "hf://org/none/a.bin": "no such repository",
        "hf://org/repo@none/a.bin": "no such revision",
    }
    for url, message in missing.items():
        error = _refused(web, lambda url=url: RemoteFile(parse_url(url)))
        assert (error.code, message in error.message) == ("remote-missing", True), (url, error)


@EVERYWHERE
@pytest.mark.parametrize("status", [401, 403])
def test_who_may_not_read_is_told_how_to_sign_in(place: Place, status: int) -> None:
    url, server = place
    server.faults = Faults(status=status)
    error = _refused(server, lambda: RemoteFile(url))
    assert error.code == "remote-forbidden"


def test_without_credentials_the_error_says_where_they_are_looked_for(
    s3: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    error = _refused(s3, lambda: RemoteFile(parse_url(s3.url("x.bin"))))
    assert (error.code, error.hint) == ("remote-forbidden", error.hint)
    assert "AWS_PROFILE" in str(error.hint)


def test_nobody_there_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORAPIPE_REMOTE_TIMEOUT", "0.5")
    for url in ("http://127.0.0.1:9/x.bin", "http://no-such-host.invalid/x.bin"):
        error = _refused(None, lambda url=url: RemoteFile(parse_url(url)))
        assert error.code in ("remote-unreachable", "remote-timeout"), error


def test_no_secret_is_in_an_error(s3: Bucket, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret-of-a-test")
    hub.token = "hf_another"  # noqa: S105  # a test's
    s3.faults = Faults(status=403)
    for url in (s3.url("x.bin"), "hf://org/repo/x.bin"):
        error = _refused(None, lambda url=url: RemoteFile(parse_url(url)))
        assert "secret" not in f"{error} {error.details}"


def test_the_token_goes_to_the_hub_and_to_nobody_else(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret-of-a-test")
    hub.token = "hf_secret-of-a-test"  # noqa: S105  # a test's
    hub.commit("org/repo", {"a.bin": DATA, "small.bin": b"small"})
    with RemoteFile(parse_url("hf://org/repo/a.bin")) as file:
        assert file.read(200_000, 10) == DATA[200_000:200_010]
    with RemoteFile(parse_url("hf://org/repo/small.bin")) as file:
        assert file.head() == b"small"
    assert all("hf_secret" in str(asked.headers) for asked in hub.asked)
    assert hub.cdn.asked
    assert not any("hf_secret" in str(asked.headers) for asked in hub.cdn.asked)


def test_an_address_of_the_hub_that_has_run_out_is_asked_for_again(hub: Hub) -> None:
    hub.commit("org/repo", {"a.bin": DATA})
    with RemoteFile(parse_url("hf://org/repo/a.bin")) as file:
        hub.cdn.faults = Faults(status=403, times=1)
        assert file.read(200_000, 10) == DATA[200_000:200_010]


def test_the_hubs_file_is_read_at_the_commit_at_which_it_was_opened(hub: Hub) -> None:
    first = hub.commit("org/repo", {"a.bin": DATA})
    with RemoteFile(parse_url("hf://org/repo/a.bin")) as file:
        hub.commit("org/repo", {"a.bin": DATA[::-1]})
        hub.cdn.faults = Faults(status=403, times=1)
        assert file.read(200_000, 10) == DATA[200_000:200_010]
    with RemoteFile(parse_url(f"hf://org/repo@{first}/a.bin")) as file:
        assert file.read(200_000, 10) == DATA[200_000:200_010]


def test_a_plain_server_before_another_loses_nothing(moto: tuple[str, int], s3: Bucket) -> None:
    assert isinstance(s3.proxy, Forward)
    s3.put("x.bin", DATA)
    assert s3.get("x.bin") == DATA


@EVERYWHERE
def test_the_sha256_is_that_of_all_bytes_read_once_in_order(place: Place) -> None:
    url, server = place
    found = state(url)
    server.forget()
    told: list[tuple[int, int]] = []
    digest = sha256_of(Version(url, found), lambda done, total: told.append((done, total)))
    assert digest == hashlib.sha256(DATA).hexdigest()
    assert (told[-1], server.sent <= len(DATA) + HEAD) == ((len(DATA), len(DATA)), True)


def test_the_sha256_of_a_file_that_comes_only_whole_costs_one_request(web: Files) -> None:
    web.ranges = False
    data = DATA * 40  # more than a piece
    url = parse_url(web.put("x.bin", data))
    found = state(url)
    web.forget()
    assert sha256_of(Version(url, found), lambda done, total: None) == hashlib.sha256(data).hexdigest()
    assert len(web.asked) == 1


def test_another_file_is_not_hashed_for_the_one_that_was_found(web: Files) -> None:
    url = parse_url(web.put("x.bin", DATA))
    found = state(url)
    web.put("x.bin", DATA[::-1])
    with pytest.raises(InputError) as caught:
        sha256_of(Version(url, found), lambda done, total: None)
    assert caught.value.code == "input-changed"


def test_what_hears_of_the_hashing_can_end_it(web: Files) -> None:
    class Enough(Exception):
        pass

    def tell(done: int, total: int) -> None:
        raise Enough

    url = parse_url(web.put("x.bin", Zeros(b"", 1 << 30)))
    with pytest.raises(Enough):
        sha256_of(Version(url, state(url)), tell)
    assert web.sent < 100 << 20
