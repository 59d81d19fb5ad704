"""An adapter in lorapipe's own store: exactly as it was, in one file that is always the same.

Unlike a LoRA file, which has one pair of factors and one alpha for each module, this keeps
every term: its coefficient to the last bit, its factors in their own dtypes. The container
is safetensors; a JSON text in its metadata says what is what. Never read by other programs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from lorapipe.errors import InputError
from lorapipe.formats.output import Buffer
from lorapipe.formats.safetensors import SafetensorsFile
from lorapipe.formats.safetensors_writer import write_safetensors
from lorapipe.weights.specs import AdapterSpec, ModuleId, ModuleSpec, Spelling, TensorSpec

if TYPE_CHECKING:
    from torch import Tensor

    from lorapipe.weights.adapter import Adapter
    from lorapipe.weights.delta import Delta
    from lorapipe.weights.structures import Loaded, Structure

__all__ = ["read_stored", "write_stored"]

_KEY = "lorapipe.adapter"
_VERSION = 1


def write_stored(adapter: Adapter, stream: IO[bytes]) -> None:
    """Write an adapter; equal adapters give equal bytes. Raises ``OSError`` as ``stream`` does."""
    from lorapipe.weights.tensors import TORCH_DTYPES, to_bytes  # they need torch

    names = {dtype: name for name, dtype in TORCH_DTYPES.items()}
    tensors = dict(_tensors(adapter))
    specs = {name: TensorSpec(names[t.dtype], tuple(t.shape)) for name, t in tensors.items()}
    data: Iterator[tuple[str, tuple[Buffer]]] = ((name, (to_bytes(t),)) for name, t in tensors.items())
    text = json.dumps(_described(adapter), ensure_ascii=False, separators=(",", ":"))
    write_safetensors(stream, specs, data, {_KEY: text})


def read_stored(path: Path, device: str = "cpu") -> Adapter:
    """The adapter that :func:`write_stored` wrote: the same spec, coefficients and factors, bit for bit.

    On the CPU factors are read when they are used, so that a result takes no memory beside
    the modules at work; the file stays open as long as the adapter lives.

    Raises :class:`InputError` ``stored-malformed`` for any other file.
    """
    from lorapipe.weights.adapter import Adapter  # it needs torch
    from lorapipe.weights.tensors import from_bytes  # as above

    file = SafetensorsFile.open(path)
    try:
        known = json.loads(file.metadata[_KEY])
        spec = _spec(known)
        modules = {
            module: _delta(file, index, described, spec.modules[module].shape, device)
            for index, (module, described) in enumerate(zip(spec.modules, known["modules"], strict=True))
        }
        extras = {
            name: from_bytes(file.read(f"extra.{index}"), file.tensors[f"extra.{index}"], device)
            for index, name in enumerate(spec.extras)
        }
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as error:
        file.close()
        raise InputError(
            "stored-malformed",
            f"is no result of lorapipe's store ({type(error).__name__})",
            hint="delete it; the step will run again",
            where=str(path),
        ) from error
    return Adapter(spec, modules, extras)


def _tensors(adapter: Adapter) -> Iterator[tuple[str, Tensor]]:
    for index, delta in enumerate(adapter.delta(module) for module in adapter.spec.modules):
        for number, term in enumerate(delta.terms):
            for role, tensor in _held(term.structure.load()):
                yield f"{index}.{number}.{role}", tensor
    for index, name in enumerate(adapter.spec.extras):
        yield f"extra.{index}", adapter.extras[name]


def _held(loaded: Loaded) -> Iterator[tuple[str, Tensor]]:
    """A term's tensors: its two factors, or its numbers."""
    from lorapipe.weights.structures import Dense, LowRank  # they need torch

    if isinstance(loaded, LowRank):
        yield from (("up", loaded.up), ("down", loaded.down))
    else:
        assert isinstance(loaded, Dense)
        yield "dense", loaded.matrix


def _described(adapter: Adapter) -> dict[str, Any]:
    spec = adapter.spec
    return {
        "version": _VERSION,
        "family": spec.family,
        "dtype": spec.dtype,
        "hidden": spec.hidden,
        "metadata": dict(sorted(spec.metadata.items())),
        "extras": [[name, extra.dtype, extra.shape] for name, extra in spec.extras.items()],
        "modules": [_module(place, known, adapter.delta(place)) for place, known in spec.modules.items()],
    }


def _module(place: ModuleId, known: ModuleSpec, delta: Delta) -> dict[str, Any]:
    return {
        "component": place.component,
        "key": place.key,
        "rows": place.rows,
        "shape": known.shape,
        "rank": known.rank,
        "stem": known.spelling.stem,
        "transposed": known.spelling.transposed,
        "up": known.spelling.up,
        # Decimal text would do for Python, but hex is exact by definition.
        "terms": [term.coefficient.hex() for term in delta.terms],
    }


def _spec(known: Mapping[str, Any]) -> AdapterSpec:
    if known["version"] != _VERSION:
        raise ValueError(f"version {known['version']}")
    modules = {
        ModuleId(m["component"], m["key"], None if m["rows"] is None else tuple(m["rows"])): ModuleSpec(
            tuple(m["shape"]), m["rank"], Spelling(m["stem"], m["transposed"], m["up"])
        )
        for m in known["modules"]
    }
    extras = {name: TensorSpec(dtype, tuple(shape)) for name, dtype, shape in known["extras"]}
    return AdapterSpec(known["family"], modules, known["dtype"], known["metadata"], extras, known["hidden"])


def _delta(
    file: SafetensorsFile, index: int, described: Mapping[str, Any], shape: tuple[int, ...], device: str
) -> Delta:
    from lorapipe.weights.delta import Delta, Term  # they need torch

    terms = tuple(
        Term(float.fromhex(coefficient), _structure(file, f"{index}.{number}", device))
        for number, coefficient in enumerate(described["terms"])
    )
    return Delta(shape, terms)


def _structure(file: SafetensorsFile, term: str, device: str) -> Structure:
    from lorapipe.weights.lazy import Lazy  # they need torch
    from lorapipe.weights.structures import Dense, LowRank
    from lorapipe.weights.tensors import from_bytes

    def tensor(role: str) -> Tensor:
        name = f"{term}.{role}"
        return from_bytes(file.read(name), file.tensors[name], device)

    if (dense := file.tensors.get(f"{term}.dense")) is not None:
        rows, columns = dense.shape
        whole = Lazy((rows, columns), min(rows, columns), lambda: Dense(tensor("dense")), plain=False)
        return whole if device == "cpu" else whole.load()
    (rows, rank), (inner, columns) = (file.tensors[f"{term}.{role}"].shape for role in ("up", "down"))
    if rank != inner:
        raise ValueError(f"ranks {rank} and {inner}")
    factors = Lazy((rows, columns), rank, lambda: LowRank(tensor("up"), tensor("down")))
    return factors if device == "cpu" else factors.load()
