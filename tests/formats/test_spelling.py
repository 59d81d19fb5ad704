"""A saved LoRA has one naming, whatever its sources had."""

from __future__ import annotations

from lorapipe.architectures import family
from lorapipe.formats.spelling import one_spelling
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
