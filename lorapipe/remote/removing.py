"""Files elsewhere that are to go."""

from __future__ import annotations

from collections.abc import Iterable

from lorapipe.remote.calls import called
from lorapipe.remote.targets import target_of
from lorapipe.remote.url import Url

__all__ = ["remove"]


def remove(urls: Iterable[Url]) -> None:
    """Have objects of a bucket go, in this order, each by itself: of many at once S3 tells of no refusal.

    One that is gone already is none. Raises as :func:`~lorapipe.remote.filesystem.faults`.
    """
    for url in urls:
        called(url, target_of(url).remove)
