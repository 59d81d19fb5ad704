"""Fixtures that several test packages share."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from .bench import Bench
from .remote.google import Google
from .remote.sending import SMALL, Way
from .remote.servers import Bucket, Files, Forward, Hub

# The same examples each time, so that a change is judged by what it changed; a profile of one's
# own explores: HYPOTHESIS_PROFILE=default pytest.
settings.register_profile("steady", derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """Path of a file of the reference data beside the checkout; skips where it is absent."""

    def find(relative: str) -> Path:
        path = ROOT.parent / "shared" / relative
        if not path.exists():
            pytest.skip(f"reference data {relative} is not beside this checkout")
        return path

    return find


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """An empty folder for a recipe, with a store that no other test sees."""
    monkeypatch.setenv("LORAPIPE_STORE", str(tmp_path / "store"))
    monkeypatch.delenv("LORAPIPE_MODELS", raising=False)
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    folder = tmp_path / "bench"
    folder.mkdir()
    return Bench(folder)


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers that are silent are given up soon."""
    monkeypatch.setenv("LORAPIPE_REMOTE_TIMEOUT", "3")


@pytest.fixture
def web(patience: None) -> Iterator[Files]:
    """A web server on loopback; see :mod:`tests.remote.servers`."""
    server = Files()
    yield server
    server.close()


@pytest.fixture
def hub(patience: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A server on loopback that speaks as the Hub does, for ``hf://``."""
    server = Hub()
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield server
    server.close()


@pytest.fixture(scope="session")
def moto() -> Iterator[tuple[str, int]]:
    """Host and port of moto's S3, one for all tests."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield server.get_host_and_port()
    server.stop()


_BUCKETS = itertools.count()


@pytest.fixture
def s3(
    moto: tuple[str, int], patience: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bucket]:
    """A fresh bucket of an S3 on loopback, and the environment that leads to it."""
    import boto3
    import s3fs

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key-of-a-test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-a-test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = boto3.client("s3", endpoint_url="http://{}:{}".format(*moto))
    proxy = Forward(*moto)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.address)
    name = f"bucket-{os.getpid()}-{next(_BUCKETS)}"
    client.create_bucket(Bucket=name)
    s3fs.S3FileSystem.clear_instance_cache()  # they look at the environment once
    yield Bucket(name, proxy, client)
    s3fs.S3FileSystem.clear_instance_cache()
    client.close()
    proxy.close()


@pytest.fixture
def small_parts(s3: Bucket, monkeypatch: pytest.MonkeyPatch) -> int:
    """Uploads to ``s3`` in small parts, of which S3 and moto ask 5 MiB; and nobody else asks again.

    botocore does, and takes its time.
    """
    from moto.s3 import models

    monkeypatch.setattr(models, "S3_UPLOAD_PART_MIN_SIZE", 1)
    monkeypatch.setattr("lorapipe.remote.uploading.PART", SMALL)
    monkeypatch.setenv("LORAPIPE_REMOTE_TIMEOUT", "30")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    return SMALL


@pytest.fixture
def way(s3: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Way]:
    """The way to ``s3``, on which things go wrong."""
    found = Way(s3)
    monkeypatch.setenv("AWS_ENDPOINT_URL", found.address)
    yield found
    found.close()


@pytest.fixture
def gs(patience: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Google]:
    """A server on loopback that speaks as Google Cloud Storage does, and the environment that leads to it."""
    gcsfs = pytest.importorskip("gcsfs")
    server = Google()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.address)
    monkeypatch.setitem(fsspec_settings(), "gs", {"token": "anon"})
    gcsfs.GCSFileSystem.clear_instance_cache()
    yield server
    gcsfs.GCSFileSystem.clear_instance_cache()
    server.close()


def fsspec_settings() -> dict[str, dict[str, object]]:
    """What fsspec has read of its settings; it reads them once, when it is imported."""
    from fsspec.config import conf

    return conf
