"""Workers' streams on CUDA, tried on a device made here that does nothing before it is waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from lorapipe.weights.checkpoints.lanes import lanes
from lorapipe.weights.specs import TensorSpec
from lorapipe.weights.tensors import from_bytes, moved


@dataclass(eq=False)
class Line:
    """A line of work, done when somebody waits for it; ``log`` is what was asked for, in order."""

    name: str
    log: list[str]
    queued: list[Callable[[], object]] = field(default_factory=list)

    def wait_stream(self, other: Line) -> None:
        self.log.append(f"{self.name} waits for {other.name}")
        self.queued.append(other.synchronize)

    def synchronize(self) -> None:
        self.log.append(f"{self.name} done")
        while self.queued:
            self.queued.pop(0)()


class Cuda:
    """What of ``torch.cuda`` is used, on a device that is as late as a device may be."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.default = Line("default", self.log)
        self.made: list[Line] = []
        self._now = threading.local()

    def Stream(self, device: str) -> Line:  # noqa: N802  # torch's name
        assert device == "cuda:1"
        self.made.append(Line(f"stream {len(self.made)}", self.log))
        return self.made[-1]

    def default_stream(self, device: str) -> Line:
        assert device == "cuda:1"
        return self.default

    def current_stream(self, device: object = None) -> Line:
        found: Line = getattr(self._now, "stream", self.default)
        return found

    @contextmanager
    def stream(self, stream: Line) -> Iterator[None]:
        self.log.append(f"enter {stream.name}")
        self._now.stream = stream
        try:
            yield
        finally:
            self._now.stream = self.default
            self.log.append(f"leave {stream.name}")


class OnDevice:
    """A tensor of the device: its numbers are there when its stream has come so far."""

    device = SimpleNamespace(type="cuda")

    def __init__(self, like: torch.Tensor) -> None:
        self.numbers = torch.full_like(like, 7)  # what lay in that memory before
        self.shape, self.dtype = like.shape, like.dtype


class Pinned:
    """Page-locked memory, from which and to which copies are late."""

    device = SimpleNamespace(type="cpu")

    def __init__(self, cuda: Cuda, host: torch.Tensor) -> None:
        self.cuda, self.host = cuda, host

    def pin_memory(self) -> Pinned:
        return Pinned(self.cuda, self.host.clone())

    def to(self, device: str, *, non_blocking: bool) -> OnDevice:
        assert (device, non_blocking) == ("cuda:1", True)
        there = OnDevice(self.host)
        self.cuda.current_stream().queued.append(lambda: there.numbers.copy_(self.host))
        return there

    def copy_(self, there: OnDevice, *, non_blocking: bool) -> None:
        assert non_blocking
        self.cuda.current_stream().queued.append(lambda: self.host.copy_(there.numbers))


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    made, empty = Cuda(), torch.empty

    def pinned(*shape: Any, pin_memory: bool = False, **options: Any) -> Any:
        return Pinned(made, empty(*shape, **options)) if pin_memory else empty(*shape, **options)

    monkeypatch.setattr(torch, "empty", pinned)
    monkeypatch.setattr(torch.cuda, "current_stream", made.current_stream)
    return made


def halved(cuda: Cuda, slab: torch.Tensor, buffer: torch.Tensor) -> list[float]:
    """``slab / 2`` by way of the device; ``buffer`` is written over as soon as the slab has gone up."""
    there: Any = moved(cast("Any", Pinned(cuda, slab)), "cuda:1")
    buffer.fill_(99.0)
    cuda.current_stream().queued.append(lambda: there.numbers.div_(2))
    back: Any = moved(there, "cpu")
    found: list[float] = back.host.tolist()
    return found


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_elsewhere_there_are_no_streams(device: str) -> None:
    with lanes(device, cuda=None)():  # which would fail if it were asked for anything
        pass


def test_an_errand_begins_behind_the_default_stream_and_ends_when_all_is_done(cuda: Cuda) -> None:
    with lanes("cuda:1", cuda)():
        cuda.log.append("work")
    assert cuda.log == [
        "stream 0 waits for default",
        "enter stream 0",
        "work",
        "leave stream 0",
        "stream 0 done",
        "default done",
    ]


def test_a_worker_keeps_its_stream_and_shares_it_with_none(cuda: Cuda) -> None:
    lane, both = lanes("cuda:1", cuda), threading.Barrier(2, timeout=10)

    def errands(_: int) -> set[str]:
        found = set()
        for _ in range(3):
            with lane():
                both.wait()  # two are inside at a time
                found.add(cuda.current_stream().name)
        return found

    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(errands, range(2))
    assert len(one) == len(two) == 1
    assert one != two
    assert len(cuda.made) == 2


def test_an_error_comes_out_as_it_is_and_leaves_the_stream(cuda: Cuda) -> None:
    with pytest.raises(ZeroDivisionError), lanes("cuda:1", cuda)():
        _ = 1 // 0
    assert cuda.current_stream() is cuda.default


def test_what_goes_up_may_be_written_over_at_once_and_what_comes_down_is_there(cuda: Cuda) -> None:
    lane, buffer = lanes("cuda:1", cuda), torch.arange(4.0)
    came = []
    for number in range(3):  # one buffer of the host, three slabs
        with lane():
            came.append(halved(cuda, buffer.fill_(number), buffer))
    assert came == [[number / 2] * 4 for number in range(3)]


def test_two_workers_late_devices_make_the_bytes_that_the_host_makes(cuda: Cuda) -> None:
    lane = lanes("cuda:1", cuda)
    slabs = [torch.randn(64, generator=torch.Generator().manual_seed(n)) for n in range(20)]
    expected = [(slab / 2).tolist() for slab in slabs]

    def make(slab: torch.Tensor) -> list[float]:
        with lane():
            return halved(cuda, slab, slab)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(make, slabs)) == expected


def test_on_the_host_nothing_is_copied() -> None:
    held = from_bytes(bytearray(8), TensorSpec("F32", (2,)))
    assert moved(held, "cpu") is held
