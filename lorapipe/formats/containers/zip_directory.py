"""The directory of a zip archive whose entries are stored as they are: where each one's bytes lie.

Not the standard library's ``zipfile``: that one reads through a shared position, inflates what it is
given, and has no bound on the directory's size. (Format: PKWARE APPNOTE.TXT 6.3.10, sections 4.3.7 to
4.3.16 and 4.5.3.)
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from lorapipe.errors import InputError
from lorapipe.formats.containers.opened import Readable

__all__ = ["Entry", "read_directory"]

DIRECTORY_LIMIT = 32 << 20
"""Bytes of directory: 300,000 tensors. More is refused, not read."""

_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_COMMENT_LIMIT = 0xFFFF
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF
_ENCRYPTED = 0x41
_AGAIN = "the file is damaged or cut short: copy or download it again"


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry's bytes: ``size`` of them from ``offset`` of the file."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class _Record:
    name: bytes
    flags: int
    method: int
    packed: int
    size: int
    header: int


def read_directory(file: Readable) -> dict[str, Entry]:
    """Every entry by name, in the archive's order.

    Raises :class:`InputError` for an archive without a sound directory, for two entries
    of one name, and for an entry that is compressed or encrypted.
    """
    start, size, count = _find(file)
    if size > DIRECTORY_LIMIT or start + size > file.size:
        raise _malformed(file, "its directory does not fit into it")
    entries: dict[str, Entry] = {}
    records = list(_records(file, bytes(file.read(start, size))))
    file.expect((record.header, _LOCAL.size + len(record.name)) for record in records)
    for record in records:
        name = _text(file, record.name)
        if name in entries:
            raise file.error(
                "zip-duplicate-entry", f"holds two entries {name[:80]!r}", "do not trust this file"
            )
        entries[name] = _entry(file, name, record, start)
    if len(entries) != count:
        raise _malformed(file, f"its directory has {len(entries)} entries and claims {count}")
    return entries


def _find(file: Readable) -> tuple[int, int, int]:
    """Offset, size and entry count of the central directory."""
    length = min(file.size, _END.size + _COMMENT_LIMIT)
    tail = bytes(file.read(file.size - length, length))
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + _END.size > len(tail):
        raise _malformed(file, "it has no directory at its end")
    _, _, _, _, count, size, start, _ = _END.unpack_from(tail, at)
    before = file.size - length + at - _END64_LOCATOR.size
    if before >= 0 and (count == _FULL16 or _FULL32 in (size, start)):
        mark, _, position, _ = _END64_LOCATOR.unpack(file.read(before, _END64_LOCATOR.size))
        if mark == b"PK\x06\x07" and position + _END64.size <= file.size:
            end = _END64.unpack(file.read(position, _END64.size))
            if end[0] == b"PK\x06\x06":
                count, size, start = end[7:10]
    return start, size, count


def _records(file: Readable, directory: bytes) -> Iterator[_Record]:
    position = 0
    while position < len(directory):
        if position + _CENTRAL.size > len(directory):
            raise _malformed(file, "its directory ends inside an entry")
        fields = _CENTRAL.unpack_from(directory, position)
        if fields[0] != b"PK\x01\x02":
            raise _malformed(file, "its directory holds something that is not an entry")
        flags, method, packed, size = fields[3], fields[4], fields[8], fields[9]
        name_length, extra_length, comment_length, header = fields[10], fields[11], fields[12], fields[16]
        begin = position + _CENTRAL.size
        name = directory[begin : begin + name_length]
        extra = directory[begin + name_length : begin + name_length + extra_length]
        size, packed, header = _widen(file, extra, size, packed, header)
        yield _Record(name, flags, method, packed, size, header)
        position = begin + name_length + extra_length + comment_length


def _widen(file: Readable, extra: bytes, *fields: int) -> list[int]:
    """Take from the zip64 extra field what did not fit into 32 bits, in its fixed order."""
    values = list(fields)
    missing = [i for i, value in enumerate(values) if value == _FULL32]
    position = 0
    while missing and position + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, position)
        position += 4
        if kind == 1:
            if length < 8 * len(missing) or position + 8 * len(missing) > len(extra):
                raise _malformed(file, "its directory has an entry with a short zip64 field")
            for k, i in enumerate(missing):
                (values[i],) = struct.unpack_from("<Q", extra, position + 8 * k)
            break
        position += length
    return values


def _entry(file: Readable, name: str, record: _Record, limit: int) -> Entry:
    if record.flags & _ENCRYPTED:
        raise file.error(
            "zip-encrypted", f"holds an encrypted entry {name[:80]!r}", "save it without a password"
        )
    if record.method != 0 or record.packed != record.size:
        raise file.error(
            "zip-compressed",
            f"holds a compressed entry {name[:80]!r}; torch.save stores entries as they are",
            "unpack the archive and save the weights again",
        )
    if record.header + _LOCAL.size > limit:
        raise _malformed(file, f"entry {name[:80]!r} begins outside the archive")
    local = _LOCAL.unpack(file.read(record.header, _LOCAL.size))
    name_length, extra_length = local[9], local[10]
    begin = record.header + _LOCAL.size
    if local[0] != b"PK\x03\x04" or local[3] != 0 or begin + name_length > limit:
        raise _malformed(file, f"entry {name[:80]!r} does not begin as the directory says")
    if bytes(file.read(begin, name_length)) != record.name:
        raise _malformed(file, f"entry {name[:80]!r} has another name in its own header")
    offset = begin + name_length + extra_length
    if offset + record.size > limit:
        raise _malformed(file, f"entry {name[:80]!r} ends outside the archive")
    return Entry(offset, record.size)


def _text(file: Readable, name: bytes) -> str:
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        raise _malformed(file, "an entry's name is not UTF-8") from None


def _malformed(file: Readable, what: str) -> InputError:
    return file.error("zip-malformed", f"is a damaged zip archive: {what}", _AGAIN)
