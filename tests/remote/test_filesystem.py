"""What the network's libraries raise becomes one clear error, and what is no fault of the network passes."""

from __future__ import annotations

import asyncio
import builtins
import socket
import ssl
import subprocess
import sys
from typing import Any

import pytest

from lorapipe.errors import BuildError, InputError, UsageError
from lorapipe.remote.calls import PATIENCE, Patience, patience
from lorapipe.remote.filesystem import EXTRAS, faults, filesystem
from lorapipe.remote.listing import listing
from lorapipe.remote.reading import RemoteFile
from lorapipe.remote.state import state
from lorapipe.remote.url import SCHEMES, parse_url

from .servers import Bucket, Faults, Files, Hub

S3 = parse_url("s3://bucket/x.bin")
HTTPS = parse_url("https://host/x.bin")


def boto(code: str, status: int) -> Exception:
    from botocore.exceptions import ClientError

    return ClientError(
        {"Error": {"Code": code, "Message": "a secret"}, "ResponseMetadata": {"HTTPStatusCode": status}},
        "GetObject",
    )


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def no_credentials() -> Exception:
    from botocore.exceptions import NoCredentialsError

    return NoCredentialsError()


RAISED = {
    "no bucket": (lambda: caused(FileNotFoundError("x"), boto("NoSuchBucket", 404)), "remote-missing"),
    "no key": (lambda: caused(FileNotFoundError("x"), boto("404", 404)), "remote-missing"),
    "plainly missing": (lambda: FileNotFoundError("x"), "remote-missing"),
    "denied": (lambda: caused(PermissionError("x"), boto("AccessDenied", 403)), "remote-forbidden"),
    "expired": (lambda: caused(PermissionError("x"), boto("ExpiredToken", 400)), "remote-forbidden"),
    "no credentials": (no_credentials, "remote-forbidden"),
    "changed": (lambda: caused(OSError(22, "x"), boto("PreconditionFailed", 412)), "input-changed"),
    "slow down": (lambda: caused(OSError(16, "x"), boto("SlowDown", 503)), "remote-failing"),
    "internal": (lambda: boto("InternalError", 500), "remote-failing"),
    "range": (lambda: boto("InvalidRange", 416), "remote-failing"),
    "name": (lambda: socket.gaierror(-2, "x"), "remote-unreachable"),
    "refused": (lambda: ConnectionRefusedError(111, "x"), "remote-unreachable"),
    "certificate": (lambda: ssl.SSLCertVerificationError(1, "x"), "remote-unreachable"),
    "timeout": (TimeoutError, "remote-timeout"),
    "of asyncio": (asyncio.TimeoutError, "remote-timeout"),
    "reset": (lambda: ConnectionResetError(104, "x"), "remote-failing"),
}


@pytest.mark.parametrize("name", RAISED)
def test_what_is_raised_has_a_code_a_place_and_a_remedy(name: str) -> None:
    make, code = RAISED[name]
    with pytest.raises(InputError) as caught, faults(S3):
        raise make()
    error = caught.value
    assert (error.code, error.where, error.exit_status) == (code, "s3://bucket/x.bin", 4)
    assert error.hint
    assert "a secret" not in str(error), "what a server says is not repeated"


def test_while_writing_it_is_an_error_of_the_build() -> None:
    with pytest.raises(BuildError) as caught, faults(S3, writing=True):
        raise PermissionError
    assert (caught.value.code, caught.value.exit_status) == ("remote-forbidden", 5)


