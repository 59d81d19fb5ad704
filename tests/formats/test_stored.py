"""The store keeps adapters bit for bit, and equal adapters as equal bytes."""

from __future__ import annotations

import io
import json
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lorapipe.errors import InputError
from lorapipe.formats.containers.safetensors_writer import write_safetensors
from lorapipe.formats.stored import read_stored, write_stored
from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.specs import AdapterSpec, Form, ModuleId, ModuleSpec, Spelling, TensorSpec
from lorapipe.weights.structures.delta import Delta, Term
from lorapipe.weights.structures.lazy import Lazy
from lorapipe.weights.structures.parts import take_apart
from lorapipe.weights.structures.structure import LowRank
from tests.weights.sorts import SORTS, full, lokr

from .sources import NAMES, seeded

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn]
sizes = st.integers(1, 4)
texts = st.text(st.characters(codec="utf-8"), max_size=8)


@st.composite
def deltas(draw: st.DrawFn) -> Delta:
    shape = draw(st.one_of(st.tuples(sizes, sizes), st.tuples(sizes, sizes, sizes, sizes)))
    columns = int(torch.tensor(shape[1:]).prod())
    terms = []
    for _ in range(draw(st.integers(1, 3))):
        rank, dtype, seed = draw(sizes), draw(st.sampled_from(DTYPES)), draw(st.integers(0, 1000))
        up = seeded(shape[0], rank, seed=seed, dtype=dtype)
        down = seeded(rank, columns, seed=seed + 1, dtype=dtype)
        coefficient = draw(st.floats(allow_nan=False, allow_infinity=False))
        terms.append(Term(coefficient, LowRank(up, down)))
    return Delta(shape, tuple(terms))


@st.composite
def adapters(draw: st.DrawFn) -> Adapter:
    rows = st.none() | st.tuples(st.integers(0, 9), st.integers(10, 20))
    places = draw(
        st.lists(st.builds(ModuleId, texts, texts, rows), max_size=4, unique=True)  # an id may be any text
    )
    modules = {place: draw(deltas()) for place in places}
    specs = {
        place: ModuleSpec(delta.shape, delta.rank, Spelling(draw(texts), draw(st.booleans()), draw(texts)))
        for place, delta in modules.items()
    }
    extras = {name: seeded(2, 3, seed=1).half() for name in draw(st.lists(texts, max_size=2, unique=True))}
    spec = AdapterSpec(
        family=draw(st.none() | st.just("sdxl")),
        modules=specs,
        dtype=draw(st.sampled_from(["F16", "F32"])),
        metadata=draw(st.dictionaries(texts, texts, max_size=3)),
        extras={name: TensorSpec(NAMES[t.dtype], tuple(t.shape)) for name, t in extras.items()},
        hidden=draw(st.booleans()),
        also=draw(st.sampled_from([(), ("sd1", "sd2")])),
    )
    return Adapter(spec, modules, extras)


def stored(adapter: Adapter) -> bytes:
    stream = io.BytesIO()
    write_stored(adapter, stream)
    return stream.getvalue()


def same(one: torch.Tensor, two: torch.Tensor) -> bool:
    """Bit for bit: zeros of either sign are not the same."""
    raw = [t.contiguous().reshape(-1).view(torch.uint8) for t in (one, two)]
    return one.dtype == two.dtype and one.shape == two.shape and torch.equal(*raw)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(adapters())
def test_what_is_written_is_read_bit_for_bit(tmp_path: Path, adapter: Adapter) -> None:
    path = tmp_path / "blob"
    path.write_bytes(stored(adapter))
    found = read_stored(path)
    found.check(adapter.spec)
    assert list(found.spec.modules) == list(adapter.spec.modules)
    for place, delta in adapter.modules.items():
        assert len(found.modules[place].terms) == len(delta.terms)
        for one, two in zip(found.modules[place].terms, delta.terms, strict=True):
            assert struct.pack("d", one.coefficient) == struct.pack("d", two.coefficient)
            assert same(one.structure.load().up, two.structure.load().up)
            assert same(one.structure.load().down, two.structure.load().down)
    assert all(same(found.extras[name], extra) for name, extra in adapter.extras.items())


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(adapters())
def test_reading_and_writing_again_changes_no_byte(tmp_path: Path, adapter: Adapter) -> None:
    path = tmp_path / "blob"
    path.write_bytes(stored(adapter))
    assert stored(read_stored(path)) == path.read_bytes()


