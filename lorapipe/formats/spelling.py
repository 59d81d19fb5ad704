"""One spelling a file: module names of a sum that came from files of two namings."""

from __future__ import annotations

from dataclasses import replace

from lorapipe.architectures import Family, family
from lorapipe.weights.specs import AdapterSpec, ModuleSpec, Spelling

__all__ = ["one_spelling"]


def one_spelling(spec: AdapterSpec) -> AdapterSpec:
    """The spec with every module named as the first source names its modules.

    A concat joins an SDXL LoRA that says ``lora_unet_input_blocks_...`` with one that
    says ``lora_unet_down_blocks_...``; a loader reads either, but not both in one file.
    The naming is the first that spells the first modules as they are; where no naming of
    the family does (a file's own style), or the family is unknown, names stay.
    """
    if spec.family is None:
        return spec
    known = family(spec.family)
    naming = _naming(known, spec)
    if naming is None:
        return spec
    modules = {module: _respelled(known, naming, found) for module, found in spec.modules.items()}
    return spec if modules == spec.modules else replace(spec, modules=modules)


def _naming(known: Family, spec: AdapterSpec) -> str | None:
    """The naming of the first module whose name tells: text encoders have one name in two namings."""
    possible = list(known.namings)
    for module in spec.modules.values():
        stem = module.spelling.stem
        target = known.lookup(stem)
        if target is None:
            continue
        fitting = [naming for naming in possible if known.spell(target, naming) == stem]
        if not fitting:
            break
        possible = fitting
        if len(possible) == 1:
            break
    return possible[0] if possible != list(known.namings) else None


def _respelled(known: Family, naming: str, module: ModuleSpec) -> ModuleSpec:
    target = known.lookup(module.spelling.stem)
    stem = None if target is None else known.spell(target, naming)
    if stem is None or stem == module.spelling.stem:
        return module
    return replace(module, spelling=Spelling(stem, module.spelling.transposed))