def test_what_is_no_fault_of_the_network_passes() -> None:
    for error in (ValueError("x"), KeyError("x"), AssertionError("x")):
        with pytest.raises(type(error)), faults(S3):
            raise error
    mine = UsageError("mine", "x")
    with pytest.raises(UsageError) as caught, faults(S3):
        raise mine
    assert caught.value is mine


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_missing_extra_is_an_error_with_the_command_that_brings_it(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__
    absent = ("fsspec", "s3fs", "gcsfs", "huggingface_hub")

    def imported(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] in absent:
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", imported)
    with pytest.raises(UsageError) as caught:
        state(parse_url(f"{scheme}://{'org' if scheme == 'hf' else 'bucket'}/repo/x.bin"))
    assert caught.value.code == "extra-missing"
    assert caught.value.hint == f"pip install 'lorapipe[{EXTRAS[scheme]}]'"


def test_nothing_of_it_is_imported_without_a_url() -> None:
    program = (
        "import sys, lorapipe, lorapipe.build.run, lorapipe.cli.main, lorapipe.recipe.parsing\n"
        "print([m for m in ('fsspec', 's3fs', 'aiohttp', 'botocore', 'huggingface_hub') if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"


def test_patience_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LORAPIPE_REMOTE_TIMEOUT", raising=False)
    assert patience() == PATIENCE
    monkeypatch.setenv("LORAPIPE_REMOTE_TIMEOUT", "2.5")
    assert patience() == 2.5
    for wrong in ("soon", "0", "-1", "nan", "inf"):
        monkeypatch.setenv("LORAPIPE_REMOTE_TIMEOUT", wrong)
        with pytest.raises(UsageError, match="no number of seconds"):
            patience()


def test_who_was_never_reached_is_given_up_long_before_who_fell_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]
    monkeypatch.setattr("lorapipe.remote.calls.time.monotonic", lambda: clock[0])

    async def sleep(seconds: float) -> None:
        clock[0] += seconds

    monkeypatch.setattr("asyncio.sleep", sleep)

    def given_up(*, beginning: bool, error: Exception) -> float:
        clock[0] = 0.0
        limits = Patience(60.0, beginning=beginning)

        async def on() -> None:
            while True:
                await limits.pause(error, HTTPS)

        with pytest.raises(type(error)):
            asyncio.run(on())
        return clock[0]

    assert given_up(beginning=True, error=ConnectionRefusedError()) < 5
    assert 40 < given_up(beginning=False, error=ConnectionRefusedError()) < 60
    assert 40 < given_up(beginning=True, error=ConnectionResetError()) < 60
    assert given_up(beginning=False, error=FileNotFoundError()) == 0


def test_a_server_that_trickles_is_given_up_as_one_that_is_silent() -> None:
    limits = Patience(0.05)
    limits.check()
    limits._until -= 1
    with pytest.raises(TimeoutError):
        limits.check()
    limits.renew()
    limits.check()


def test_validators_are_strong_or_none(web: Files) -> None:
    url = parse_url(web.put("x.bin", b"some"))
    assert state(url).etag == '"03d59e663c1af9ac33a9949d1193505a"'
    web.etags = "weak"
    assert state(url).etag is None
    web.headers = {"Last-Modified": "Sat, 21 Nov 2026 10:00:00 GMT"}
    assert state(url).etag == "Sat, 21 Nov 2026 10:00:00 GMT 4"
    assert state(url).size == 4


def test_a_server_that_tells_no_length_has_no_state(web: Files) -> None:
    web.lengths = web.ranges = False
    with pytest.raises(InputError) as caught:
        state(parse_url(web.put("x.bin", b"some")))
    assert caught.value.code == "remote-no-length"


def test_a_state_is_one_request(web: Files, s3: Bucket, hub: Hub) -> None:
    hub.large = 10
    commit = hub.commit("org/repo", {"x.bin": bytes(100)})
    cases = (
        (web, web.put("x.bin", bytes(100))),
        (s3, s3.put("x.bin", bytes(100))),
        (hub, "hf://org/repo/x.bin"),
    )
    for server, url in cases:
        server.forget()
        found = state(parse_url(url))
        asked = [
            asked for asked in server.asked if not asked.path.startswith("/api/")
        ]  # of the Hub's library
        assert (found.size, len(asked)) == (100, 1), url
    assert (found.revision, len(found.sha256 or "")) == (commit, 64)


def test_a_checksum_of_parts_is_no_sha256(s3: Bucket) -> None:
    part = s3.client.create_multipart_upload(Bucket=s3.name, Key="x.bin", ChecksumAlgorithm="SHA256")
    about = {"Bucket": s3.name, "Key": "x.bin", "UploadId": part["UploadId"]}
    sent = s3.client.upload_part(**about, PartNumber=1, Body=b"some", ChecksumAlgorithm="SHA256")
    done = {"Parts": [{"PartNumber": 1, "ETag": sent["ETag"]}]}
    s3.client.complete_multipart_upload(**about, MultipartUpload=done)
    assert state(parse_url(s3.url("x.bin"))).sha256 is None


def test_a_versioned_object_tells_its_version(s3: Bucket) -> None:
    s3.client.put_bucket_versioning(Bucket=s3.name, VersioningConfiguration={"Status": "Enabled"})
    url = parse_url(s3.put("x.bin", b"one"))
    first = state(url)
    s3.put("x.bin", b"two")
    assert first.revision
    assert state(url).revision != first.revision


def test_other_file_systems_serve_too() -> None:
    url = parse_url("memory://root/m/x.bin")
    filesystem(url).pipe_file("/root/m/x.bin", b"0123456789")
    try:
        with RemoteFile(url) as file:
            assert (file.size, file.read(3, 4)) == (10, b"3456")
        assert listing(url.parent).files.keys() == {"x.bin"}
    finally:
        filesystem(url).rm("/root", recursive=True)


def test_a_listing_goes_on_over_all_pages(s3: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(12):
        s3.put(f"m/{i:03}.bin", bytes(i))
    real = type(filesystem(parse_url(s3.url("m/"))))._call_s3

    async def few(self: Any, method: str, *args: Any, **options: Any) -> Any:
        if method == "list_objects_v2":
            options["MaxKeys"] = 5
        return await real(self, method, *args, **options)

    monkeypatch.setattr(type(filesystem(parse_url(s3.url("m/")))), "_call_s3", few)
    found = listing(parse_url(s3.url("m/"))).files
    assert [state.size for state in found.values()] == list(range(12))


def test_a_bucket_of_everything_is_not_listed_to_its_end(s3: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lorapipe.remote.listing.MOST", 3)
    for i in range(5):
        s3.put(f"m/{i}.bin", b"x")
    with pytest.raises(InputError) as caught:
        listing(parse_url(s3.url("m/")))
    assert caught.value.code == "folder-too-large"


def test_https_is_not_sent_on_to_http(web: Files) -> None:
    """No certificate is at hand: it is asked of what follows the answer, told where the asking began."""
    from lorapipe.remote.origins.web import stream

    class Session:
        async def get(self, *_: object, **__: object) -> Any:
            session = await files.set_session()
            return await session.get(there)

    files: Any = filesystem(parse_url(f"{web.address}/x"))
    there = web.put("x.bin", b"some")

    async def ask() -> None:
        await stream(Session(), "https://host/x.bin", {}, (0, 1), lambda _: None, lambda _: True, 5.0)

    from lorapipe.remote.calls import started

    with pytest.raises(InputError) as caught:
        started(ask()).result()
    assert caught.value.code == "remote-unsafe"


def test_an_answer_that_is_packed_is_not_asked_for(web: Files) -> None:
    url = parse_url(web.put("x.bin", b"some"))
    state(url)
    RemoteFile(url).close()
    assert all(asked.headers["Accept-Encoding"] == "identity" for asked in web.asked)


def test_only_get_is_sent_to_a_web_server(web: Files) -> None:
    url = parse_url(web.put("x.bin", bytes(100_000)))
    state(url)
    with RemoteFile(url) as file:
        web.faults = Faults(drop_after=10, times=1)
        file.read(50_000, 100)
    assert {asked.method for asked in web.asked} == {"GET"}
