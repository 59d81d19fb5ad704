"""Reading ``.ckpt``, ``.pt`` and ``.bin``: the files of ``torch.save``, without torch and without trust.

Since torch 1.6 such a file is a zip archive of stored entries: ``<root>/data.pkl`` describes the
tensors and ``<root>/data/<key>`` holds each storage. Before, it was four pickles followed by the
storages. Either way the description is read as data (:mod:`lorapipe.formats.containers.pickle_machine`) and
the tensors are read by offset when asked for, so that a checkpoint is never in memory whole.
(pytorch, ``torch/serialization.py``: ``_save``, ``_legacy_save``, ``_legacy_load``.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lorapipe.errors import InputError
from lorapipe.formats.containers.opened import Readable, row_range
from lorapipe.formats.containers.pickle_machine import PICKLE_LIMIT, load
from lorapipe.formats.containers.pickle_names import Forbidden, Malformed, PickledTensor, Storage
from lorapipe.formats.containers.sniff import ZIP, foreign, is_legacy_pickle
from lorapipe.formats.containers.tensor_file import TensorFile
from lorapipe.formats.containers.zip_directory import Entry, read_directory
from lorapipe.weights.specs import DTYPES, TensorSpec

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["TorchFile"]

_AGAIN = "the file is damaged: copy or download it again"
_CONVERT = "convert it to safetensors with a tool that you trust, on a machine that you can lose"


class TorchFile(TensorFile):
    """A torch file.

    ``tensors`` is in the order of the saved dict (of its ``state_dict``, where there is
    one). Views and shared storages are read as what they show; a storage that no tensor
    shows is not read. ``metadata`` is empty: the format has none.
    """

    __slots__ = ("_views",)

    def __init__(self, file: Readable, views: Mapping[str, _View]) -> None:
        super().__init__(file, {name: view.spec for name, view in views.items()}, {})
        self._views = views

    @classmethod
    def read_from(cls, file: Readable) -> Self:
        root, storages = _described(file)
        found = _state_dict(file, root).items()
        views = {name: _view(file, name, tensor, storages) for name, tensor in found}
        file.expect((entry.offset, entry.size) for entry in storages.values())
        return cls(file, views)

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytearray:
        view = self._views[name]
        first, length = row_range(view.spec, start, stop)
        if view.contiguous:
            return self._file.read(view.offset + first, length)
        return _gather(self._file, view, start, view.spec.shape[0] if stop is None else stop)


@dataclass(frozen=True, slots=True)
class _View:
    """``offset`` in bytes of the file, ``stride`` in elements."""

    spec: TensorSpec
    offset: int
    stride: tuple[int, ...]

    @property
    def contiguous(self) -> bool:
        expected = 1
        for size, stride in zip(reversed(self.spec.shape), reversed(self.stride), strict=True):
            if size != 1 and stride != expected:
                return self.spec.size == 0
            expected *= size
        return True


def _gather(file: Readable, view: _View, start: int, stop: int) -> bytearray:
    """Rows of a tensor whose elements do not lie one after the other."""
    import numpy as np  # only views need it, and headers should be quick to read

    width = DTYPES[view.spec.dtype]
    shape = (stop - start, *view.spec.shape[1:])
    if 0 in shape:
        return bytearray()
    span = 1 + sum((size - 1) * stride for size, stride in zip(shape, view.stride, strict=True))
    raw = np.frombuffer(file.read(view.offset + start * view.stride[0] * width, span * width), f"V{width}")
    strides = tuple(stride * width for stride in view.stride)
    return bytearray(np.lib.stride_tricks.as_strided(raw, shape, strides).tobytes())


def _described(file: Readable) -> tuple[Any, dict[str, Entry]]:
    """What was saved, and where each storage lies."""
    head = file.head()
    if head.startswith(ZIP):
        return _zipped(file)
    if is_legacy_pickle(head):
        return _legacy(file)
    raise foreign(file, "torch") or file.error(
        "torch-unknown-format", "is not a file that torch.save has written", _AGAIN
    )


def _zipped(file: Readable) -> tuple[Any, dict[str, Entry]]:
    entries = read_directory(file)
    found = [name for name in entries if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(found) != 1:
        problem = "holds no data.pkl" if not found else "holds more than one data.pkl"
        raise file.error(
            "torch-unknown-format", f"is a zip archive, but not of torch.save: it {problem}", _AGAIN
        )
    root = found[0].removesuffix("data.pkl")
    if f"{root}constants.pkl" in entries:
        raise file.error(
            "torch-script", "is a TorchScript program, not weights", "export its state_dict instead"
        )
    order = entries.get(f"{root}byteorder")
    if order is not None and bytes(file.read(order.offset, min(order.size, 16))).strip() != b"little":
        raise _big_endian(file)
    pickle = entries[found[0]]
    if pickle.size > PICKLE_LIMIT:
        raise _malformed(file, f"its description has {pickle.size} bytes")
    value, _ = _load(file, bytes(file.read(pickle.offset, pickle.size)), 0)
    prefix = f"{root}data/"
    return value, {n.removeprefix(prefix): entry for n, entry in entries.items() if n.startswith(prefix)}


def _legacy(file: Readable) -> tuple[Any, dict[str, Entry]]:
    data = bytes(file.read(0, min(file.size, PICKLE_LIMIT)))
    _, position = _load(file, data, 0)
    version, position = _load(file, data, position)
    system, position = _load(file, data, position)
    if version != 1001:
        raise _malformed(file, "its protocol is not 1001")
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise _big_endian(file)
    value, position = _load(file, data, position)
    keys, position = _load(file, data, position)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise _malformed(file, "it does not list its storages")
    widths = {storage.key: DTYPES[storage.dtype or "U8"] for storage in _storages(value)}
    places: dict[str, Entry] = {}
    for key in keys:
        if key not in widths:
            # Storages lie behind one another: without its width the next cannot be found.
            raise _malformed(file, "it holds a storage that no tensor uses")
        elements = int.from_bytes(file.read(position, 8), "little")
        places[key] = Entry(position + 8, elements * widths[key])
        position += 8 + places[key].size
    if position > file.size:
        raise file.error(
            "torch-truncated", f"is cut short: it has {file.size} of its {position} bytes", _AGAIN
        )
    return value, places


def _storages(value: object) -> Iterator[Storage]:
    for leaf in _leaves(value, set()):
        if isinstance(leaf, PickledTensor):
            yield leaf.storage


def _leaves(value: object, seen: set[int]) -> Iterator[object]:
    """Everything below ``value``; containers in ``seen`` not again: a pickle can share them without end."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, (dict, list, tuple)):
            if id(item) not in seen:
                seen.add(id(item))
                waiting.extend(item.values() if isinstance(item, dict) else item)
        else:
            yield item


