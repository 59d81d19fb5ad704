"""The tables against the names and shapes of the real models, both ways.

The reference data were made from the trainers' and diffusers' own code; they lie
beside the checkout and are not part of it. Each family is under test as soon as its
table exists.
"""

from __future__ import annotations

import json
import struct
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lorapipe.architectures import (
    Family,
    Target,
    families,
    family,
    other_families,
    recognise_adapter,
    recognise_checkpoint,
)

Shared = Callable[[str], Path]
Rows = tuple[tuple[int, int], ...]

LAYOUTS = {
    "chroma": "chroma",
    "flux1-dev": "flux1",
    "hunyuan-video": "hunyuan-video",
    "lumina2": "lumina2",
    "qwen-image": "qwen-image",
    "sd15": "sd1",
    "sd21": "sd2",
    "sd35-medium": "sd3",
    "sdxl": "sdxl",
    "wan21-14b-t2v": "wan",
    "z-image": "z-image",
}
FOLDERS = {"sd15-diffusers": "sd15", "sdxl-diffusers": "sdxl", "z-image-diffusers": "z-image"}
MAPS = {
    **{f"{layout}.lora-map": layout for layout in LAYOUTS},
    "sdxl.lora-map-diffusers-path": "sdxl",
}
KNOWN = [layout for layout, name in LAYOUTS.items() if name in families()]
KNOWN_MAPS = [file for file, layout in MAPS.items() if layout in KNOWN]
KNOWN_FOLDERS = [folder for folder, layout in FOLDERS.items() if layout in KNOWN]
# Keys of other models of the family: the layout is of one of them.
VARIANTS = {
    "qwen-image": {"addition_t_embedding."},
    "wan21-14b-t2v": {"img_emb.", "_img.", "vace_"},
    "z-image": {"norm_final.", "siglip_"},
}
# What is in a file beside the models that a LoRA is for.
VAE = ("first_stage_model.", "vae/")


def read(shared: Shared, name: str) -> Any:
    return json.loads(shared(f"layouts/{name}.json").read_text(encoding="utf-8"))


def shapes_of(shared: Shared, layout: str) -> dict[str, tuple[int, ...]]:
    """Every tensor of a layout; a folder's are called ``<component>/<name>``."""
    found = read(shared, layout)
    if "components" in found:
        return {
            f"{component}/{key}": tuple(entry[0])
            for component, tensors in found["components"].items()
            for key, entry in tensors.items()
        }
    return {key: tuple(entry[0]) for key, entry in found["tensors"].items()}


def modules_of(shared: Shared, file: str) -> dict[str, tuple[str, Rows, bool]]:
    """Every name that a map lists, in each naming: the key, rows of it, whether transposed."""
    found, tensors = read(shared, file), shapes_of(shared, MAPS[file])
    names: dict[str, tuple[str, Rows, bool]] = {}
    for section in ("modules", "modules_comfy"):
        for stem, (key, _shape, _kind, _flag, *rows) in found.get(section, {}).items():
            names[stem] = (key, tuple(tuple(r) for r in rows), False)
    whole = found.get("diffusers_not_a_slice", {})
    for stem, (key, *rows) in found.get("diffusers", {}).items():
        if stem not in whole:
            names[_diffusers(stem)] = (key, tuple(tuple(r) for r in rows), False)
    for stem, pieces in whole.items():
        names[_diffusers(stem)] = (pieces[0][0], tuple((a, b) for _, a, b in pieces), False)
    for stem, key in found.get("diffusers_transposed", {}).items():
        names[_diffusers(stem)] = (key, (), True)
    assert all(key in tensors for key, _, _ in names.values())
    return names


def _diffusers(stem: str) -> str:
    return stem if stem.startswith(("unet.", "text_encoder")) else f"transformer.{stem}"


def height(tensors: dict[str, tuple[int, ...]], target: Target) -> int:
    """Rows of the module where the tensor is whole."""
    rows = tensors[target.key][1 if target.transpose else 0]
    if not target.parts:
        return rows
    taken = sum(last - first for first, last, _ in target.parts)
    return rows * taken // target.parts[0][2]


