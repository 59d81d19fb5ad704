"""A team computes once: builds of machines that share a store, on a file server and in a bucket."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lorapipe.build.events import Event, StepDone
from lorapipe.build.proving.rebuild import rebuild
from lorapipe.build.proving.verify import verify
from lorapipe.build.records import Records
from lorapipe.errors import BuildError
from lorapipe.plan.plan import Status
from lorapipe.recipe.parsing import load_recipe
from lorapipe.steps import find_kind, svd_resize
from lorapipe.store.shared.behind import Behind
from lorapipe.store.shared.bucket import Trouble
from lorapipe.store.shared.folder import FolderBucket

from ..remote.servers import Bucket
from .teams import STORED, Machine, machine

New = Callable[[str], Machine]


@pytest.fixture
def server(tmp_path: Path) -> Path:
    """A folder that all machines mount."""
    found = tmp_path / "server"
    found.mkdir()
    return found


@pytest.fixture
def new(tmp_path: Path, server: Path) -> New:
    """Makes machines that share a folder."""
    return lambda name: machine(tmp_path / name, f"file://{server}")


@pytest.fixture
def alone(tmp_path: Path) -> bytes:
    """The bytes that a machine makes which shares nothing."""
    one = machine(tmp_path / "alone", None)
    one.run()
    return one.output()


def blobs(server: Path) -> list[Path]:
    return sorted(path for path in (server / "blobs").rglob("*") if path.is_file())


# --- what a team gains ------------------------------------------------------------------


def test_the_second_machine_computes_nothing_and_has_the_same_bytes(new: New, alone: bytes) -> None:
    first, second = new("first"), new("second")
    first.run()
    second.run()

    assert first.made == {*STORED, "fine"}
    assert second.made == set()
    assert {step for step, how in second.hows.items() if how == "fetched"} == {"again", "small"}
    assert first.output() == second.output() == alone
    assert first.output("two") == second.output("two")
    assert first.warnings == second.warnings == []


def test_a_bucket_does_the_same(s3: Bucket, tmp_path: Path, alone: bytes) -> None:
    first, second = (machine(tmp_path / name, s3.url("team/loras")) for name in ("first", "second"))
    first.run()
    assert {key.split("/")[2] for key in s3.keys} == {"blobs", "manifests", "lorapipe-store.json"}
    second.run()

    assert second.made == set()
    assert second.output() == first.output() == alone
    assert first.warnings == second.warnings == []


def test_what_was_fetched_counts_as_local_from_then_on(new: New, server: Path) -> None:
    new("first").run()
    second = new("second")
    second.run()
    for name in ("one", "two"):
        (second.folder / f"{name}.safetensors").unlink()
    for path in blobs(server):
        path.unlink()

    second.run()
    assert {second.hows[step] for step in ("again", "small")} == {"store"}
    assert second.warnings == []


def test_a_check_that_held_for_one_holds_for_all_and_its_figures_come_along(new: New) -> None:
    first, second = new("first"), new("second")
    first.run()
    second.run()

    assert "fine" not in second.hows
    ours, theirs = second.entry("fine"), first.entry("fine")
    assert ours is not None
    assert theirs is not None
    assert json.loads(ours.path.read_bytes()) == json.loads(theirs.path.read_bytes()) != {}


def test_notes_lineage_and_preimage_come_along(new: New) -> None:
    first, second = new("first"), new("second")
    first.run()
    second.run()

    ours, theirs = second.entry("small"), first.entry("small")
    assert ours is not None
    assert theirs is not None
    assert theirs.notes["energy"]
    assert theirs.lineage
    assert ours == replace(theirs, path=ours.path)


def test_a_result_that_comes_out_as_elsewhere_stops_the_rebuilding(
    new: New, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another plan key, the same bytes: the content key leads to what the other machine made of them."""
    new("first").run()
    second = new("second")
    kind = find_kind("svd-resize")
    monkeypatch.setattr(svd_resize, "KIND", replace(kind, version=kind.version + 1))
    second.run()

    assert second.hows["small"] == "built"
    assert second.hows["mixed"] == "fetched"


