"""The plan as JSON: the shape is ``schemas/plan.v1.schema.json``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lorapipe.plan.plan import Plan, PlannedStep
from lorapipe.remote.url import Location, Url
from lorapipe.views.bindings import BoundRow, bound_rows, is_merge
from lorapipe.weights.specs import AdapterSpec, CheckpointSpec, ModuleId, ModuleSpec
from lorapipe.weights.verdicts import CheckSpec

__all__ = ["plan_json"]


def plan_json(plan: Plan, folder: Path, modules: bool = False) -> dict[str, Any]:
    """A JSON-ready dict; paths are relative to ``folder``, sizes in bytes.

    ``modules`` adds each LoRA's modules with the key and rows that they bind to, and to a
    merge where in the checkpoint each of them goes.
    """
    return {
        "version": 1,
        "recipe": {"file": plan.recipe.file, "name": plan.recipe.name},
        "matrix": {axis: list(values) for axis, values in plan.recipe.matrix.items()},
        "device": plan.device,
        "profile": plan.profile.as_json(),
        "steps": [_step(plan, step, folder, modules) for step in plan.steps.values()],
        "order": [position.step for position in plan.schedule],
        "warnings": list(plan.warnings),
    }


def _step(plan: Plan, planned: PlannedStep, folder: Path, modules: bool) -> dict[str, Any]:
    step: dict[str, Any] = {
        "id": planned.step.id,
        "written": planned.step.written,
        "axes": dict(planned.step.axes),
        "kind": planned.step.kind,
        "status": planned.status.value,
        "reason": planned.reason,
        "key": planned.key,
        "inputs": {
            port: [{"step": t.step, "weight": t.weight} for t in terms]
            for port, terms in planned.step.inputs.items()
        },
        "cost": {
            "read": planned.cost.read,
            "written": planned.cost.written,
            "flops": planned.cost.flops,
            "peak": planned.cost.peak,
        },
        "result": _result(planned),
    }
    if planned.fetch is not None:
        step["fetch"] = planned.fetch
    if planned.step.id in plan.held:
        step["holds-back"] = list(plan.held[planned.step.id])
    if planned.source is not None:
        step["file"] = {
            "path": _relative(planned.source.path, folder),
            "size": planned.source.size,
            "sha256": planned.source.sha256,
            "certainty": planned.source.certainty.value,
        }
    if planned.output is not None:
        step["file"] = {"path": _relative(planned.output, folder)}
    if modules and isinstance(planned.spec, AdapterSpec):
        step["modules"] = [_module(i, m) for i, m in planned.spec.modules.items()]
    if modules and is_merge(planned):
        step["bindings"] = [_binding(row) for row in bound_rows(plan, planned)]
    return step


def _result(planned: PlannedStep) -> dict[str, Any]:
    spec = planned.spec
    if isinstance(spec, AdapterSpec):
        ranks = [m.rank for m in spec.modules.values()]
        return {
            "type": "lora",
            "family": spec.family,
            "modules": len(spec.modules),
            "ranks": [min(ranks), max(ranks)],
            "dtype": spec.dtype,
            "elements": spec.elements,
            "bounded": spec.bounded,
        }
    if isinstance(spec, CheckSpec):
        return {"type": "check", "asserted": list(spec.asserted), "count": spec.count}
    if isinstance(spec, CheckpointSpec):
        return {
            "type": "checkpoint",
            "family": spec.family,
            "tensors": len(spec.tensors),
            "bytes": spec.nbytes,
            "touched": len(spec.touched),
        }
    return {"type": "file", "tensors": len(spec.tensors), "bytes": spec.nbytes, "bounded": spec.bounded}


def _module(module: ModuleId, spec: ModuleSpec) -> dict[str, Any]:
    return {
        "name": spec.spelling.stem,
        "key": module.key,
        "rows": list(module.rows) if module.rows else None,
        "component": module.component,
        "shape": list(spec.shape),
        "rank": spec.rank,
    }


def _binding(row: BoundRow) -> dict[str, Any]:
    return {
        "lora": row.lora,
        "name": row.name,
        "key": row.key,
        "rows": list(row.rows) if row.rows else None,
        "reason": row.reason,
    }


def _relative(path: Location, folder: Path) -> str:
    return str(path) if isinstance(path, Url) else Path(os.path.relpath(path, folder)).as_posix()