@pytest.mark.parametrize("file", KNOWN_MAPS)
def test_every_name_of_every_naming_binds_to_its_key_with_its_rows(shared: Shared, file: str) -> None:
    tensors = shapes_of(shared, MAPS[file])
    known = family(LAYOUTS[MAPS[file]])
    for stem, (key, rows, transposed) in modules_of(shared, file).items():
        target = known.lookup(stem)
        assert target is not None, stem
        assert (target.key, target.transpose) == (key, transposed), stem
        assert target.rows(height(tensors, target)) == rows, stem


@pytest.mark.parametrize("file", KNOWN_MAPS)
def test_every_name_is_spelled_again_by_one_of_the_namings(shared: Shared, file: str) -> None:
    known = family(LAYOUTS[MAPS[file]])
    for stem in modules_of(shared, file):
        target = known.lookup(stem)
        assert target is not None
        assert stem in {known.spell(target, naming) for naming in known.namings}, stem


@pytest.mark.parametrize("file", KNOWN_MAPS)
def test_a_module_is_of_the_kind_that_its_trainer_makes_of_it(shared: Shared, file: str) -> None:
    known = family(LAYOUTS[MAPS[file]])
    for stem, (_key, _shape, kind, *_) in read(shared, file)["modules"].items():
        target = known.lookup(stem)
        assert target is not None
        assert target.kind == kind, stem


@pytest.mark.parametrize("file", [file for file in KNOWN_MAPS if file.endswith(".lora-map")])
def test_names_of_one_naming_cover_their_keys_without_gap_or_overlap(shared: Shared, file: str) -> None:
    tensors = shapes_of(shared, MAPS[file])
    known = family(LAYOUTS[MAPS[file]])
    for stem, (key, *_) in modules_of(shared, file).items():
        target = known.lookup(stem)
        assert target is not None
        naming = next(n for n in known.namings if known.spell(target, n) == stem)
        on_key = known.on_key(naming, key)
        assert target in on_key
        cuts = sorted(cut for t in on_key for cut in t.rows(height(tensors, t)))
        edges = [edge for cut in cuts for edge in cut]
        whole = (0, tensors[key][0])
        assert not cuts or (edges[0], edges[-1]) == whole, stem
        assert edges[1:-1:2] == edges[2:-1:2], stem


@pytest.mark.parametrize("layout", KNOWN)
def test_every_tensor_of_a_single_file_has_its_place(shared: Shared, layout: str) -> None:
    known = family(LAYOUTS[layout])
    for key, shape in shapes_of(shared, layout).items():
        target = known.place(key)
        if key.startswith(VAE):
            assert target is None
            continue
        assert target is not None, key
        assert (target.key, target.parts, target.transpose) == (key, (), False)
        claims(known, key, shape)


@pytest.mark.parametrize("layout", KNOWN)
def test_every_key_of_the_main_model_and_of_what_else_the_file_holds_exists(
    shared: Shared, layout: str
) -> None:
    tensors = shapes_of(shared, layout)
    known = family(LAYOUTS[layout])
    held = {target.component for key in tensors if (target := known.place(key)) is not None}
    assert known.components[0] in held
    missing = {t.key for t in known.targets() if t.component in held} - tensors.keys()
    others = VARIANTS.get(layout, set())
    assert {key for key in missing if not any(other in key for other in others)} == set()


def claims(known: Family, key: str, shape: tuple[int, ...]) -> None:
    """What a table says of a tensor's size is true."""
    stored = known.stored(key)
    assert stored is not None
    for claim, size in zip(stored.features, shape, strict=False):
        assert claim in (None, size), key


@pytest.mark.parametrize("folder", KNOWN_FOLDERS)
def test_the_tensors_of_a_folder_make_the_tensors_of_the_single_file(shared: Shared, folder: str) -> None:
    single = shapes_of(shared, FOLDERS[folder])
    known = family(LAYOUTS[FOLDERS[folder]])
    found: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for key, shape in shapes_of(shared, folder).items():
        if key.startswith(VAE):
            assert known.place(key) is None
            continue
        target = known.place(key)
        assert target is not None, key
        claims(known, key, shape)
        wanted = single[target.key]
        rows = target.rows(shape[0])
        found[target.key] += rows or [(0, wanted[0])]
        height = sum(stop - start for start, stop in rows) if rows else wanted[0]
        turned = (wanted[1], height) if target.transpose else (height, *wanted[1:])
        # SD2's and SDXL's projections are matrices in one layout and 1x1 kernels in the other.
        assert [n for n in shape if n > 1] == [n for n in turned if n > 1], key
    assert covered(found) == {key: single[key][0] for key in found}


