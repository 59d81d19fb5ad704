"""One spelling a file: module names of a sum that came from files of two namings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lorapipe.architectures import family
from lorapipe.formats.layouts.naming import Name, groups, names_on, naming_of
from lorapipe.weights.specs import AdapterSpec, ModuleId, ModuleSpec, Spelling

__all__ = ["one_spelling"]


def one_spelling(spec: AdapterSpec, first: AdapterSpec) -> AdapterSpec:
    """The sum ``spec`` with every module named as its ``first`` source names its modules.

    A concat joins an SDXL LoRA that says ``lora_unet_input_blocks_...`` with one that
    says ``lora_unet_down_blocks_...``; a loader reads either, but not both in one file.
    Pieces of what is one module in the first's naming share its name; a module that is
    several there, or none, has no name: a save splits it, or says so. Where no naming of the
    family spells the first's modules as they are (a file's own style), or the family is
    unknown, names stay.
    """
    if spec.family is None:
        return spec
    known = family(spec.family)
    own = {module.spelling.stem for module in first.modules.values()}
    naming = naming_of(known, [module.spelling.stem for module in first.modules.values()])
    if naming is None or all(module.spelling.stem in own for module in spec.modules.values()):
        return spec
    modules = dict(spec.modules)
    for group in groups(spec):
        names = names_on(known, naming, group)
        for module, found in group.items():
            if found.spelling.stem not in own:
                modules[module] = replace(found, spelling=_respelled(module, found, names, first))
    return replace(spec, modules=modules)


def _respelled(module: ModuleId, found: ModuleSpec, names: Sequence[Name], first: AdapterSpec) -> Spelling:
    start, stop = module.rows or (0, found.shape[0])
    stem = next((name.stem for name in names if name.holds(start, stop)), "")
    return Spelling(stem, found.spelling.transposed, _up(module, found, first))


def _up(module: ModuleId, found: ModuleSpec, first: AdapterSpec) -> str:
    """The module's own word for a factor if the first source has it, too; else one of the first's."""
    words = {known: spec.spelling.up for known, spec in first.modules.items()}
    if found.spelling.up in words.values():
        return found.spelling.up
    beside = [up for known, up in words.items() if known.component == module.component]
    return next(iter(beside or words.values()))