@settings(max_examples=30, deadline=None)
@given(adapters())
def test_the_order_of_metadata_changes_no_byte(adapter: Adapter) -> None:
    turned = dict(reversed(adapter.spec.metadata.items()))
    other = Adapter(replace(adapter.spec, metadata=turned), adapter.modules, adapter.extras)
    assert stored(other) == stored(adapter)


def one_module(up: torch.Tensor, down: torch.Tensor) -> Adapter:
    delta = Delta((up.shape[0], down.shape[1]), (Term(0.1, LowRank(up, down)),))
    place = ModuleId("unet", "x.weight")
    spec = AdapterSpec("sd1", {place: ModuleSpec(delta.shape, delta.rank, Spelling("x"))}, "F32")
    return Adapter(spec, {place: delta})


def test_views_are_written_as_what_they_show() -> None:
    up, down = seeded(3, 2, seed=1), seeded(2, 4, seed=2)
    turned = one_module(up.T.contiguous().T, down.T.contiguous().T)
    assert stored(turned) == stored(one_module(up, down))


MODULE = {
    "component": "", "key": "x", "rows": None, "shape": [1, 1], "rank": 1, "stem": "x", "transposed": False,
    "up": ".lora_up.weight", "form": None, "terms": [["0x1p0", "low-rank"]],
}  # fmt: skip
EMPTY = {"version": 1, "family": None, "dtype": "F32", "hidden": False, "metadata": {}, "extras": []}
BAD = {
    "another safetensors file": {},
    "no JSON": {"lorapipe.adapter": "{"},
    "a list": {"lorapipe.adapter": "[]"},
    "a later version": {"lorapipe.adapter": '{"version":2}'},
    "a module without tensors": {"lorapipe.adapter": json.dumps(EMPTY | {"modules": [MODULE]})},
}


@pytest.mark.parametrize("metadata", BAD.values(), ids=BAD.keys())
def test_what_is_no_result_of_the_store_is_refused(tmp_path: Path, metadata: dict[str, str]) -> None:
    path = tmp_path / "blob"
    with path.open("wb") as stream:
        write_safetensors(stream, {}, [], metadata)
    with pytest.raises(InputError, match="is no result of lorapipe's store") as caught:
        read_stored(path)
    assert caught.value.code == "stored-malformed"


def test_a_damaged_blob_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    path.write_bytes(stored(one_module(seeded(3, 2, seed=1), seeded(2, 4, seed=2)))[:-1])
    with pytest.raises(InputError, match="is cut short: it has 55 of its 56 bytes of data"):
        read_stored(path)


