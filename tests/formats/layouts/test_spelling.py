"""A saved LoRA has one naming, whatever its sources had."""

from __future__ import annotations

from dataclasses import replace

from lorapipe.architectures import family
from lorapipe.formats.layouts.spelling import one_spelling
from lorapipe.weights.specs import AdapterSpec, ModuleId, ModuleSpec, Spelling

SDXL = family("sdxl")
UNET = [t for t in SDXL.targets() if t.component == "unet" and SDXL.spell(t, "kohya-diffusers")][:6]
TEXT = [t for t in SDXL.targets() if t.component == "te1"][:2]


def spec(*named: tuple[object, str], family_name: str | None = "sdxl") -> AdapterSpec:
    modules = {}
    for target, naming in named:
        stem = SDXL.spell(target, naming)  # type: ignore[arg-type]
        assert stem is not None
        place = ModuleId(target.component, target.key)  # type: ignore[attr-defined]
        modules[place] = ModuleSpec((8, 8), 2, Spelling(stem))
    return AdapterSpec(family_name, modules, "F32")


def stems(found: AdapterSpec) -> list[str]:
    return [module.spelling.stem for module in found.modules.values()]


def test_later_sources_take_the_naming_of_the_first() -> None:
    mixed = spec((UNET[0], "kohya"), (UNET[1], "kohya-diffusers"), (UNET[2], "diffusers"))
    turned = spec((UNET[0], "kohya-diffusers"), (UNET[1], "kohya"))

    assert stems(one_spelling(mixed, spec((UNET[0], "kohya")))) == [SDXL.spell(t, "kohya") for t in UNET[:3]]
    first = spec((UNET[0], "kohya-diffusers"))
    assert stems(one_spelling(turned, first)) == [SDXL.spell(t, "kohya-diffusers") for t in UNET[:2]]


def test_a_name_that_two_namings_share_does_not_decide() -> None:
    mixed = spec((TEXT[0], "kohya"), (UNET[0], "kohya-diffusers"), (UNET[1], "kohya"))
    first = spec((TEXT[0], "kohya"), (UNET[0], "kohya-diffusers"))

    assert stems(one_spelling(mixed, first))[1:] == [SDXL.spell(t, "kohya-diffusers") for t in UNET[:2]]


def test_only_names_change() -> None:
    mixed = spec((UNET[0], "kohya"), (UNET[1], "kohya-diffusers"))

    found = one_spelling(mixed, spec((UNET[0], "kohya")))

    assert list(found.modules) == list(mixed.modules)
    assert [m.rank for m in found.modules.values()] == [2, 2]


def test_a_file_of_one_naming_and_one_of_unknown_family_stay_as_they_are() -> None:
    same = spec((UNET[0], "kohya-diffusers"), (UNET[1], "kohya-diffusers"))
    unknown = spec((UNET[0], "kohya"), (UNET[1], "kohya-diffusers"), family_name=None)

    assert one_spelling(same, same) is same
    assert one_spelling(unknown, unknown) is unknown


FLUX = family("flux1")
QKV = "double_blocks.0.img_attn.qkv.weight"
FUSED = FLUX.spell(FLUX.on_key("kohya", QKV)[0], "kohya") or ""
PATHS = [FLUX.spell(target, "diffusers") or "" for target in FLUX.on_key("diffusers", QKV)]


def flux(*modules: tuple[tuple[int, int] | None, str], up: str = ".lora_up.weight") -> AdapterSpec:
    """Rows of one fused weight of 24 rows, and what they are called."""
    found = {}
    for rows, stem in modules:
        height = 24 if rows is None else rows[1] - rows[0]
        found[ModuleId("dit", QKV, rows)] = ModuleSpec((height, 8), 2, Spelling(stem, up=up))
    return AdapterSpec("flux1", found, "F32")


def test_pieces_of_what_is_one_module_to_the_first_share_its_name() -> None:
    first = flux((None, FUSED))
    cut = flux(((0, 8), PATHS[0]), ((8, 16), ""), ((16, 24), PATHS[2]), up=".lora_B.weight")
    found = one_spelling(cut, first)
    assert stems(found) == [FUSED] * 3
    assert {module.spelling.up for module in found.modules.values()} == {".lora_up.weight"}


def test_what_is_several_modules_to_the_first_has_no_name_until_it_is_saved() -> None:
    first = flux(((0, 8), PATHS[0]), up=".lora_B.weight")
    found = one_spelling(replace(first, modules={**flux((None, FUSED)).modules}), first)
    assert [(m.spelling.stem, m.spelling.up) for m in found.modules.values()] == [("", ".lora_B.weight")]


def test_the_first_sources_own_modules_keep_their_names_whatever_their_style() -> None:
    """A name that no naming writes, beside one that tells the naming."""
    own = spec((UNET[0], "kohya"))
    odd = ModuleId(UNET[1].component, UNET[1].key)
    styled = replace(own, modules={**own.modules, odd: ModuleSpec((8, 8), 2, Spelling("my_name"))})
    joined = replace(styled, modules={**styled.modules, **spec((UNET[2], "diffusers")).modules})
    assert stems(one_spelling(joined, styled))[1:] == ["my_name", SDXL.spell(UNET[2], "kohya")]


def test_a_word_for_a_factor_that_the_first_has_too_stays() -> None:
    """Older diffusers files call attention's factors otherwise than the rest."""

    def named(target: object, up: str) -> AdapterSpec:
        made = spec((target, "diffusers"))
        ((place, module),) = made.modules.items()
        return replace(made, modules={place: replace(module, spelling=replace(module.spelling, up=up))})

    old, new = ".lora.up.weight", ".lora_B.weight"
    first = [named(UNET[0], old), named(UNET[1], new)]
    both = replace(first[0], modules={**first[0].modules, **first[1].modules})
    for up, wanted in ((new, new), (old, old), (".lora_up.weight", old)):
        later = replace(named(UNET[2], up))
        later = replace(
            later,
            modules={k: replace(m, spelling=replace(m.spelling, stem="x")) for k, m in later.modules.items()},
        )
        found = one_spelling(replace(both, modules={**both.modules, **later.modules}), both)
        assert [module.spelling.up for module in found.modules.values()][-1] == wanted
