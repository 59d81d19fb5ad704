"""The part of the page on one LoRA: norms over its modules, spectra, ranks, and all of it as tables."""

from __future__ import annotations

from collections.abc import Iterator

from lorapipe.build.looking.report import ENERGIES, Portrait
from lorapipe.views.report import charts, heatmap
from lorapipe.views.report.elements import Cell, facts, folded, note, picture, section, table
from lorapipe.views.report.markup import Html, joined, name, tag
from lorapipe.views.report.numerals import count, percent, value
from lorapipe.views.tables import family_text, rank_text
from lorapipe.weights.figures import Figures, pooled
from lorapipe.weights.specs import ModuleId

__all__ = ["portrait_part"]


def portrait_part(portrait: Portrait, number: int, most: int) -> Html:
    """All of one LoRA; ``most`` is how many modules its table may have."""
    ident = f"lora-{number}"
    whole = pooled(portrait.figures.values())
    return section(
        ident,
        joined(["LoRA ", name(portrait.path.name)]),
        facts(_facts(portrait, whole)),
        *_odd(portrait),
        _norms(portrait, ident),
        tag("div", _spectra(portrait, whole, ident), _kept(portrait, whole, ident), class_="pair"),
        _block_table(portrait, whole),
        folded("Every module", *_module_table(portrait, most)),
    )


def _facts(portrait: Portrait, whole: Figures) -> Iterator[tuple[str, Cell]]:
    spec = portrait.spec
    yield "step", name(f"{portrait.step} ({'output' if portrait.output else 'input'})")
    yield "family", family_text(spec.family)
    yield "modules", count(len(spec.modules))
    yield "as stored", f"{rank_text(spec)}, {spec.dtype}"
    yield "norm", value(whole.norm)
    yield "stable rank", value(whole.stable_rank)
    for energy in ENERGIES:
        yield f"rank for {energy:.0%}", count(whole.rank_for(energy))


def _odd(portrait: Portrait) -> Iterator[Html]:
    """What has no figures, or is not finite."""
    without = [module for module in portrait.spec.modules if module not in portrait.figures]
    if without:
        yield note(
            f"{len(without)} modules are functions of the weight that they change (OFT, IA3 and the like), "
            "and have no norm of their own."
        )
    broken = sum(not figures.finite for figures in portrait.figures.values())
    if broken:
        yield note(tag("strong", f"{broken} modules hold NaN or infinity."))


def _norms(portrait: Portrait, ident: str) -> Html:
    """The heat map."""
    most = max((f.norm for f in portrait.figures.values() if f.finite), default=0.0)
    rows = [
        heatmap.Row(model, block or "others", tuple(_cell(portrait, module, most) for module in modules))
        for (model, block), modules in portrait.blocks.items()
    ]
    told = (
        "The Frobenius norm of what each module adds to its weight, at strength 1: a row a block, a square a "
        f"module, both in the order of the model. The strongest colour is {value(most).words}."
    )
    drawn = heatmap.drawing(rows, value(most).words)
    return picture(f"{ident}-norms", f"Norms of {portrait.path.name}", told, drawn)


def _cell(portrait: Portrait, module: ModuleId, most: float) -> heatmap.Cell:
    figures = portrait.figures.get(module)
    if figures is None or not figures.finite:
        return heatmap.Cell(None, (str(module), "no norm" if figures is None else "not finite"))
    told = (
        str(module),
        f"norm {value(figures.norm).words}",
        f"rank {figures.rank}",
        f"stable rank {value(figures.stable_rank).words}",
    )
    return heatmap.Cell(figures.norm / most if most else 0.0, told)


def _spectra(portrait: Portrait, whole: Figures, ident: str) -> Html:
    found = [
        _curve(figures, "thin", f"{model} {block}".strip()) for model, block, figures in _blocks(portrait)
    ]
    found.append(_curve(whole, "thick", "all modules together"))
    shapes = charts.curves([curve for curve in found if curve.points], "singular value", logarithmic=True)
    told = "Singular values as shares of the first: a thin line a block, the thick one all of them together."
    return picture(f"{ident}-spectra", f"Singular values of {portrait.path.name}", told, shapes, fit=True)


