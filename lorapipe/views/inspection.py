"""What is in a file of weights, as text: one screen, and tables where they are asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from statistics import median
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lorapipe.architectures import by_block
from lorapipe.formats.hashes import FileHashes
from lorapipe.formats.inspection import Inspection
from lorapipe.views.sparks import spark
from lorapipe.views.spectrum import by_component, ranks_text
from lorapipe.views.tables import family_text, headed_table, module_table, print_table, rank_text
from lorapipe.views.text import bytes_text, visible
from lorapipe.weights.figures import Figures, together
from lorapipe.weights.inference.checking import Figure
from lorapipe.weights.specs import AdapterSpec, ModuleId

if TYPE_CHECKING:
    from lorapipe.build.looking.inspecting import Look

__all__ = [
    "print_metadata",
    "print_modules",
    "print_stage",
]

_NAMES = 8
"""Columns for what a fact is called: those of ``strength``, the longest."""

_LONG = 300
"""Facts that are longer are cut: what a stranger wrote is not to fill the screen."""

_LONG_NAME, _NAME_WIDTH = 80, 32

Facts = Iterable[tuple[str, str]]


def print_stage(stage: Look, console: Console) -> None:
    """What the latest stage of a look has brought: facts of the header, hashes, or figures."""
    found = stage.inspection
    if stage.trouble is not None:
        _print_facts([("no norms", stage.trouble)], console)
    elif stage.figures is not None:
        _print_facts(_norms(found, stage.figures, console), console)
    elif stage.tensors is not None:
        _print_facts(_tensor_norms(stage.tensors), console)
    elif stage.hashes is not None:
        _print_facts(_hashes(stage.hashes, found.metadata), console)
    else:
        _print_facts(_facts(found), console)


def print_metadata(metadata: Mapping[str, str], console: Console) -> None:
    """Every entry, the long ones cut."""
    grid = Table(box=None, show_header=False, pad_edge=False)
    grid.add_column(style="bold", overflow="fold", max_width=_NAME_WIDTH if console.is_terminal else None)
    grid.add_column(overflow="fold")
    for name, value in sorted(metadata.items()):
        grid.add_row(Text(visible(_cut(name, _LONG_NAME))), Text(visible(_cut(value, _LONG))))
    console.print()
    print_table(grid, console)


def print_modules(look: Look, console: Console) -> None:
    """A row a module of a LoRA, or a tensor of a checkpoint, in the models' order."""
    spec, figures = look.inspection.spec, look.figures
    console.print()
    if isinstance(spec, AdapterSpec):
        print_table(_figured(spec, figures) if figures else module_table(spec.modules.items()), console)
        return
    table = headed_table("tensor", "dtype", "shape", *(["norm"] if look.tensors else []))
    for name, tensor in spec.tensors.items():
        cells = [visible(name), tensor.dtype, "x".join(map(str, tensor.shape))]
        if look.tensors:
            cells.append(f"{look.tensors[name].norm:.4g}" if name in look.tensors else "")
        table.add_row(*map(Text, cells))
    print_table(table, console)


def _figured(spec: AdapterSpec, figures: Mapping[ModuleId, Figures]) -> Table:
    """A row a module with its block and its figures; ``r99`` is the rank that holds 99 % of its energy."""
    table = headed_table("module", "block", "shape", "rank", "norm", "stable", "r99")
    for (_, block), modules in by_block(spec.family, spec.modules).items():
        for module in modules:
            known, one = spec.modules[module], figures.get(module)
            cells = [known.spelling.stem, block, "x".join(map(str, known.shape)), str(known.rank)]
            if one is None:
                cells += [known.form.name if known.form else "", "", ""]
            else:
                cells += [f"{one.norm:.4g}", f"{one.stable_rank:.3g}", str(one.rank_for(0.99))]
            table.add_row(*(Text(visible(cell)) for cell in cells))
    return table


def _print_facts(facts: Facts, console: Console) -> None:
    grid = Table(box=None, show_header=False, pad_edge=False)
    grid.add_column(style="bold", min_width=_NAMES, overflow="fold")
    grid.add_column(overflow="fold")
    for name, value in facts:
        grid.add_row(Text(visible(name)), Text(visible(_cut(value, _LONG))))
    print_table(grid, console)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"


def _facts(found: Inspection) -> Iterator[tuple[str, str]]:
    spec = found.spec
    yield "file", f"{found.path.name}, {bytes_text(found.size)}{_container(found)}"
    if isinstance(spec, AdapterSpec):
        yield "holds", f"a LoRA, {rank_text(spec)}{_alphas(found.alphas)}"
    else:
        yield "holds", "a checkpoint"
    names = "" if found.naming is None else f", {found.naming} names"
    yield "family", "unknown" if spec.family is None else f"{family_text(spec.family)} ({spec.family}){names}"
    if found.base:
        yield "base", found.base
    if isinstance(spec, AdapterSpec):
        components = Counter(module.component or "of no known model" for module in spec.modules)
        yield (
            "modules",
            f"{len(spec.modules)}: {', '.join(f'{n} {c}' for c, n in sorted(components.items()))}",
        )
    dtypes = ", ".join(f"{count} {dtype}" for dtype, count in sorted(found.dtypes.items()))
    yield "tensors", f"{dtypes}{_entries(len(found.metadata))}"
    # Nearly all files are LoRAs with alphas, of which there is nothing to tell.
    if found.forms and set(found.forms) != {"LoRA"}:
        yield "formats", _counted(found.forms)
    if found.scales and set(found.scales) != {"alpha in the file"}:
        yield "strength", _counted(found.scales)
    if isinstance(spec, AdapterSpec) and spec.extras:
        yield "extras", ", ".join(spec.extras)
    yield from found.notes.items()


