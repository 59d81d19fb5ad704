"""Google's storage, as far as a server on loopback can stand for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lorapipe.errors import InputError
from lorapipe.formats.files import open_tensors
from lorapipe.remote.listing import listing
from lorapipe.remote.reading import RemoteFile
from lorapipe.remote.state import state
from lorapipe.remote.url import parse_url

from ..formats.model_folders import hf_folder
from .servers import Faults, Google

DATA = bytes(range(256)) * 1000


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch, patience: None) -> Iterator[Google]:
    gcsfs = pytest.importorskip("gcsfs", reason="the extra gs is not installed")
    server = Google()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.address)
    gcsfs.GCSFileSystem.clear_instance_cache()
    monkeypatch.setattr("fsspec.config.conf", {"gs": {"token": "anon", "endpoint_url": server.address}})
    yield server
    gcsfs.GCSFileSystem.clear_instance_cache()
    server.close()


def test_an_object_is_known_by_its_generation_and_read_by_ranges(google: Google) -> None:
    url = parse_url(google.put("bucket/a/b c.bin", DATA))
    found = state(url)
    assert (found.size, found.etag, found.revision) == (len(DATA), "101", "101")
    with RemoteFile(url) as file:
        assert file.read(100_000, 50_000) == DATA[100_000:150_000]
        google.faults = Faults(drop_after=10_000, times=2)
        assert file.read(50_000, 150_000) == DATA[50_000:200_000]
        google.put("bucket/a/b c.bin", DATA)
        with pytest.raises(InputError, match="changed"):
            file.read(100_000, 10)


def test_what_is_not_there_or_refused_is_said_so(google: Google) -> None:
    with pytest.raises(InputError) as caught:
        state(parse_url("gs://bucket/none.bin"))
    assert caught.value.code == "remote-missing"
    google.faults = Faults(status=403)
    with pytest.raises(InputError) as caught:
        listing(parse_url("gs://bucket/m/"))
    assert caught.value.code == "remote-forbidden"
    assert "GOOGLE_APPLICATION_CREDENTIALS" in str(caught.value.hint)


def test_a_folder_is_listed_and_read(google: Google, tmp_path: Path) -> None:
    folder = hf_folder(tmp_path / "model", count=2)
    for path in folder.iterdir():
        google.put(f"bucket/m/{path.name}", path.read_bytes())
    with open_tensors(folder) as here, open_tensors(parse_url("gs://bucket/m/")) as there:
        assert there.tensors == here.tensors
        assert all(there.read(name) == here.read(name) for name in here.tensors)