def covered(found: dict[str, list[tuple[int, int]]]) -> dict[str, int]:
    """How many rows of each key there are, which follow on one another from 0."""
    heights = {}
    for key, cuts in found.items():
        position = 0
        for start, stop in sorted(cuts):
            assert start == position, key
            position = stop
        heights[key] = position
    return heights


@pytest.mark.parametrize("folder", KNOWN_FOLDERS)
def test_what_a_folder_lacks_of_the_single_file_no_model_reads(shared: Shared, folder: str) -> None:
    known = family(LAYOUTS[FOLDERS[folder]])
    targets = (known.place(key) for key in shapes_of(shared, folder))
    found = {target.key for target in targets if target is not None}
    single = {key for key in shapes_of(shared, FOLDERS[folder]) if not key.startswith(VAE)}
    components = {target.component for key in found if (target := known.place(key)) is not None}
    lacking = {
        key
        for key in single - found
        if (target := known.place(key)) is not None and target.component in components
    }
    assert {key.rpartition(".")[2] for key in lacking} <= {"position_ids", "logit_scale"}


@pytest.mark.parametrize("folder", KNOWN_FOLDERS)
def test_names_mean_in_a_folder_what_they_mean_in_the_single_file(shared: Shared, folder: str) -> None:
    known = family(LAYOUTS[FOLDERS[folder]])
    maps = read(shared, f"{folder}.lora-map")
    if folder == "sdxl-diffusers":
        maps |= read(shared, f"{folder}.lora-map-peft")
    pairs = {stem: (component, key) for stem, (component, key, *_) in maps["modules"].items()}
    pairs |= {
        s: (component, key) for s, (component, key, *_) in maps.get("modules_diffusers_path", {}).items()
    }
    pairs |= {_diffusers(stem): (component, key) for stem, (component, key) in maps["diffusers"].items()}
    for stem, (component, key) in pairs.items():
        assert known.lookup(stem) == known.place(f"{component}/{key}"), stem


@pytest.mark.parametrize("layout", KNOWN)
def test_a_checkpoint_is_recognised_whatever_stands_before_its_keys(shared: Shared, layout: str) -> None:
    shapes = shapes_of(shared, layout)
    known = family(LAYOUTS[layout])
    assert recognise_checkpoint(shapes).family == known.name
    main = {key: shape for key, shape in shapes.items() if is_main(known, key)}
    bare = {key.removeprefix("model.diffusion_model."): shape for key, shape in main.items()}
    for prefix in ("", "model.diffusion_model.", "diffusion_model."):
        wrapped = {prefix + key: shape for key, shape in bare.items()}
        assert recognise_checkpoint(wrapped).family == known.name, prefix
        assert [known.place(key) for key in wrapped] == [known.place(key) for key in main]


def is_main(known: Family, key: str) -> bool:
    target = known.place(key)
    return target is not None and target.component == known.components[0]


@pytest.mark.parametrize("folder", KNOWN_FOLDERS)
def test_a_folder_and_its_main_model_alone_are_recognised(shared: Shared, folder: str) -> None:
    shapes = shapes_of(shared, folder)
    known = family(LAYOUTS[FOLDERS[folder]])
    assert recognise_checkpoint(shapes).family == known.name
    alone = {key.partition("/")[2]: shape for key, shape in shapes.items() if is_main(known, key)}
    assert recognise_checkpoint(alone).family == known.name