def test_factors_are_read_when_they_are_used_and_the_file_outlives_its_name(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    factors = LowRank(torch.eye(3, 2), torch.eye(2, 4))
    module = ModuleId("unet", "a.weight")
    spec = AdapterSpec("sd1", {module: ModuleSpec((3, 4), 2, Spelling("a"))}, "F32")
    path.write_bytes(stored(Adapter(spec, {module: Delta((3, 4), (Term(0.5, factors),))})))
    found = read_stored(path)
    (term,) = found.modules[module].terms
    assert isinstance(term.structure, Lazy)
    path.unlink()
    for _ in range(2):
        again = term.structure.load()
        assert same(again.up, factors.up)
        assert same(again.down, factors.down)


def test_factors_of_two_ranks_are_refused_before_they_are_read(tmp_path: Path) -> None:
    from safetensors.torch import load, save

    module = ModuleId("unet", "a.weight")
    spec = AdapterSpec("sd1", {module: ModuleSpec((3, 4), 2, Spelling("a"))}, "F32")
    delta = Delta((3, 4), (Term(0.5, LowRank(torch.eye(3, 2), torch.eye(2, 4))),))
    data = stored(Adapter(spec, {module: delta}))
    text = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    path = tmp_path / "blob"
    path.write_bytes(save({**load(data), "0.0.down": torch.ones(1, 4)}, text))
    with pytest.raises(InputError) as caught:
        read_stored(path)
    assert caught.value.code == "stored-malformed"


# --- structures that are not two factors ------------------------------------------------


def of_sorts() -> Adapter:
    """One module of each structure, and one of them all."""
    deltas = [make(seed, torch.float16).delta(0.1) for seed, make in enumerate(SORTS.values())]
    mixed = Delta((12, 12), (*lokr((2, 3), (6, 4)).delta(-0.5).terms, *full(12, 12).delta().terms))
    bias = Delta((12,), full(12, 1).delta(1 / 3).terms)
    cut = lokr((4, 3), (6, 4), (None, 2)).delta().rows(5, 17)
    modules = {ModuleId("unet", f"m{i}"): d for i, d in enumerate([*deltas, mixed, bias, cut])}
    tensors = (("." + "hada_w1_a", TensorSpec("F16", (12, 2))), (".alpha", TensorSpec("F32", ())))
    specs = {
        m: ModuleSpec(d.shape, d.rank, Spelling("m"), Form("a format", tensors)) for m, d in modules.items()
    }
    return Adapter(AdapterSpec("sd1", specs, "F16"), modules)


def test_every_structure_is_kept_bit_for_bit_with_its_format(tmp_path: Path) -> None:
    adapter = of_sorts()
    path = tmp_path / "blob"
    path.write_bytes(stored(adapter))
    found = read_stored(path)
    found.check(adapter.spec)
    assert found.spec == adapter.spec
    for module, delta in adapter.modules.items():
        for one, two in zip(found.delta(module).terms, delta.terms, strict=True):
            plan, tensors = take_apart(one.structure.load())
            expected, before = take_apart(two.structure.load())
            assert (one.coefficient, json.dumps(plan)) == (two.coefficient, json.dumps(expected))
            assert tensors.keys() == before.keys()
            assert all(same(tensors[role], before[role]) for role in before)
    assert stored(found) == path.read_bytes()


def test_structures_are_read_when_they_are_used(tmp_path: Path) -> None:
    adapter = of_sorts()
    path = tmp_path / "blob"
    path.write_bytes(stored(adapter))
    found = read_stored(path)
    path.unlink()
    for module, delta in adapter.modules.items():
        for one, two in zip(found.delta(module).terms, delta.terms, strict=True):
            assert isinstance(one.structure, Lazy)
            assert (one.structure.shape, one.structure.rank) == (two.structure.shape, two.structure.rank)
            assert not one.structure.plain
        assert torch.equal(found.delta(module).dense(torch.float64), delta.dense(torch.float64))


def test_a_structure_whose_tensors_do_not_fit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    from safetensors.torch import load, save

    data = stored(of_sorts())
    text = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    path = tmp_path / "blob"
    for change in ({"0.0.mid": torch.ones(2, 2)}, {"3.0.one.up": torch.ones(5, 2)}):
        path.write_bytes(save({**load(data), **change}, text))
        with pytest.raises(InputError) as caught:
            read_stored(path)
        assert caught.value.code == "stored-malformed"


def test_a_plan_of_no_structure_is_refused(tmp_path: Path) -> None:
    module = MODULE | {"terms": [["0x1p0", "cube"]]}
    path = tmp_path / "blob"
    with path.open("wb") as stream:
        write_safetensors(stream, {}, [], {"lorapipe.adapter": json.dumps(EMPTY | {"modules": [module]})})
    with pytest.raises(InputError) as caught:
        read_stored(path)
    assert caught.value.code == "stored-malformed"
