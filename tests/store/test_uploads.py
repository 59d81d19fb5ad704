from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorapipe.errors import BuildError
from lorapipe.remote.state import state
from lorapipe.remote.url import Url, parse_url
from lorapipe.store.uploads import Sending, StagedObject, StagedObjects, appearing

from ..remote.sending import Mishap, Way, unfinished
from ..remote.servers import Bucket, Faults

FOLDER = {
    "model-00001-of-00002.safetensors": b"1" * 3000,
    "model-00002-of-00002.safetensors": b"2" * 700_000,
    "model.safetensors.index.json": b"{}",
    "config.json": b"{ }",
    "tokenizer/merges.txt": b"a b",
}


def folder(url: Url, files: dict[str, bytes], sending: Sending | None = None) -> StagedObjects:
    staged = StagedObjects(url, sending=sending or Sending())
    for name, data in files.items():
        staged.create(name, len(data)).write(data)
        staged.finish("")
    return staged


def test_a_file_appears_when_it_is_published_and_its_state_is_that_of_the_store(s3: Bucket) -> None:
    url = parse_url(s3.url("x"))
    with StagedObject(url, sending=Sending()) as staged:
        staged.file.write(b"abc")
        staged.seal()
        assert s3.keys == []
        found = staged.publish()
    assert s3.get("x") == b"abc"
    assert found == state(url)


def test_what_is_not_published_leaves_nothing(s3: Bucket, small_parts: int) -> None:
    with StagedObject(parse_url(s3.url("x")), sending=Sending()) as staged:
        staged.file.write(b"a" * 3 * small_parts)
        staged.seal()
        assert unfinished(s3, 0)
    assert (s3.keys, unfinished(s3)) == ([], [])


def test_what_was_there_when_it_began_is_replaced_and_what_came_later_is_not(s3: Bucket) -> None:
    s3.put("x", b"old")
    with StagedObject(parse_url(s3.url("x")), sending=Sending()) as staged:
        staged.file.write(b"new")
        staged.publish()
    assert s3.get("x") == b"new"
    with StagedObject(parse_url(s3.url("x")), sending=Sending()) as staged:
        s3.put("x", b"another's")
        with pytest.raises(BuildError) as caught:
            staged.publish()
    assert caught.value.code == "output-raced"
    with StagedObject(parse_url(s3.url("x")), sending=Sending(force=True)) as staged:
        s3.put("x", b"whatever")
        staged.file.write(b"forced")
        staged.publish()
    assert s3.get("x") == b"forced"


def test_nothing_of_a_folder_is_there_before_all_of_it_is_with_the_store(
    s3: Bucket, small_parts: int
) -> None:
    with folder(parse_url(s3.url("out/m/")), FOLDER) as staged:
        staged.seal()
        assert s3.keys == []
        states = staged.publish()
    assert {key: s3.get(key) for key in s3.keys} == {f"out/m/{name}": data for name, data in FOLDER.items()}
    assert states == {name: state(parse_url(s3.url(f"out/m/{name}"))) for name in FOLDER}
    assert unfinished(s3) == []


def test_a_folder_that_is_not_published_leaves_nothing(s3: Bucket, small_parts: int) -> None:
    with folder(parse_url(s3.url("m/")), FOLDER) as staged:
        staged.seal()
        assert unfinished(s3, 0)
    assert (s3.keys, unfinished(s3)) == ([], [])


def test_a_folder_takes_the_place_of_all_that_is_in_the_old_one_and_of_nothing_beside_it(s3: Bucket) -> None:
    for key in ("m/old.safetensors", "m/sub/x", "m/config.json", "mm/stays", "m.txt"):
        s3.put(key, b"old")
    with folder(parse_url(s3.url("m/")), FOLDER) as staged:
        staged.publish()
    assert set(s3.keys) == {*(f"m/{name}" for name in FOLDER), "mm/stays", "m.txt"}


def test_the_index_goes_first_and_comes_last(s3: Bucket) -> None:
    for name in FOLDER:
        s3.put(f"m/{name}", b"old")
    with folder(parse_url(s3.url("m/")), FOLDER) as staged:
        s3.forget()
        staged.publish()
    acts = [(asked.method, asked.path.partition("/m/")[2]) for asked in s3.asked]
    went = [name for method, name in acts if method == "DELETE"]
    came = [name for method, name in acts if method == "PUT"]
    assert went[0] == came[-1] == "model.safetensors.index.json"
    assert went[1] == came[-2] == "config.json"
    assert max(i for i, (method, _) in enumerate(acts) if method == "DELETE") < min(
        i for i, (method, _) in enumerate(acts) if method == "PUT"
    )


def test_a_folder_whose_end_fails_keeps_the_old_one_s_names_free_for_the_next(s3: Bucket) -> None:
    s3.put("m/config.json", b"old")
    s3.faults = Faults(status=403, only=lambda method, path: method == "PUT" and path.endswith("config.json"))
    with pytest.raises(BuildError) as caught, folder(parse_url(s3.url("m/")), FOLDER) as staged:
        staged.publish()
    assert caught.value.code == "remote-forbidden"
    assert "m/model.safetensors.index.json" not in s3.keys
    s3.faults = Faults()
    with folder(parse_url(s3.url("m/")), FOLDER) as staged:
        staged.publish()
    assert len(s3.keys) == len(FOLDER)


def test_who_sends_is_told_of_every_byte(s3: Bucket, small_parts: int) -> None:
    told: list[int] = []
    with folder(parse_url(s3.url("m/")), FOLDER, Sending(sent=told.append)) as staged:
        staged.publish()
    assert sum(told) == sum(map(len, FOLDER.values()))


@given(st.lists(st.sampled_from(sorted(FOLDER)), unique=True))
def test_every_file_appears_once(names: list[str]) -> None:
    assert sorted(appearing(names)) == sorted(names)
    ends = [name.endswith(".json") for name in appearing(names)]
    assert ends == sorted(ends)


def test_who_stops_while_the_store_says_nothing_is_not_held_up(s3: Bucket, way: Way) -> None:
    class Stop(Exception):
        pass

    asked = threading.Event()

    def go_on() -> None:
        if asked.is_set():
            raise Stop

    with folder(parse_url(s3.url("m/")), FOLDER, Sending(go_on=go_on)) as staged:
        staged.seal()
        way.mishap = Mishap(stall=True, only=lambda method, path: method == "GET")
        threading.Timer(0.2, asked.set).start()
        started = time.monotonic()
        with pytest.raises(Stop):
            staged.publish()
        assert time.monotonic() - started < 3
    assert s3.keys == []
