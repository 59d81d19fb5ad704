"""Outputs elsewhere, absent, old or new, never partial: what a staged file and folder are on a disk.

    staged.file  --seal-->  with the store, unseen  --publish-->  an object

Of a folder all files are with the store before the first one appears. Then those that it replaces go,
the index first, and its own appear one after the other, the index last. So who reads it by its index finds
the old folder, none, or the new one. A build that dies just then leaves a part of the new one, all files of
which are in the books, and the next build puts the whole in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, BinaryIO, cast

from lorapipe.errors import InputError, LorapipeError
from lorapipe.remote.listing import listing
from lorapipe.remote.removing import remove
from lorapipe.remote.state import RemoteState, state
from lorapipe.remote.targets.target import ABSENT, ANYTHING
from lorapipe.remote.uploading import Upload, abort
from lorapipe.remote.url import Url
from lorapipe.remote.waiting import aside
from lorapipe.store.atomic import Hook, no_hook
from lorapipe.store.digest import Hashed

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Sending", "StagedObject", "StagedObjects", "appearing"]


def _nothing() -> None:
    pass


def _unheard(count: int) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Sending:
    """How to send: ``go_on`` is asked while the network is waited for, ``sent`` told what has come there.

    With ``force`` whatever is there is replaced; else what was there when the sending began.
    """

    go_on: Callable[[], None] = _nothing
    sent: Callable[[int], None] = _unheard
    force: bool = False


class StagedObject:
    """A file on its way to a URL; ``file`` is where its bytes go.

    As a context manager it is discarded unless published. Its points are ``created``, ``seal``, ``sealed``,
    ``publish``, ``completed`` and ``published``, after ``upload:``. Raises
    :class:`~lorapipe.errors.BuildError` as :class:`~lorapipe.remote.uploading.Upload` does.
    """

    def __init__(
        self, url: Url, *, needed: int | None = None, sending: Sending, hook: Hook = no_hook
    ) -> None:
        self.path = url
        self._hook, self._go_on = hook, sending.go_on
        self._upload = _upload(url, needed, sending)
        if not sending.force:
            self._upload.look()
        self._hook("upload:created")

    @property
    def file(self) -> BinaryIO:
        return cast("BinaryIO", self._upload)

    def seal(self) -> None:
        """Bring all bytes to the store."""
        self._hook("upload:seal")
        self._upload.seal()
        self._hook("upload:sealed")

    def publish(self) -> RemoteState | None:
        """Let the object appear; returns its state, or None if another program wrote to it meanwhile."""
        self._hook("upload:publish")
        self._upload.complete()
        self._hook("upload:completed")
        found = aside(self._go_on, _state, self._upload)
        self._hook("upload:published")
        return found

    def discard(self) -> None:
        """Have the store forget it, unless it was published."""
        abort((self._upload,))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()


class StagedObjects:
    """A folder on its way to a URL: files made one after the other, which appear when it is published.

    Otherwise as :class:`StagedObject`; its point ``removed`` is where what it replaces is gone. The
    uploads of all its files are open until then.
    """

    def __init__(self, url: Url, *, sending: Sending, hook: Hook = no_hook) -> None:
        self.path = url.as_folder()
        self._sending, self._hook = sending, hook
        self._uploads: dict[str, Upload] = {}
        self._hook("upload:created")

    @property
    def finished(self) -> Mapping[str, Hashed]:
        """None: an upload that was interrupted begins anew."""
        return MappingProxyType({})

    def create(self, name: str, size: int | None = None) -> BinaryIO:
        """Open a new file of the folder; the one before it is sent to its end."""
        self._send()
        self._uploads[name] = _upload(self.path / name, size, self._sending, folder=True)
        return cast("BinaryIO", self._uploads[name])

    def finish(self, sha256: str) -> None:  # noqa: ARG002  # that of a folder on a disk enters its digest
        """Bring the file that is open to the store."""
        self._send()

    def seal(self) -> None:
        """Bring all files to the store."""
        self._hook("upload:seal")
        self._send()
        self._hook("upload:sealed")

    def publish(self) -> Mapping[str, RemoteState | None]:
        """Let the folder appear, in place of what is there; returns the states of its files by name."""
        self._hook("upload:publish")
        aside(self._sending.go_on, _remove, self.path)
        self._hook("upload:removed")
        for name in appearing(self._uploads):
            self._uploads[name].complete()
            self._hook("upload:completed")
        states = aside(self._sending.go_on, _states, self._uploads)
        self._hook("upload:published")
        return states

    def discard(self) -> None:
        """Have the store forget what has not appeared."""
        abort(self._uploads.values())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def _send(self) -> None:
        if self._uploads:
            self._uploads[next(reversed(self._uploads))].seal()


def appearing(names: Iterable[str]) -> list[str]:
    """The order in which files appear: weights, what tells of them, what tells which files there are.

    >>> appearing(["model_index.json", "vae/config.json", "b.safetensors", "a.txt"])
    ['b.safetensors', 'a.txt', 'vae/config.json', 'model_index.json']
    """

    def late(name: str) -> tuple[bool, bool]:
        path = PurePosixPath(name)
        return path.suffix == ".json", "index" in path.name

    return sorted(names, key=late)


def _upload(url: Url, size: int | None, sending: Sending, *, folder: bool = False) -> Upload:
    # A folder removes what it replaces: its files find their names free.
    expected = ANYTHING if sending.force and not folder else ABSENT
    return Upload(url, size, expected=expected, go_on=sending.go_on, sent=sending.sent)


def _remove(url: Url) -> None:
    """Have all files of a folder go, in the order that is not that of appearing."""
    try:
        names = appearing(listing(url).files)
    except InputError as error:
        if error.code != "remote-missing":
            raise
        return
    remove(url / name for name in reversed(names))


def _states(uploads: Mapping[str, Upload]) -> dict[str, RemoteState | None]:
    return {name: _state(upload) for name, upload in uploads.items()}


def _state(upload: Upload) -> RemoteState | None:
    """What is there now; None where it is not what was sent, or where it cannot be seen."""
    with suppress(LorapipeError):
        found = state(upload.url)
        return found if found.size == upload.tell() else None
    return None
