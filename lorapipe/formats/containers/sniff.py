"""What a file is by its first bytes, for the messages of readers that expected another."""

from __future__ import annotations

from collections.abc import Callable

from lorapipe.errors import InputError
from lorapipe.formats.containers.opened import Readable

__all__ = ["ZIP", "foreign", "is_legacy_pickle", "is_torch"]

ZIP = b"PK\x03\x04"

# The pickled integer 0x1950a86a20f9469cfc6c with which torch before 1.6 began a file.
_LEGACY_MAGIC = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."

_TORCH_HINT = "give the file its true ending, .ckpt, .pt or .bin"


def is_legacy_pickle(head: bytes) -> bool:
    """Whether these are the first bytes of a file by ``torch.save`` before 1.6."""
    return head[:1] == b"\x80" and head[2 : 2 + len(_LEGACY_MAGIC)] == _LEGACY_MAGIC


def is_torch(head: bytes) -> bool:
    """Whether these are the first bytes of a file by ``torch.save``."""
    return head.startswith(ZIP) or is_legacy_pickle(head)


def foreign(file: Readable, expected: str) -> InputError | None:
    """The error for a file that is recognisably something else than ``expected``.

    ``expected`` is ``"safetensors"`` or ``"torch"``. Returns ``None`` when the first
    bytes say nothing.
    """
    head = file.head()
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<body")):
        return file.error(
            "input-html", "is a web page, not weights", "download the file itself; that may need a login"
        )
    if text.startswith(b"version https://git-lfs"):
        return file.error("input-lfs-pointer", "is a git-lfs pointer, not weights", "run: git lfs pull")
    for matches, kind, name, hint in _SIGNS:
        if matches(head) and kind != expected:
            return file.error("input-other-format", f"is {name}, not {_NAMES[expected]}", hint)
    return None


_NAMES = {"safetensors": "a safetensors file", "torch": "a torch file"}

_SIGNS: tuple[tuple[Callable[[bytes], bool], str, str, str], ...] = (
    (
        lambda head: head.startswith(ZIP),
        *("torch", "a zip archive, as torch.save writes them", _TORCH_HINT),
    ),
    (
        is_legacy_pickle,
        *("torch", "a pickle, as torch.save wrote them before 1.6", _TORCH_HINT),
    ),
    (
        lambda head: 0 < int.from_bytes(head[:8], "little") <= 100_000_000 and head[8:9] == b"{",
        *("safetensors", "a safetensors file", "give the file its true ending, .safetensors"),
    ),
    (
        lambda head: head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"),
        *("pickle", "a bare pickle", "convert it to safetensors with a tool you trust"),
    ),
    (
        lambda head: head.startswith(b"GGUF"),
        *("gguf", "a GGUF file", "GGUF is not supported; use the safetensors release"),
    ),
    (
        lambda head: head.startswith((b"\x1f\x8b", b"7z\xbc\xaf", b"Rar!", b"BZh", b"\xfd7zXZ")),
        *("archive", "a compressed archive", "unpack it first"),
    ),
)
