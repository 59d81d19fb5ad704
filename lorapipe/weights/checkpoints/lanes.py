"""Each worker on a CUDA stream of its own, so that one's copies run beside another's arithmetic.

Every thread of torch begins on the device's default stream, where the work of all stands in one
line. On a stream of its own a worker's copies and kernels still happen in the order in which it
asks for them, so that within a worker nothing has to be waited for; it is between workers that
they overlap. Their number is what double buffers would be: while one slab is summed the next
comes and the last goes.

Nothing on the device may pass from one worker to another, or be freed by another: torch's
allocator knows of one stream for each piece of memory. So only slabs of a checkpoint are made in
lanes, which begin and end as bytes of the host.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

__all__ = ["Lanes", "lanes"]

Lanes = Callable[[], AbstractContextManager[None]]
"""Gives a context for a worker's errand: all of one, and never a generator that another may go on with."""


def lanes(device: str, cuda: Any = torch.cuda) -> Lanes:
    """A stream for each thread that asks, on CUDA; nothing elsewhere.

    An errand begins when all is done that was asked of the default stream before it (factors that
    another step left on the device), and ends when all of its own is done.
    """
    if not device.startswith("cuda"):
        return nullcontext
    own = threading.local()

    @contextmanager
    def lane() -> Iterator[None]:
        if not hasattr(own, "stream"):
            own.stream = cuda.Stream(device)
        own.stream.wait_stream(cuda.default_stream(device))
        with cuda.stream(own.stream):
            yield
        own.stream.synchronize()

    return lane
