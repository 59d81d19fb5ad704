"""Reading safetensors: every claim of the header is checked before it is used.

The format (github.com/huggingface/safetensors, README "Format"): 8 bytes of header
length N (little-endian), N bytes of JSON, then the tensors' bytes without holes. This
reader refuses whatever that library refuses, and two things more that it lets pass:
a key that stands twice (it keeps the last) and unknown fields of an entry (it ignores
them, and with them what they might mean).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from lorapipe.errors import InputError
from lorapipe.formats.containers.json_file import MOST_VALUES
from lorapipe.formats.containers.opened import Readable, row_range
from lorapipe.formats.containers.sniff import foreign
from lorapipe.formats.containers.tensor_file import TensorFile
from lorapipe.weights.specs import DTYPES, TensorSpec

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["HEADER_LIMIT", "SafetensorsFile"]

HEADER_LIMIT = 100_000_000
"""Bytes of JSON that a header may have: the limit of the safetensors library."""

_ENTRY = {"dtype", "shape", "data_offsets"}
# The letters first and what stands before them after: so they are looked for as fast as a text is.
_MINUS_ZERO = re.compile(rb"-0(?<=[\[,:\s]-0)")
_AGAIN = "the file is damaged: copy or download it again"
_MAKER = "the program that wrote it is at fault"


class _Place(NamedTuple):  # made ten times as fast as a frozen dataclass, some thousand times a file
    spec: TensorSpec
    begin: int
    end: int


class SafetensorsFile(TensorFile):
    """A safetensors file; ``data_start`` is where the data begins in it.

    ``tensors`` is in the order of the data.
    """

    __slots__ = ("_places", "data_start")

    def __init__(
        self, file: Readable, places: Mapping[str, _Place], metadata: Mapping[str, str], data_start: int
    ) -> None:
        super().__init__(file, {name: place.spec for name, place in places.items()}, metadata)
        self._places = places
        self.data_start = data_start

    @classmethod
    def read_from(cls, file: Readable) -> Self:
        length, header = _header(file)
        metadata = _metadata(file, header.pop("__metadata__", None))
        places = _layout(file, header, file.size - 8 - length)
        file.expect((8 + length + place.begin, place.end - place.begin) for place in places.values())
        return cls(file, places, metadata, 8 + length)

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytearray:
        place = self._places[name]
        first, length = row_range(place.spec, start, stop)
        return self._file.read(self.data_start + place.begin + first, length)


class _DuplicateKeyError(ValueError):
    pass


def _header(file: Readable) -> tuple[int, dict[str, object]]:
    """The header's length and JSON object."""
    if file.size < 8:
        raise foreign(file, "safetensors") or file.error(
            "safetensors-too-short", f"has {file.size} bytes: too short for a safetensors file", _AGAIN
        )
    length = int.from_bytes(file.read(0, 8), "little")
    if length > HEADER_LIMIT:
        raise foreign(file, "safetensors") or file.error(
            "safetensors-header-too-large",
            f"claims a header of {length} bytes; the format allows {HEADER_LIMIT}",
            "this is not a safetensors file, or it is damaged",
        )
    if 8 + length > file.size:
        raise foreign(file, "safetensors") or file.error(
            "safetensors-header-beyond-file",
            f"claims a header of {length} bytes but has {file.size} in all",
            _AGAIN,
        )
    return length, _json(file, bytes(file.read(8, length)))


def _json(file: Readable, raw: bytes) -> dict[str, object]:
    values = sum(map(raw.count, (b",", b"[", b"{")))
    if values > MOST_VALUES:  # a tensor has ten: 200,000 tensors
        raise file.error(
            "safetensors-header-too-large",
            f"has a header of {values} values: more than any model takes",
            "this is no file of weights",
        )
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise foreign(file, "safetensors") or file.error(
            "safetensors-not-utf8", f"has a header that is not UTF-8 (byte {8 + error.start})", _AGAIN
        ) from None
    # Numbers are looked at one by one only where a -0 may be among them: that is slow.
    parse_int = _whole if _MINUS_ZERO.search(raw) else None
    decode = partial(json.loads, parse_int=parse_int, parse_constant=_no_constant)
    try:
        header = decode(text)
        # A look at each object's pairs takes six times as long; few headers need it.
        if not _keeps_all(header, text):
            header = decode(text, object_pairs_hook=_unique)
    except _DuplicateKeyError as error:
        raise file.error("safetensors-duplicate-key", f"names {error} twice in its header", _MAKER) from None
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise foreign(file, "safetensors") or file.error(
            "safetensors-not-json", f"has a header that is not the JSON it should be: {reason}", _AGAIN
        ) from None
    if not isinstance(header, dict):
        raise file.error("safetensors-not-object", "has a header that is not a JSON object", _MAKER)
    return header


def _keeps_all(header: object, text: str) -> bool:
    """Whether as many strings stand in a header's text as in its entries, so that no key stands twice.

    Each entry has its name, three fields and a dtype, metadata two for each item and its name. A header
    of others may pass, for :func:`_entry` refuses it.
    """
    if not isinstance(header, dict) or "\\\\" in text:  # after which a quote may be one or not
        return False
    strings = 5 * len(header)
    if isinstance(metadata := header.get("__metadata__"), dict):
        strings += 1 + 2 * len(metadata) - 5
    return text.count('"') - text.count('\\"') == 2 * strings


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        seen: set[str] = set()
        raise _DuplicateKeyError(_quote(next(k for k, _ in pairs if k in seen or seen.add(k))))  # type: ignore[func-returns-value]  # the idiom needs set.add's None
    return mapping


