"""An adapter in lorapipe's own store: exactly as it was, in one file that is always the same.

Unlike a LoRA file, which has one pair of factors and one alpha for each module, this keeps
every term: its coefficient to the last bit, its tensors in their own dtypes. The container
is safetensors; a JSON text in its metadata says what is what. Never read by other programs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from lorapipe.errors import InputError
from lorapipe.formats.containers.output import Buffer, OnBytes
from lorapipe.formats.containers.safetensors import SafetensorsFile
from lorapipe.formats.containers.safetensors_writer import write_safetensors
from lorapipe.weights.specs import AdapterSpec, Form, ModuleId, ModuleSpec, Spelling, TensorSpec

if TYPE_CHECKING:
    from torch import Tensor

    from lorapipe.weights.algebra.adapter import Adapter
    from lorapipe.weights.structures.delta import Delta, Term
    from lorapipe.weights.structures.structure import Structure

__all__ = ["read_stored", "write_stored"]

_KEY = "lorapipe.adapter"
_VERSION = 1


def write_stored(adapter: Adapter, stream: IO[bytes], on_bytes: OnBytes | None = None) -> None:
    """Write an adapter; equal adapters give equal bytes. Raises ``OSError`` as ``stream`` does."""
    from lorapipe.weights.tensors import NAMES, to_bytes  # they need torch

    # Two passes: the header comes first, and not all of the factors need be in memory.
    specs = {name: TensorSpec(NAMES[t.dtype], tuple(t.shape)) for name, t in _tensors(adapter)}
    data: Iterator[tuple[str, tuple[Buffer]]] = ((name, (to_bytes(t),)) for name, t in _tensors(adapter))
    text = json.dumps(_described(adapter), ensure_ascii=False, separators=(",", ":"))
    write_safetensors(stream, specs, data, {_KEY: text}, on_bytes)


def read_stored(path: Path, device: str = "cpu") -> Adapter:
    """The adapter that :func:`write_stored` wrote: the same spec, coefficients and factors, bit for bit.

    On the CPU factors are read when they are used, so that a result takes no memory beside
    the modules at work; the file stays open as long as the adapter lives.

    Raises :class:`InputError` ``stored-malformed`` for any other file.
    """
    from lorapipe.weights.algebra.adapter import Adapter  # it needs torch
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
    from lorapipe.weights.structures.parts import take_apart  # it needs torch

    for index, delta in enumerate(adapter.delta(module) for module in adapter.spec.modules):
        for number, term in enumerate(delta.terms):
            for role, tensor in take_apart(term.structure.load())[1].items():
                yield f"{index}.{number}.{role}", tensor
    for index, name in enumerate(adapter.spec.extras):
        yield f"extra.{index}", adapter.extras[name]


def _described(adapter: Adapter) -> dict[str, Any]:
    spec = adapter.spec
    return {
        "version": _VERSION,
        "family": spec.family,
        "also": spec.also,
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
        "form": known.form and [known.form.name, [(s, t.dtype, t.shape) for s, t in known.form.tensors]],
        "terms": [_term(term) for term in delta.terms],
    }


def _term(term: Term) -> list[Any]:
    """The coefficient, and what the structure is: two factors are known to be that without reading them."""
    from lorapipe.weights.structures.parts import take_apart  # it needs torch

    plan = "low-rank" if term.structure.plain else take_apart(term.structure.load())[0]
    # Decimal text would do for Python, but hex is exact by definition.
    return [term.coefficient.hex(), plan]


def _form(known: list[Any] | None) -> Form | None:
    if known is None:
        return None
    name, tensors = known
    return Form(name, tuple((suffix, TensorSpec(dtype, tuple(shape))) for suffix, dtype, shape in tensors))


def _spec(known: Mapping[str, Any]) -> AdapterSpec:
    if known["version"] != _VERSION:
        raise ValueError(f"version {known['version']}")
    modules = {
        ModuleId(m["component"], m["key"], None if m["rows"] is None else tuple(m["rows"])): ModuleSpec(
            tuple(m["shape"]), m["rank"], Spelling(m["stem"], m["transposed"], m["up"]), _form(m["form"])
        )
        for m in known["modules"]
    }
    extras = {name: TensorSpec(dtype, tuple(shape)) for name, dtype, shape in known["extras"]}
    return AdapterSpec(
        known["family"],
        modules,
        known["dtype"],
        known["metadata"],
        extras,
        known["hidden"],
        also=tuple(known["also"]),
    )


def _delta(
    file: SafetensorsFile, index: int, described: Mapping[str, Any], shape: tuple[int, ...], device: str
) -> Delta:
    from lorapipe.weights.structures.delta import Delta, Term  # they need torch

    terms = tuple(
        Term(float.fromhex(coefficient), _structure(file, f"{index}.{number}", plan, device))
        for number, (coefficient, plan) in enumerate(described["terms"])
    )
    return Delta(shape, terms)


def _structure(file: SafetensorsFile, term: str, plan: Any, device: str) -> Structure:
    import torch  # it is slow, and the numbers' alone

    from lorapipe.weights.structures.lazy import Lazy  # as above
    from lorapipe.weights.structures.parts import put_together
    from lorapipe.weights.tensors import from_bytes

    def shape(role: str) -> Tensor:
        return torch.empty(file.tensors[f"{term}.{role}"].shape, device="meta")

    def tensor(role: str) -> Tensor:
        name = f"{term}.{role}"
        return from_bytes(file.read(name), file.tensors[name], device)

    known = put_together(plan, shape)
    whole = Lazy(known.shape, known.rank, lambda: put_together(plan, tensor), known.plain)
    return whole if device == "cpu" else whole.load()
