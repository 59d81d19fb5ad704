"""Every module that real trainers make, in every naming, finds its rows in every layout of checkpoint.

The layouts and maps are facts taken from the real programs (``../shared/layouts``); a case is one
naming of one map against one layout. LoRAs are headers only: shapes are the map's or the tensor's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lorapipe.formats.adapters.read import bind_adapter
from lorapipe.formats.checkpoints.read import read_checkpoint_spec
from lorapipe.weights.inference.binding import bind
from lorapipe.weights.specs import CheckpointSpec, TensorSpec

from .sources import HeaderSource

Tensors = Mapping[str, tuple[int, ...]]
Piece = tuple[str, int, int]
"""A tensor of the checkpoint, and the rows of it."""

PEFT = (".lora_B.weight", ".lora_A.weight")
KOHYA = (".lora_up.weight", ".lora_down.weight")
OLD = (".lora.up.weight", ".lora.down.weight")


@dataclass(frozen=True)
class Module:
    """A module of a naming: its weight's shape, and where its rows are, one piece after the other."""

    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Case:
    layout: str
    map: str
    section: str
    family: str
    before: str = ""
    suffixes: tuple[str, str] = KOHYA

    def __str__(self) -> str:
        return f"{self.layout}-{self.section}-{self.before or 'bare'}{self.suffixes[0]}"


def kohya(layout: str, family: str, section: str = "modules", file: str = "") -> Case:
    return Case(layout, file or f"{layout}.lora-map", section, family)


def diffusers(layout: str, family: str, *before: str, file: str = "") -> list[Case]:
    file = file or f"{layout}.lora-map"
    return [
        Case(layout, file, "diffusers", family, b, suffixes)
        for b in before or ("",)
        for suffixes in (PEFT, OLD)
    ]


CASES = [
    kohya("sd15", "sd1"),
    *diffusers("sd15", "sd1"),
    kohya("sd15-diffusers", "sd1"),
    kohya("sd15-diffusers", "sd1", "modules_diffusers_path"),
    *diffusers("sd15-diffusers", "sd1"),
    kohya("sd21", "sd2"),
    *diffusers("sd21", "sd2"),
    kohya("sdxl", "sdxl"),
    kohya("sdxl", "sdxl", file="sdxl.lora-map-diffusers-path"),
    *diffusers("sdxl", "sdxl"),
    kohya("sdxl-diffusers", "sdxl"),
    kohya("sdxl-diffusers", "sdxl", "modules_diffusers_path"),
    *diffusers("sdxl-diffusers", "sdxl", file="sdxl-diffusers.lora-map-peft"),
    kohya("sd35-medium", "sd3"),
    kohya("flux1-dev", "flux1"),
    *diffusers("flux1-dev", "flux1", "transformer.", ""),
    kohya("chroma", "chroma"),
    *diffusers("chroma", "chroma", "transformer.", ""),
    kohya("lumina2", "lumina2"),
    *diffusers("lumina2", "lumina2", "transformer.", ""),
    kohya("z-image", "z-image"),
    kohya("z-image", "z-image", "modules_comfy"),
    *diffusers("z-image", "z-image", "transformer.", ""),
    kohya("z-image-diffusers", "z-image"),
    *diffusers("z-image-diffusers", "z-image", "transformer.", ""),
    kohya("hunyuan-video", "hunyuan-video"),
    *diffusers("hunyuan-video", "hunyuan-video", "transformer.", ""),
    kohya("qwen-image", "qwen-image"),
    kohya("wan21-14b-t2v", "wan"),
    Case("llama31-8b", "llama31-8b.lora-map", "modules", "", "", PEFT),
]

TOLD_BY_METADATA = {"chroma-modules-bare.lora_up.weight": {"ss_base_model_version": "chroma"}}
"""What kohya trains of Chroma are modules that FLUX.1 has, too, in every name and size."""


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_module_binds_to_its_rows(shared: Callable[[str], Path], case: Case) -> None:
    tensors = stored(shared, case.layout)
    modules = named(shared, case, tensors)
    assert len(modules) > 3
    lora = HeaderSource(dict(written(modules, case)), {})
    checkpoint = read_checkpoint_spec(header(tensors), case.family or None)
    bound = bind_adapter(lora, case.family or None)
    assert (bound.spec.family or "") == (checkpoint.family or "") == case.family
    binding = bind(bound.spec, checkpoint)
    assert binding.problems == ()
    found = where(binding, bound, checkpoint)
    assert {stem: found[stem] for stem in modules} == {stem: list(m.pieces) for stem, m in modules.items()}


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.section != "modules_diffusers_path" and case.family], ids=str
)
def test_the_whole_file_is_recognised(shared: Callable[[str], Path], case: Case) -> None:
    modules = named(shared, case, stored(shared, case.layout))
    lora = HeaderSource(dict(written(modules, case)), TOLD_BY_METADATA.get(str(case), {}))
    assert bind_adapter(lora).spec.family == case.family