def _curve(figures: Figures, style: str, told: str) -> charts.Curve:
    first = figures.singular_values[0] if figures.singular_values else 1.0
    points = tuple(one / first for one in figures.singular_values)
    return charts.Curve(points, style, f"{told}: stable rank {value(figures.stable_rank).words}")


def _kept(portrait: Portrait, whole: Figures, ident: str) -> Html:
    found = [
        charts.Curve(_energies(figures), "thin", f"{model} {block}: {_needed(figures)}".strip())
        for model, block, figures in _blocks(portrait)
    ]
    found.append(charts.Curve(_energies(whole), "thick", f"all modules together: {_needed(whole)}"))
    shapes = charts.curves([curve for curve in found if curve.points], "rank")
    told = f"The share of the squared norm that is kept when every module is cut to a rank. {_needed(whole)}."
    return picture(f"{ident}-kept", f"Energy kept by rank of {portrait.path.name}", told, shapes, fit=True)


def _energies(figures: Figures) -> tuple[float, ...]:
    squares, total, found = figures.norm**2, 0.0, []
    for one in figures.singular_values:
        total += one * one
        found.append(total / squares)
    return tuple(found)


def _needed(figures: Figures) -> str:
    return ", ".join(f"{energy:.0%} at rank {figures.rank_for(energy)}" for energy in ENERGIES)


def _blocks(portrait: Portrait) -> Iterator[tuple[str, str, Figures]]:
    for (model, block), modules in portrait.blocks.items():
        known = [portrait.figures[module] for module in modules if module in portrait.figures]
        yield model, block, pooled(known)


def _block_table(portrait: Portrait, whole: Figures) -> Html:
    rows = []
    for (model, block), modules in portrait.blocks.items():
        known = pooled(portrait.figures[module] for module in modules if module in portrait.figures)
        share = (known.norm / whole.norm) ** 2 if whole.norm else 0.0
        rows.append([name(block or "others"), name(model), count(len(modules)), *_numbers(known, share)])
    return table(f"Blocks of {portrait.path.name}", ("block", "model", "modules", *_NUMBERS), rows)


_NUMBERS = ("norm", "share of squares", "rank", "stable rank", "rank for 90%", "rank for 99%")


def _numbers(figures: Figures, share: float) -> list[Cell]:
    needed = [count(figures.rank_for(energy)) for energy in ENERGIES]
    return [value(figures.norm), percent(share), count(figures.rank), value(figures.stable_rank), *needed]


def _module_table(portrait: Portrait, most: int) -> Iterator[Html]:
    """A row a module; the strongest where there are too many for one page."""
    whole = pooled(portrait.figures.values()).norm
    shown = [module for modules in portrait.blocks.values() for module in modules]
    if len(shown) > most:
        strongest = sorted(shown, key=lambda module: -_norm(portrait, module))[:most]
        yield note(f"The {most} strongest of {len(shown)} modules; the JSON has all.")
        shown = [module for module in shown if module in set(strongest)]
    rows: list[list[Cell]] = []
    for module in shown:
        known, figures = portrait.spec.modules[module], portrait.figures.get(module)
        form = "LoRA" if known.form is None else known.form.name
        shape = "\N{MULTIPLICATION SIGN}".join(map(str, known.shape))
        numbers: list[Cell] = [None] * len(_NUMBERS)
        if figures is not None:
            numbers = _numbers(figures, (figures.norm / whole) ** 2 if whole else 0.0)
        rows.append([name(str(module)), form, shape, *numbers])
    yield table(f"Modules of {portrait.path.name}", ("module", "format", "shape", *_NUMBERS), rows)


def _norm(portrait: Portrait, module: ModuleId) -> float:
    figures = portrait.figures.get(module)
    return figures.norm if figures is not None and figures.finite else -1.0