def _entries(count: int) -> str:
    if not count:
        return ""
    return f"; {count} {'entry' if count == 1 else 'entries'} of metadata, which --metadata lists"


def _container(found: Inspection) -> str:
    if found.container == "folder":
        count = len(found.files)
        return f", a folder with {count} {'file' if count == 1 else 'files'} of weights"
    return ", a pickle" if found.container == "pickle" else ""


def _alphas(alphas: Mapping[float, int]) -> str:
    if not alphas:
        return ""
    low, high = min(alphas), max(alphas)
    return f", alpha {low:g}" if len(alphas) == 1 else f", alpha {low:g}-{high:g}"


def _counted(counts: Mapping[str, int]) -> str:
    """``720 LoRA, 2 DoRA``: the most first; a single one without its number."""
    if len(counts) == 1:
        return next(iter(counts))
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{n} {name}" for name, n in ordered)


def _hashes(hashes: FileHashes, metadata: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    yield "sha256", hashes.sha256
    short = (("AutoV1", hashes.autov1), ("AutoV2", hashes.autov2), ("AutoV3", hashes.autov3))
    if hashes.autov1:
        yield "hashes", ", ".join(f"{name} {value}" for name, value in short if value)
    if hashes.sshs:
        yield "sshs", f"{hashes.sshs[:12]}, legacy {hashes.sshs_legacy}{_agrees(hashes, metadata)}"


def _agrees(hashes: FileHashes, metadata: Mapping[str, str]) -> str:
    told = metadata.get("sshs_model_hash")
    if told is None:
        return ""
    if told == hashes.sshs:
        return ", as the metadata say"
    return f"; the metadata say {told[:12]}: it was changed since"


def _norms(
    found: Inspection, figures: Mapping[ModuleId, Figures], console: Console
) -> Iterator[tuple[str, str]]:
    assert isinstance(found.spec, AdapterSpec)
    counted = by_component(found.spec.family, figures)
    parts = [f"{component} {together(of):.4g}" for component, of in counted.items() if component]
    by_model = f": {', '.join(parts)}" if len(parts) > 1 else ""
    yield "norm", f"{together(figures.values()):.4g}{by_model}"
    whole = [one for of in counted.values() for one in of]
    if whole:
        stable = [one.stable_rank for one in whole]
        yield "ranks", f"{ranks_text(whole)}; stable rank {median(stable):.3g}"
    odd = sum(not one.finite for one in figures.values())
    if odd:
        yield "broken", f"{_modules(odd)} with NaN or Inf"
    without = len(found.spec.modules) - len(figures)
    if without:
        yield "no norm", f"{_modules(without)}, since what they do depends on the weight"
    within = sum(one.within is not None for one in figures.values())
    if within:
        yield "DoRA", f"{_modules(within)}, whose norms are those of the deltas, before lengths are set"
    yield from _by_block(found.spec.family, figures, ascii_only=console.options.ascii_only)


def _modules(count: int) -> str:
    return "1 module" if count == 1 else f"{count} modules"


def _by_block(
    family: str | None, figures: Mapping[ModuleId, Figures], *, ascii_only: bool
) -> Iterator[tuple[str, str]]:
    """A line for each model: the norms of its blocks."""
    norms: dict[str, dict[str, float]] = {}
    for (component, block), modules in by_block(family, figures).items():
        norms.setdefault(component, {})[block] = together(figures[module] for module in modules)
    for component, of_blocks in norms.items():
        # The norm of a model that is one block has been said.
        if len(of_blocks) > 1:
            yield component or "blocks", _bars(of_blocks, ascii_only=ascii_only)


def _bars(norms: Mapping[str, float], *, ascii_only: bool) -> str:
    names = [name or "elsewhere" for name in norms]
    values = list(norms.values())
    most, least = (values.index(end(values)) for end in (max, min))
    bars = spark(values, ascii_only=ascii_only)
    ends = f"most {names[most]} {values[most]:.3g}, least {names[least]} {values[least]:.3g}"
    return f"{names[0]} {bars} {names[-1]}, {ends}"


def _tensor_norms(figures: Mapping[str, Figure]) -> Iterator[tuple[str, str]]:
    finite = {key: figure.norm for key, figure in figures.items() if figure.finite}
    odd = len(figures) - len(finite)
    if finite:
        most, least = max(finite, key=finite.__getitem__), min(finite, key=finite.__getitem__)
        yield "norm", f"most {finite[most]:.4g} ({most}), least {finite[least]:.4g} ({least})"
    yield "finite", f"all {len(figures)} tensors" if not odd else f"{odd} tensors hold NaN or Inf"