@pytest.mark.parametrize("layout", ["sd15-diffusers", "sdxl-diffusers"])
def test_attention_processors_names_are_the_attentions(shared: Callable[[str], Path], layout: str) -> None:
    """What diffusers wrote before PEFT: ``attn1.processor.to_q_lora.down.weight``."""
    family = {"sd15-diffusers": "sd1", "sdxl-diffusers": "sdxl"}[layout]
    file = "sdxl-diffusers.lora-map-peft" if family == "sdxl" else f"{layout}.lora-map"
    tensors = stored(shared, layout)
    modules = named(shared, Case(layout, file, "diffusers", family), tensors)
    attention = {s: m for s, m in modules.items() if s.startswith("unet.") and ".attn" in s and ".to_" in s}
    old = {stem.replace(".to_", ".processor.to_").removesuffix(".0"): m for stem, m in attention.items()}
    lora = HeaderSource(
        dict(written(old, Case(layout, file, "", family, "", ("_lora.up.weight", "_lora.down.weight")))), {}
    )
    checkpoint = read_checkpoint_spec(header(tensors), family)
    bound = bind_adapter(lora, family)
    found = where(bind(bound.spec, checkpoint), bound, checkpoint)
    assert len(found) == len(attention) > 100
    assert {stem: found[stem] for stem in old} == {stem: list(m.pieces) for stem, m in old.items()}


# ---- the facts ---------------------------------------------------------------------------------------


def stored(shared: Callable[[str], Path], layout: str) -> Tensors:
    """A checkpoint's tensors; a folder's with the component's folder before the name."""
    described = read(shared, layout)
    if "tensors" in described:
        return {key: tuple(shape) for key, (shape, _) in described["tensors"].items()}
    components = described["components"].items()
    return {f"{c}/{key}": tuple(shape) for c, keys in components for key, (shape, _) in keys.items()}


def named(shared: Callable[[str], Path], case: Case, tensors: Tensors) -> dict[str, Module]:
    described = read(shared, case.map)
    swapped = described.get("diffusers_not_a_slice", {}) if case.section == "diffusers" else {}
    found = {}
    for stem, facts in described[case.section].items():
        if stem in swapped:
            pieces = tuple((key, a, b) for key, a, b in swapped[stem])
            shape: tuple[int, ...] = (sum(b - a for _, a, b in pieces), *tensors[pieces[0][0]][1:])
        else:
            pieces, shape = one_piece(facts, tensors)
        found[stem] = Module(shape, pieces)
    if case.section == "diffusers":
        for stem, key in described.get("diffusers_transposed", {}).items():
            rows, columns = tensors[key]
            found[stem] = Module((columns, rows), ((key, 0, rows),))
    return found


def one_piece(facts: list[Any], tensors: Tensors) -> tuple[tuple[Piece, ...], tuple[int, ...]]:
    """``[key, ...]`` or ``[component, key, ...]``: a module's shape stands behind, its rows at the end."""
    folder = len(facts) > 1 and isinstance(facts[1], str)
    key = f"{facts[0]}/{facts[1]}" if folder else facts[0]
    lists = [fact for fact in facts[2 if folder else 1 :] if isinstance(fact, list)]
    given = len(facts) > (4 if folder else 3)  # [key, shape, kind, flag]
    shape = tuple(lists[0]) if given else tensors[key]
    rows = lists[-1] if len(lists) == 2 or (lists and not given) else [0, tensors[key][0]]
    return ((key, *rows),), shape if given else (rows[1] - rows[0], *shape[1:])


def written(modules: Mapping[str, Module], case: Case) -> Iterator[tuple[str, TensorSpec]]:
    up, down = case.suffixes
    for stem, module in modules.items():
        out, into, *kernel = module.shape
        yield f"{case.before}{stem}{up}", TensorSpec("F16", (out, 2, *(1 for _ in kernel)))
        yield f"{case.before}{stem}{down}", TensorSpec("F16", (2, into, *kernel))


def where(binding: Any, bound: Any, checkpoint: CheckpointSpec) -> dict[str, list[Piece]]:
    """The pieces of each module of the file, in the order of its own rows."""
    pieces: dict[str, list[tuple[int, Piece]]] = {}
    for found in binding.bound:
        placed = bound.placed[found.module]
        height = checkpoint.tensors[found.key].shape[0]
        start = (placed.rows or (0, 0))[0] + (found.part or (0, 0))[0]
        piece = (found.key, *(found.rows or (0, height)))
        pieces.setdefault(placed.found.stem, []).append((start, piece))
    stems = {stem: [piece for _, piece in sorted(found)] for stem, found in pieces.items()}
    return {stem.removeprefix("transformer."): found for stem, found in stems.items()} | stems


def header(tensors: Tensors) -> HeaderSource:
    return HeaderSource({key: TensorSpec("F16", shape) for key, shape in tensors.items()}, {})


_READ: dict[Path, Any] = {}


def read(shared: Callable[[str], Path], name: str) -> Any:
    path = shared(f"layouts/{name}.json")
    if path not in _READ:
        _READ[path] = json.loads(path.read_text())
    return _READ[path]