@pytest.mark.parametrize("layout", KNOWN)
def test_a_lora_of_a_whole_model_is_recognised_in_each_naming(shared: Shared, layout: str) -> None:
    known = family(LAYOUTS[layout])
    tensors = shapes_of(shared, layout)
    for naming, stems in by_naming(shared, known, f"{layout}.lora-map").items():
        found = recognise_adapter(stems, widths(known, tensors, stems), {})
        assert known.name in found.candidates, naming
        assert set(found.candidates) <= alike(stems), naming


@pytest.mark.parametrize("file", KNOWN_MAPS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_tenth_of_the_names_tells_the_family_and_refuses_the_others(
    shared: Shared, file: str, data: st.DataObject
) -> None:
    known = family(LAYOUTS[MAPS[file]])
    tensors = shapes_of(shared, MAPS[file])
    namings = by_naming(shared, known, file)
    stems = namings[data.draw(st.sampled_from(sorted(namings)))]
    size = len(stems) // 10
    tenth = data.draw(st.lists(st.sampled_from(stems), min_size=size, max_size=size, unique=True))
    found = recognise_adapter(tenth, widths(known, tensors, tenth), {})
    assert known.name in found.candidates
    assert set(found.candidates) <= alike(tenth)


def by_naming(shared: Shared, known: Family, file: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for stem in modules_of(shared, file):
        target = known.lookup(stem)
        assert target is not None
        found[next(n for n in known.namings if known.spell(target, n) == stem)].append(stem)
    return found


def alike(stems: list[str]) -> set[str]:
    """The families that know all these names."""
    return {name for name, count in other_families(stems).items() if count == len(stems)}


def widths(
    known: Family, tensors: dict[str, tuple[int, ...]], stems: list[str]
) -> dict[str, tuple[int, int]]:
    found = {}
    for stem in stems:
        target = known.lookup(stem)
        assert target is not None
        shape = tensors[target.key]
        columns = shape[0] if target.transpose else shape[1]
        found[stem] = (height(tensors, target), columns)
    return found


@pytest.mark.parametrize("layout", ["llama31-8b"])
def test_a_language_model_is_taken_for_none_of_the_families(shared: Shared, layout: str) -> None:
    assert recognise_checkpoint(shapes_of(shared, layout)).candidates == ()
    modules = read(shared, f"{layout}.lora-map")["modules"]
    assert recognise_adapter(modules, {}, {}).candidates == ()


def header(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        found: dict[str, Any] = json.loads(file.read(size))
        return found


@pytest.mark.parametrize(("file", "model", "count"), [
    ("analog_svd_rank4", "unet", 144), ("analog_svd_rank4", "text_encoder", 48),
    ("lora_disney", "unet", 144), ("lora_disney", "text_encoder", 48),
])  # fmt: skip
def test_positions_fit_the_real_positional_files_shape_by_shape(
    shared: Shared, file: str, model: str, count: int
) -> None:
    found = header(shared(f"real/{file}.safetensors"))
    shapes = shapes_of(shared, "sd15")
    known = family("sd1")
    targets = known.positions(model, tuple(json.loads(found["__metadata__"][model])))
    assert len(targets) == count == sum(key.startswith(f"{model}:") and key.endswith(":up") for key in found)
    for i, target in enumerate(targets):
        product = (found[f"{model}:{i}:up"]["shape"][0], found[f"{model}:{i}:down"]["shape"][1])
        assert product == shapes[target.key][:2], (i, target.key)
        assert product == known.features(target)


def test_the_goldens_are_recognised_although_their_sizes_are_divided(shared: Shared) -> None:
    for name, golden in (("sd1", "merge_ckpt_sd15"), ("sdxl", "merge_ckpt_sdxl")):
        base = header(shared(f"golden/{golden}/base.safetensors"))
        base.pop("__metadata__", None)
        assert recognise_checkpoint({key: tuple(t["shape"]) for key, t in base.items()}).family == name
        for file in ("a", "b"):
            adapter = header(shared(f"golden/{golden}/{file}.safetensors"))
            widths = {
                key.removesuffix(".lora_up.weight"): (
                    t["shape"][0],
                    adapter[key.replace("lora_up", "lora_down")]["shape"][1],
                )
                for key, t in adapter.items()
                if key.endswith(".lora_up.weight")
            }
            assert recognise_adapter(widths, widths, {}).family == name
