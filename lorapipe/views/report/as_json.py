"""A report as JSON: the shape is ``schemas/report.v1.schema.json``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lorapipe.build.looking.report import Meeting, Merged, Portrait, Report
from lorapipe.plan.plan import PlannedStep
from lorapipe.version import __version__
from lorapipe.views.report.building import step_words
from lorapipe.views.sweep_json import sweep_json
from lorapipe.views.tables import result_text
from lorapipe.views.text import json_number, path_text
from lorapipe.weights import overlaps, shifts
from lorapipe.weights.figures import Figures, pooled
from lorapipe.weights.overlaps import Overlap
from lorapipe.weights.shifts import Shift
from lorapipe.weights.specs import ModuleId

__all__ = ["report_json"]


def report_json(report: Report) -> dict[str, Any]:
    """A JSON-ready dict; sizes in bytes, time in seconds; what is not known or not finite is null."""
    plan = report.plan
    return {
        "version": 1,
        "lorapipe": __version__,
        "title": report.title,
        "recipe": None if report.recipe is None else report.recipe.name,
        "description": plan.recipe.description,
        "device": plan.device,
        "profile": plan.profile.as_json(),
        "run": bool(report.ran),
        "seconds": sum(ran.seconds for ran in report.ran.values()) if report.ran else None,
        "steps": [_step(report, planned) for planned in plan.steps.values()] if report.recipe else [],
        "files": [
            {
                "path": path_text(file.path, report.folder),
                "role": "output" if file.output else "input",
                "step": file.step,
                "size": file.size,
                "sha256": file.sha256,
                "state": file.state,
            }
            for file in report.files
        ],
        "loras": [_lora(portrait) for portrait in report.portraits],
        "pairs": [_pair(meeting) for meeting in report.meetings],
        "resized": [
            {
                "step": one.step,
                "modules": len(one.energy),
                "mean": one.mean,
                "least": one.worst,
                "energy": dict(one.energy),
            }
            for one in report.resized
        ],
        "merged": [_merged(merged) for merged in report.merged],
        "unmatched": [
            {"merge": one.step, "lora": one.lora, "module": one.module, "reason": one.reason}
            for one in report.lost
        ],
        "checks": [
            {
                "step": check.step,
                "asserts": list(check.asserted),
                "holds": check.holds,
                "figures": dict(check.figures),
            }
            for check in report.checked
        ],
        "sweep": None if report.sweep is None else sweep_json(report.sweep, report.folder),
        "errors": list(report.errors),
        "notes": [*plan.warnings, *report.untold],
    }


def _step(report: Report, planned: PlannedStep) -> dict[str, Any]:
    ran, cost = report.ran.get(planned.step.id), planned.cost
    return {
        "id": planned.step.id,
        "variant-of": planned.step.written if planned.step.axes else None,
        "axes": dict(planned.step.axes),
        "kind": planned.step.kind,
        "inputs": [
            {"port": port, "step": term.step, "weight": term.weight}
            for port, terms in planned.step.inputs.items()
            for term in terms
        ],
        "holds-back": list(report.plan.held.get(planned.step.id, ())),
        "result": result_text(planned),
        "status": planned.status.value,
        "reason": planned.reason,
        "state": step_words(report, planned),
        "seconds": None if ran is None else ran.seconds,
        "read": cost.read,
        "written": cost.written,
        "peak": cost.peak,
    }


def _lora(portrait: Portrait) -> dict[str, Any]:
    spec, whole = portrait.spec, pooled(portrait.figures.values())
    return {
        "step": portrait.step,
        "file": portrait.path.name,
        "role": "output" if portrait.output else "input",
        "family": spec.family,
        "dtype": spec.dtype,
        "modules": len(spec.modules),
        **_figures(whole, whole),
        "blocks": [
            {
                "model": model,
                "block": block,
                "count": len(modules),
                **_figures(pooled(_known(portrait, modules)), whole),
                "modules": [_module(portrait, module, whole) for module in modules],
            }
            for (model, block), modules in portrait.blocks.items()
        ],
    }


def _known(portrait: Portrait, modules: tuple[ModuleId, ...]) -> Iterator[Figures]:
    return (portrait.figures[module] for module in modules if module in portrait.figures)


def _module(portrait: Portrait, module: ModuleId, whole: Figures) -> dict[str, Any]:
    known, figures = portrait.spec.modules[module], portrait.figures.get(module)
    told: dict[str, Any] = {
        **_named(module),
        "name": known.spelling.stem,
        "format": "LoRA" if known.form is None else known.form.name,
        "shape": list(known.shape),
        "stored-rank": known.rank,
    }
    if figures is None:
        return {**told, "figures": None}
    return {**told, "figures": _figures(figures, whole)}


def _figures(figures: Figures, whole: Figures) -> dict[str, Any]:
    share = (figures.norm / whole.norm) ** 2 if whole.norm else 0.0
    return {
        "norm": json_number(figures.norm),
        "share": json_number(share),
        "rank": figures.rank,
        "stable-rank": figures.stable_rank if figures.finite else None,
        "rank-for-90%": figures.rank_for(0.9),
        "rank-for-99%": figures.rank_for(0.99),
        "singular-values": [float(f"{one:.7g}") for one in figures.singular_values],
    }


def _pair(meeting: Meeting) -> dict[str, Any]:
    found = meeting.overlaps
    return {
        "one": meeting.one,
        "two": meeting.two,
        **_overlap(overlaps.together(found.values())),
        "in-common": len(found),
        "opposed-modules": sum(one.opposed for one in found.values()),
        "blocks": [
            {
                "model": model,
                "block": block,
                **_overlap(overlaps.together(found[module] for module in modules)),
                "in-common": len(modules),
                "opposed-modules": sum(found[module].opposed for module in modules),
                "modules": [
                    {**_named(m), **_overlap(found[m]), "opposed": found[m].opposed} for m in modules
                ],
            }
            for (model, block), modules in meeting.blocks.items()
        ],
    }


def _overlap(found: Overlap) -> dict[str, Any]:
    return {
        "cosine": found.cosine,
        "cosine-by-chance": found.noise,
        "cancels": found.conflict,
        "outputs-shared": found.outputs_shared,
        "outputs-by-chance": found.outputs_by_chance,
        "inputs-shared": found.inputs_shared,
        "inputs-by-chance": found.inputs_by_chance,
    }


def _merged(merged: Merged) -> dict[str, Any]:
    return {
        "step": merged.step,
        "tensors": len(merged.shifts),
        **_shift(shifts.together(merged.shifts.values())),
        "blocks": [
            {
                "model": model,
                "block": block,
                "count": len(keys),
                **_shift(shifts.together(merged.shifts[key] for key in keys)),
                "tensors": [{"key": key, **_shift(merged.shifts[key])} for key in keys],
            }
            for (model, block), keys in merged.blocks.items()
        ],
    }


def _shift(shift: Shift) -> Mapping[str, float | None]:
    return {
        "relative": json_number(shift.relative),
        "change": json_number(shift.delta),
        "before": json_number(shift.weight),
    }


def _named(module: ModuleId) -> dict[str, Any]:
    return {"key": module.key, "rows": list(module.rows) if module.rows else None}
