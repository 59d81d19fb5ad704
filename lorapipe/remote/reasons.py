"""What an exception of a network library means, in a sentence of ours and with a remedy.

Their own texts are not shown: they run over many lines, and may hold signatures and tokens. What
counts is taken from types, HTTP statuses and S3's codes along the chain of causes. No library is
imported here: who raised an exception has imported it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

from lorapipe.remote.url import Url

__all__ = ["Reason", "is_foreign", "reason_of", "status_of"]

_LIBRARIES = frozenset(
    [
        "aiobotocore",
        "aiohttp",
        "boto3",
        "botocore",
        "fsspec",
        "gcsfs",
        "google",
        "httpcore",
        "httpcore2",
        "httpx",
        "httpx2",
        "huggingface_hub",
        "requests",
        "s3fs",
        "urllib3",
        "yarl",
    ]
)

TIMEOUTS = (
    TimeoutError,
    asyncio.TimeoutError,
    concurrent.futures.TimeoutError,
)  # one class since Python 3.11

_CREDENTIALS = {
    "s3": "give credentials: AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; "
    "FSSPEC_S3_ANON=true reads a public bucket",
    "gs": "give credentials: GOOGLE_APPLICATION_CREDENTIALS, or 'gcloud auth application-default login'",
    "hf": "give a token that may read it: HF_TOKEN, or 'hf auth login'; accept the model's terms on its page",
}
_SIGN_IN = "it may need an account: ~/.netrc has its host's name and password"

_MISSING = {
    "NoSuchBucket": "there is no such bucket",
    "NoSuchKey": "there is no such file",
    "RepositoryNotFoundError": "there is no such repository, or it is private",
    "RevisionNotFoundError": "the repository has no such revision",
}
_NO_CREDENTIALS = frozenset(
    [
        "NoCredentialsError",
        "PartialCredentialsError",
        "ProfileNotFound",
        "CredentialRetrievalError",
        "UnauthorizedSSOTokenError",
        "DefaultCredentialsError",
        "RefreshError",
        "LocalTokenNotFoundError",
    ]
)
_REFUSED = 401, 403, 407, 451
_GONE = 404, 410


@dataclass(frozen=True, slots=True)
class Reason:
    """A code, what is wrong, what to do; ``passing`` where asking again may help."""

    code: str
    message: str
    hint: str
    passing: bool = False


def is_foreign(error: BaseException) -> bool:
    """Whether an exception is of the network: of the system, or of one of the libraries that speak to it."""
    if isinstance(error, (OSError, *TIMEOUTS)):
        return True
    return any(kind.__module__.partition(".")[0] in _LIBRARIES for kind in type(error).__mro__)


def reason_of(error: BaseException, url: Url) -> Reason:
    """What happened while ``url`` was spoken to."""
    chain = tuple(_causes(error))
    names = {kind.__name__ for each in chain for kind in type(each).__mro__} | set(
        filter(None, map(_s3_code, chain))
    )
    status = next((found for found in map(status_of, chain) if found is not None), None)
    if missing := next((text for name, text in _MISSING.items() if name in names), None):
        return Reason("remote-missing", missing, _where_else(url))
    if "GatedRepoError" in names or names.intersection(_NO_CREDENTIALS) or status in _REFUSED:
        return _forbidden(url, status, names)
    if status in _GONE or any(isinstance(each, FileNotFoundError) for each in chain):
        return Reason("remote-missing", "there is no such file", _where_else(url))
    # gcsfs has no type and no status for it.
    if any(isinstance(each, PermissionError) or str(each).startswith("Forbidden: ") for each in chain):
        return _forbidden(url, status, names)
    if "OfflineModeIsEnabled" in names:
        return Reason(
            "remote-unreachable", "HF_HUB_OFFLINE keeps from asking the Hub", "unset HF_HUB_OFFLINE"
        )
    return _answered(status) if status is not None else _silent(chain, names, url)


def status_of(error: BaseException) -> int | None:
    """The HTTP status that an exception tells of, where it does."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        found = getattr(response, "status_code", None) or getattr(error, "status", None)
    if found is None and type(error).__module__.startswith("gcsfs"):
        found = getattr(error, "code", None)
    return int(found) if isinstance(found, (int, str)) and str(found).isdecimal() else None


def _s3_code(error: BaseException) -> str | None:
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code")) if isinstance(response, dict) else None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        inner = getattr(error, "os_error", None)  # aiohttp keeps the system's there
        error = error.__cause__ or error.__context__ or (inner if isinstance(inner, BaseException) else None)


def _forbidden(url: Url, status: int | None, names: set[str]) -> Reason:
    if names.intersection(_NO_CREDENTIALS):
        message = "there are no credentials for it"
    elif "GatedRepoError" in names:
        message = "its owner asks for consent to terms first"
    else:
        message = f"the server refuses access ({status})" if status else "the server refuses access"
    return Reason("remote-forbidden", message, _CREDENTIALS.get(url.scheme, _SIGN_IN))


def _answered(status: int) -> Reason:
    if status == 429 or status >= 500:
        what = "is asked too often" if status in (429, 503) else "fails"
        return Reason("remote-failing", f"the server {what} ({status})", "run again later", passing=True)
    if status in (412, 409):
        return Reason("input-changed", "changed while it was read", "run again when nothing writes to it")
    return Reason("remote-failing", f"the server answers {status}", "check the URL")


def _silent(chain: tuple[BaseException, ...], names: set[str], url: Url) -> Reason:
    host = url.root if url.scheme in ("http", "https") else "the server"
    check = "check the connection, and the address"
    if any(isinstance(each, ssl.SSLError) for each in chain) or any("Certificate" in name for name in names):
        return Reason(
            "remote-unreachable", f"{host} has no certificate that holds", "check the address and the clock"
        )
    if any(isinstance(each, socket.gaierror) for each in chain) or any("DNSError" in name for name in names):
        return Reason("remote-unreachable", f"{host} is not known by that name", check, passing=True)
    if any(isinstance(each, ConnectionRefusedError) for each in chain):
        return Reason("remote-unreachable", f"{host} refuses the connection", check, passing=True)
    if any(isinstance(each, TIMEOUTS) for each in chain) or any("Timeout" in name for name in names):
        return Reason(
            "remote-timeout",
            f"{host} does not answer in time",
            "run again, or look after the connection",
            passing=True,
        )
    return Reason(
        "remote-failing",
        f"the connection to {host} broke",
        "run again, or look after the connection",
        passing=True,
    )


def _where_else(url: Url) -> str:
    if url.scheme == "hf" and "@" not in url.root:
        return "check org, repository and file; a revision stands after '@'"
    folder = not (url.is_folder or url.suffix) and url.scheme not in ("https", "http")
    return "check the URL; that of a folder ends in a slash" if folder else "check the URL"
