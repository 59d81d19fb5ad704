"""Outputs as they lie under a URL: what is there, and of which sha256, by one request and no reading."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType

from lorapipe.build.digests import MemoDigests
from lorapipe.errors import BuildError, InputError, LorapipeError
from lorapipe.remote.listing import listing
from lorapipe.remote.state import RemoteState, Version, etag_of, state
from lorapipe.remote.url import Url
from lorapipe.remote.waiting import aside, awaited
from lorapipe.store.contents import listed
from lorapipe.store.lockfile import LockedOutput

__all__ = ["Elsewhere", "Present", "present_at"]

_AT_ONCE = 16
"""Outputs that are looked at at the same time."""

_Known = Callable[[Version], "str | None"]


@dataclass(frozen=True, slots=True)
class Present:
    """An output that is there: the states of its files by relative name, ``""`` where it is one file."""

    url: Url
    states: Mapping[str, RemoteState]

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(each.size for each in self.states.values())

    @property
    def etag(self) -> str | None:
        """What changes when the bytes do: see :func:`~lorapipe.remote.state.etag_of`."""
        return etag_of(self.states)

    def digest(self, of: _Known) -> str | None:
        """The sha256, of a folder as one here has it; None as soon as ``of`` does not know a file's."""
        if "" in self.states:
            return of(Version(self.url, self.states[""]))
        return listed(self.states, lambda name: of(Version(self.url / name, self.states[name])))


def present_at(url: Url) -> Present | None:
    """What is at a URL now, by one request; None where nothing is.

    Raises as :func:`~lorapipe.remote.filesystem.faults` does of what is written.
    """
    try:
        return Present(url, listing(url).files if url.is_folder else {"": state(url)})
    except InputError as error:
        if error.code == "remote-missing":
            return None
        raise BuildError(error.code, error.message, hint=error.hint, where=error.where) from error.__cause__


class Elsewhere:
    """What is known of outputs elsewhere. They are asked for once, and again by :meth:`look`.

    ``go_on`` is called while that is waited for, and ends it by what it raises.
    """

    def __init__(self, digests: MemoDigests, go_on: Callable[[], None]) -> None:
        self._go_on = go_on
        self._digests = digests
        self._seen: dict[Url, Present | None] = {}
        self._marks: dict[Url, LockedOutput] = {}

    def trust(self, marks: Mapping[Url, LockedOutput]) -> None:
        """Take a lock at its word for outputs that have the size and the ETag which it gives."""
        self._marks.update(marks)

    def there(self, url: Url) -> Present | None:
        """What is there, as it was seen last; None where nothing is.

        Raises as :func:`present_at`.
        """
        return self._seen[url] if url in self._seen else self.look(url)

    def expect(self, urls: Iterable[Url]) -> None:
        """Look at several at the same time; what goes wrong with one is said when it is asked for."""
        wanted = [url for url in dict.fromkeys(urls) if url not in self._seen]
        if len(wanted) < 2:
            return
        pool = ThreadPoolExecutor(_AT_ONCE, "lorapipe-look")
        try:
            for url, looking in [(url, pool.submit(present_at, url)) for url in wanted]:
                with suppress(LorapipeError):
                    self._seen[url] = awaited(looking, self._go_on)
        finally:  # who stops does not wait for what is under way
            pool.shutdown(wait=False, cancel_futures=True)

    def look(self, url: Url) -> Present | None:
        """What is there now. Raises as :meth:`there`."""
        self._seen[url] = found = aside(self._go_on, present_at, url)
        return found

    def put(self, url: Url, states: Mapping[str, RemoteState | None]) -> None:
        """What has just been put there; a state that is not known is asked for when it is needed."""
        known = {name: each for name, each in states.items() if each is not None}
        if len(known) == len(states):
            self._seen[url] = Present(url, MappingProxyType(known))
        else:
            self._seen.pop(url, None)

    def known(self, url: Url) -> str | None:
        """The sha256 of what is there, if that can be had without reading it."""
        found = self.there(url)
        return None if found is None else self._known(found)

    def hash(self, url: Url) -> str | None:
        """The sha256 of what is there, read only if it must be; None where nothing is."""
        found = self.there(url)
        return None if found is None else self._known(found) or found.digest(self._digests.hash)

    def sizes(self, url: Url) -> dict[str, int]:
        """Bytes of each file of an output that is there, by its relative name."""
        found = self.there(url)
        return {} if found is None else {name: each.size for name, each in found.states.items()}

    def files(self, url: Url) -> Iterable[Version]:
        """The files of an output that is there."""
        found = self.there(url)
        if found is None:
            return ()
        return [Version(url / name if name else url, each) for name, each in found.states.items()]

    def _known(self, found: Present) -> str | None:
        mark = self._marks.get(found.url)
        if mark is not None and mark.etag is not None and (mark.size, mark.etag) == (found.size, found.etag):
            return mark.sha256
        return found.digest(self._digests.known)