def test_who_has_nothing_to_do_asks_nothing(new: New, monkeypatch: pytest.MonkeyPatch) -> None:
    first = new("first")
    first.run()

    def asked(*args: object) -> None:
        raise AssertionError("the shared store was asked")

    monkeypatch.setattr("lorapipe.store.shared.behind.open_bucket", asked)
    first.run()
    assert first.hows == {}


def test_a_store_of_ones_own_that_is_named_shares_nothing(
    new: New, server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORAPIPE_STORE", f"file://{server}")
    first = new("first")
    first.shared = None
    first.run()
    assert list(server.iterdir()) == []


# --- what a plan tells ------------------------------------------------------------------


def test_the_plan_tells_what_is_there_and_how_much_would_be_fetched(new: New, server: Path) -> None:
    new("first").run()
    second = new("second")
    found = second.plan()

    for step in ("again", "small"):
        assert (found.steps[step].status, found.steps[step].standing) == (
            Status.IN_STORE,
            "in the shared store",
        )
    assert found.steps["fine"].reason.endswith("in the shared store")
    assert found.steps["mixed"].status is Status.UNUSED
    fetch = {step: planned.fetch for step, planned in found.steps.items() if planned.fetch is not None}
    assert fetch.keys() == {"again", "small"}
    assert set(fetch.values()) <= {path.stat().st_size for path in blobs(server)}

    second.run()
    assert second.fetched == fetch


def test_a_plan_that_reads_nothing_writes_nothing_here_or_there(new: New, server: Path) -> None:
    new("first").run()
    second = new("second")
    second.plan()
    found = second.entry("fine")
    assert found is not None
    found.path.unlink()
    before = {path: path.stat().st_mtime_ns for root in (server, second.folder) for path in root.rglob("*")}

    told = second.plan(read=False)
    assert told.steps["small"].fetch is not None
    assert told.steps["fine"].status is Status.UP_TO_DATE
    after = {path: path.stat().st_mtime_ns for root in (server, second.folder) for path in root.rglob("*")}
    assert after == before


def test_fifty_keys_are_asked_for_at_once_and_each_once(s3: Bucket, tmp_path: Path) -> None:
    seeds = "".join(
        f"\n    s{n}: {{shuffle: a, seed: {n}}}\n    o{n}: {{save: s{n}, to: o{n}.safetensors}}"
        for n in range(50)
    )
    one = machine(tmp_path / "one", s3.url("team"), f"\n    a: {{load: a.safetensors}}{seeds}\n")
    s3.put("team/lorapipe-store.json", b'{"lorapipe-store": 1}')
    s3.forget()
    s3.faults.latency = 0.02

    assert len(one.plan().schedule) == 101
    assert len(s3.asked) == 51
    assert s3.proxy.most_at_once >= 4


# --- two at the same time ---------------------------------------------------------------


@pytest.fixture
def other_bits(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Lets this machine's SVD have other last bits from now on, as another CPU's may."""
    svd = torch.linalg.svd

    def bent(*args: object, **more: object) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        u, s, vh = svd(*args, **more)  # type: ignore[arg-type]
        return u, s * (1 + 2**-20), vh

    return lambda: monkeypatch.setattr(torch.linalg, "svd", bent)


def test_of_two_with_other_last_bits_the_first_to_finish_counts_for_both(
    new: New, monkeypatch: pytest.MonkeyPatch, other_bits: Callable[[], None]
) -> None:
    first, second = new("first"), new("second")
    second.plan()
    settle = Behind.settle
    begun = []

    def overtaken(self: Behind, *args: object) -> object:
        """The first machine finishes while the second is at its first result."""
        if not begun:
            begun.append(True)
            monkeypatch.undo()
            first.run()
        return settle(self, *args)  # type: ignore[arg-type]

    other_bits()
    monkeypatch.setattr(Behind, "settle", overtaken)
    second.run()

    assert second.hows["small"] == "built"
    assert second.output("two") == first.output("two")
    assert second.output() == first.output()
    assert second.warnings == []


def test_other_last_bits_do_differ(new: New, other_bits: Callable[[], None]) -> None:
    """Else the test above would hold of itself."""
    first, second = new("first"), new("second")
    second.shared = None
    first.run()
    other_bits()
    second.run()

    assert second.output("two") != first.output("two")


def test_where_both_upload_at_once_the_first_manifest_stands_and_the_next_build_takes_it(
    new: New, server: Path, monkeypatch: pytest.MonkeyPatch, other_bits: Callable[[], None]
) -> None:
    first, second = new("first"), new("second")
    second.plan()
    write = FolderBucket.write
    begun = []

    def raced(self: FolderBucket, name: str, data: bytes, *, replace: bool = True) -> bool:
        """The first machine's manifests appear between the second's asking and its writing."""
        if name.startswith("manifests/") and not begun:
            begun.append(True)
            monkeypatch.undo()
            first.run()
        return write(self, name, data, replace=replace)

    other_bits()
    monkeypatch.setattr(FolderBucket, "write", raced)
    second.run()
    (warning,) = second.warnings
    assert "which the next build takes" in warning

    for name in ("one", "two"):
        (second.folder / f"{name}.safetensors").unlink()
    second.run()
    assert second.hows["small"] == "fetched"
    assert second.output("two") == first.output("two")
    assert second.warnings == []


# --- machines that build one recipe together ----------------------------------------------


def test_for_a_build_of_several_machines_a_result_is_given_before_it_counts(
    new: New, server: Path, tmp_path: Path
) -> None:
    first, second = new("first"), new("second")
    first.run()
    key = first.plan().steps["small"].key
    assert key is not None
    with Records(looking=False, root=second.options.places, seen={}) as records:
        assert records.stored(key)
        assert not records.stored("0" * 64)
    with Records(looking=False, root=second.options.places) as records:
        assert not records.stored(key)


def test_where_it_cannot_be_given_that_is_an_error(
    new: New, server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **more: object) -> None:
        raise Trouble("the server refuses access (403)", refused=True)

    one = new("one")
    monkeypatch.setattr(FolderBucket, "send", refuse)
    with one.store() as store:
        assert store.shared is not None
        store.shared.at_once = True
        entry = store.entries.put("0" * 64, lambda file: file.write(b"x"), "")
        with pytest.raises(BuildError) as caught:
            store.settle(entry)
    assert str(caught.value) == (
        f"error: the shared store file://{server} was not given a result: the server refuses access (403)"
        " - the machines of this build pass results by it"
    )


def test_verifying_by_a_rebuild_takes_nothing_from_the_shared_store(new: New) -> None:
    first = new("first")
    first.run()
    recipe, events = load_recipe(first.folder / "r.yaml"), list[Event]()
    rebuild(recipe, first.options, verify(recipe, first.options), listen=events.append)

    assert {event.how for event in events if isinstance(event, StepDone)} == {"built", "holds", "written"}


def test_a_blob_to_which_two_keys_lead_is_given_once(
    new: New, server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, sent = FolderBucket.send, []

    def slow(self: FolderBucket, name: str, *args: Any) -> None:
        time.sleep(0.05)  # so that the other thread comes
        sent.append(name)
        send(self, name, *args)

    monkeypatch.setattr(FolderBucket, "send", slow)
    first = new("first")
    first.run()

    assert len(list((server / "manifests").rglob("*.json"))) > len(blobs(server))
    assert len(sent) == len(set(sent)) == len(blobs(server))
    assert first.shared_bytes == sum(path.stat().st_size for path in blobs(server))
