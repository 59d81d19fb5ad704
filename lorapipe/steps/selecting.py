"""Which modules of a LoRA a step means: by component, by block, by name.

Strengths, ranks and filters all choose here. A component goes by its own name or by its
group's (``te``, ``unet``), a block by a name of the family's or by a glob that matches some
(``OUT*``), a module by a glob or a regular expression that is held against its name in the
file and against its key in the family's reference layout.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import translate
from typing import cast

from lorapipe.architectures import block_of, family
from lorapipe.errors import RecipeError
from lorapipe.recipe.model import JSON
from lorapipe.steps.blocks import family_blocks
from lorapipe.weights.specs import AdapterSpec, ModuleId

__all__ = ["by_component", "by_pattern", "chosen"]

_REGEX = "re:"
_GLOBBING = re.compile(r"[*?\[\]!]+")
_WORDS = re.compile(r"[._]")

_Names = tuple[tuple[str, ...], tuple[str, ...]]
"""All names of a module, and those without the path to its model."""


def by_component(spec: AdapterSpec, said: Mapping[str, float], option: str) -> dict[ModuleId, float]:
    """The number of each module whose component is named; a component's own name is nearer than its group's.

    Raises :class:`RecipeError` ``unknown-component``.
    """
    names = _component_names(spec, tuple(said), option)
    nearest = {component: next((n for n in own if n in said), None) for component, own in names.items()}
    named = ((module, nearest[module.component]) for module in spec.modules)
    return {module: said[name] for module, name in named if name is not None}


def by_pattern(spec: AdapterSpec, said: JSON, option: str) -> dict[ModuleId, float]:
    """The number of each module that a pattern matches, by the first that does.

    ``said`` is a list of maps, a pattern to its number. A pattern that begins with ``re:`` is a
    regular expression that is looked for anywhere in a name; any other is a glob of a whole
    name, ``*`` and ``?`` as in a shell. Case counts. One that begins with ``*``, or with ``re:``
    and no ``^``, does not see the path to the model at the beginning of a name.

    Raises :class:`RecipeError` ``bad-pattern``, or ``no-such-module`` for a pattern that
    matches nothing.
    """
    pairs = [pair for one in cast("Sequence[Mapping[str, float]]", said) for pair in one.items()]
    names = _names(spec)
    found: dict[ModuleId, float] = {}
    for pattern, value in pairs:
        for module in _matched(names, pattern, option):
            found.setdefault(module, value)
    return found


def chosen(spec: AdapterSpec, said: Mapping[str, JSON], option: str) -> set[ModuleId]:
    """The modules in any of the ``components`` and any of the ``blocks`` that match any of the ``modules``.

    What is not said does not count. Raises as the functions above and
    :func:`~.blocks.family_blocks` do.
    """
    found = set(spec.modules)
    if "components" in said:
        wanted = _several(said["components"])
        names = _component_names(spec, wanted, option)
        found &= {module for module in spec.modules if not set(wanted).isdisjoint(names[module.component])}
    if "blocks" in said:
        known = family_blocks(spec, option)
        blocks = {block for name in _several(said["blocks"]) for block in known.meant(name)}
        found &= {module for module in spec.modules if block_of(spec.family, module) in blocks}
    if "modules" in said:
        patterns, called = _several(said["modules"]), _names(spec)
        found &= {module for pattern in patterns for module in _matched(called, pattern, option)}
    return found


def _several(said: JSON) -> Sequence[str]:
    """One name, or a list of them, as a list."""
    return [said] if isinstance(said, str) else cast("Sequence[str]", said)


def _component_names(spec: AdapterSpec, said: Sequence[str], option: str) -> dict[str, tuple[str, ...]]:
    """What each component of the LoRA may be called: by its own name, and by its group's."""
    present = dict.fromkeys(module.component for module in spec.modules)
    groups = {} if spec.family is None else {c: family(spec.family).group(c) for c in present}
    names = {c: tuple(dict.fromkeys((c, groups.get(c, c)))) for c in present}
    for name in said:
        if not any(name in own for own in names.values()):
            raise _unknown_component(name, sorted(c for c in present if c), option)
    return names


def _unknown_component(name: str, known: Sequence[str], option: str) -> RecipeError:
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    if near:
        hint = f"did you mean '{near[0]}'?"
    elif known:
        hint = f"it has {', '.join(known)}"
    else:
        hint = "its family is not known: say `family:` on the step that loads it"
    return RecipeError("unknown-component", f"the LoRA has no component '{name}'", hint=hint, option=option)


def _matched(names: Mapping[ModuleId, _Names], pattern: str, option: str) -> list[ModuleId]:
    """The modules of which the pattern matches a name: one at least."""
    matches = _matcher(pattern, option)
    # Else *ff* would be in every name that begins with `diffusion_model.`
    inside = not pattern.startswith("re:^") if pattern.startswith(_REGEX) else pattern.startswith("*")
    found = [m for m, (whole, behind) in names.items() if any(map(matches, behind if inside else whole))]
    if not found:
        raise _no_such_module([name for whole, _ in names.values() for name in whole], pattern, option)
    return found


def _matcher(pattern: str, option: str) -> Callable[[str], object]:
    if not pattern.startswith(_REGEX):
        return re.compile(translate(pattern)).match
    try:
        return re.compile(pattern.removeprefix(_REGEX)).search
    except re.error as error:
        problem = f"'{pattern}' is no regular expression: {error.msg}"
        raise RecipeError("bad-pattern", problem, hint="a glob needs no 're:'", option=option) from None


def _names(spec: AdapterSpec) -> dict[ModuleId, _Names]:
    """What each module is called: its name in the file, its key with and without ``.weight``."""
    known = None if spec.family is None else family(spec.family)
    found: dict[ModuleId, _Names] = {}
    for module, one in spec.modules.items():
        names = [n for n in (one.spelling.stem, module.key, module.key.removesuffix(".weight")) if n]
        behind = names if known is None else [known.behind(module.component, name) for name in names]
        found[module] = (tuple(dict.fromkeys((*names, *behind))), tuple(behind))
    return found


def _no_such_module(names: Sequence[str], pattern: str, option: str) -> RecipeError:
    """With the words of the LoRA's names that are nearest to the pattern's last strange one."""
    words = dict.fromkeys(word for name in names for word in _WORDS.split(name))
    parts = [part for part in _WORDS.split(_GLOBBING.sub(".", pattern.removeprefix(_REGEX))) if part]
    strange = next((part for part in reversed(parts) if part not in words), None)
    near = get_close_matches(strange, words, n=3, cutoff=0.6) if strange else []
    hint = f"a module is called {names[0]}"
    if near:
        hint = f"nearest to '{strange}' {'is' if len(near) == 1 else 'are'} {', '.join(near)}; {hint}"
    return RecipeError("no-such-module", f"no module matches '{pattern}'", hint=hint, option=option)