def _whole(text: str) -> int:
    # The library reads u64: for it -0 is no such number, and for Python one of any length would be.
    return -1 if text.startswith("-") or len(text) > 20 or int(text) >= 1 << 64 else int(text)


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def _metadata(file: Readable, value: object) -> Mapping[str, str]:
    if value is None:
        return MappingProxyType({})
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise file.error("safetensors-bad-metadata", "has metadata that is not a map of text to text", _MAKER)
    if not all(_encodable(k) and _encodable(v) for k, v in value.items()):
        raise file.error("safetensors-not-utf8", "has metadata that is not Unicode text", _MAKER)
    return MappingProxyType(value)


def _encodable(text: str) -> bool:
    """JSON can spell half a surrogate pair, UTF-8 cannot."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _layout(file: Readable, header: dict[str, object], available: int) -> dict[str, _Place]:
    """The tensors by offset, their data checked to tile the file."""
    found = [(name, _entry(file, name, value)) for name, value in header.items()]
    found.sort(key=lambda item: (item[1].begin, item[1].end))
    position, last = 0, ""
    for name, place in found:
        if place.begin != position:
            raise _misplaced(file, name, last, place.begin - position)
        position, last = place.end, name
    if position > available:
        raise file.error(
            "safetensors-truncated",
            f"is cut short: it has {available} of its {position} bytes of data",
            _AGAIN,
        )
    if position < available:
        spare = available - position
        raise file.error("safetensors-trailing-data", f"has {spare} bytes that belong to no tensor", _AGAIN)
    return dict(found)


def _misplaced(file: Readable, name: str, last: str, gap: int) -> InputError:
    before = _quote(last) if last else "the header"
    if gap < 0:
        return file.error("safetensors-overlap", f"has {_quote(name)} overlap {before}", _MAKER)
    return file.error("safetensors-hole", f"has {gap} bytes between {before} and {_quote(name)}", _MAKER)


def _entry(file: Readable, name: str, value: object) -> _Place:
    """One entry of the header, checked; a checkpoint has thousands, so that words wait for a fault."""
    if not (name.isascii() or _encodable(name)):
        raise file.error(
            "safetensors-not-utf8", f"has a name that is not Unicode text: {_quote(name)}", _MAKER
        )
    if not isinstance(value, dict) or value.keys() != _ENTRY:
        raise file.error(
            "safetensors-bad-entry", f"should give {_quote(name)} a dtype, a shape and data_offsets", _MAKER
        )
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        known = ", ".join(DTYPES)
        named = _quote(dtype) if isinstance(dtype, str) else type(dtype).__name__
        raise file.error(
            "safetensors-unknown-dtype", f"gives {_quote(name)} the dtype {named}", f"known are {known}"
        )
    try:
        spec, size = _tensor(dtype, *_listed(shape))
    except TypeError:
        raise file.error(
            "safetensors-bad-shape", f"has a shape of {_quote(name)} that is not a list of sizes", _MAKER
        ) from None
    except OverflowError:
        raise file.error(
            "safetensors-bad-shape", f"has an impossible shape of {_quote(name)}", _MAKER
        ) from None
    if type(offsets) is not list or len(offsets) != 2 or not all(map(_is_size, offsets)):
        raise file.error(
            "safetensors-bad-offsets", f"has data_offsets of {_quote(name)} that are not a pair", _MAKER
        )
    begin, end = offsets
    if end < begin:
        raise file.error(
            "safetensors-bad-offsets", f"has data_offsets of {_quote(name)} in the wrong order", _MAKER
        )
    if end - begin != size:
        raise file.error(
            "safetensors-size-mismatch",
            f"gives {_quote(name)} {end - begin} bytes, but {dtype} {shape} takes {size}",
            _MAKER,
        )
    return _Place(spec, begin, end)


def _listed(value: object) -> list[Any]:
    if type(value) is not list:
        raise TypeError
    return value


# A file has thousands of tensors, and few shapes among them.
@lru_cache(maxsize=1 << 14, typed=True)
def _tensor(dtype: str, *shape: int) -> tuple[TensorSpec, int]:
    """A tensor and its bytes.

    Raises ``TypeError`` for what is no size, ``OverflowError`` for what no file could hold.
    """
    elements = 1
    for size in shape:
        if not _is_size(size):
            raise TypeError
        elements *= size
        if size >= 1 << 63 or elements >= 1 << 60:
            raise OverflowError
    return TensorSpec(dtype, shape), elements * DTYPES[dtype]


def _is_size(value: object) -> bool:
    # By type, not isinstance: True is an int to Python, not to JSON.
    return type(value) is int and value >= 0


def _quote(name: str) -> str:
    """A name for a message: escaped and of bounded length."""
    shown = name if len(name) <= 80 else name[:77] + "..."
    return repr(shown)