def _load(file: Readable, data: bytes, start: int) -> tuple[Any, int]:
    try:
        return load(data, start)
    except Forbidden as error:
        raise file.error("pickle-runs-code", f"wants to run code: it asks for {error}", _CONVERT) from None
    except Malformed as error:
        raise _malformed(file, str(error)) from None


def _state_dict(file: Readable, root: object) -> dict[str, PickledTensor]:
    """The tensors of a saved dict, or of the ``state_dict`` in it."""
    if isinstance(root, dict) and isinstance(root.get("state_dict"), dict):
        root = root["state_dict"]
    if not isinstance(root, dict):
        raise file.error("pickle-no-tensors", "holds no dict of tensors", "save the model's state_dict()")
    tensors: dict[str, PickledTensor] = {}
    seen: set[int] = set()
    for key, value in root.items():
        if isinstance(value, PickledTensor) and isinstance(key, str):
            tensors[key] = value
        elif any(isinstance(leaf, PickledTensor) for leaf in _leaves(value, seen)):
            raise file.error(
                "pickle-nested-tensors",
                f"holds tensors inside {str(key)[:80]!r}, where no program would look for weights",
                "save the flat state_dict()",
            )
    if not tensors:
        raise file.error("pickle-no-tensors", "holds no tensors", "save the model's state_dict()")
    return tensors


def _view(file: Readable, name: str, tensor: PickledTensor, storages: Mapping[str, Entry]) -> _View:
    label = repr(name[:80])
    spec = TensorSpec(tensor.dtype, tensor.shape)
    entry = storages.get(tensor.storage.key)
    if entry is None:
        raise _malformed(file, f"the data of {label} is missing")
    if entry.size != tensor.storage.elements * DTYPES[tensor.storage.dtype or "U8"]:
        raise _malformed(file, f"the storage of {label} has another size than the description says")
    width = DTYPES[tensor.dtype]
    last = tensor.offset + sum(
        (size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride, strict=True)
    )
    # An expanded view (stride 0) may be larger than its storage, but not without bound.
    if spec.size and ((last + 1) * width > entry.size or spec.nbytes > file.size):
        raise _malformed(file, f"{label} reaches beyond its storage")
    return _View(spec, entry.offset + (tensor.offset * width if spec.size else 0), tensor.stride)


def _big_endian(file: Readable) -> InputError:
    return file.error(
        "torch-big-endian", "was written on a big-endian machine", "save it again on a usual one"
    )


def _malformed(file: Readable, what: str) -> InputError:
    return file.error("torch-malformed", f"is no sound torch file: {what}", _AGAIN)
