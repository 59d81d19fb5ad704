"""What is in a file of weights, as JSON: the shape is ``schemas/inspection.v1.schema.json``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lorapipe.architectures import by_block
from lorapipe.formats.hashes import FileHashes
from lorapipe.formats.inspection import Inspection
from lorapipe.views.text import json_number
from lorapipe.weights.figures import Figures, together
from lorapipe.weights.inference.checking import Figure
from lorapipe.weights.specs import AdapterSpec, CheckpointSpec, ModuleId

if TYPE_CHECKING:
    from lorapipe.build.looking.inspecting import Look

__all__ = ["inspection_json"]


def inspection_json(look: Look, *, modules: bool = False, spectra: bool = False) -> dict[str, Any]:
    """A JSON-ready dict; metadata whole, numbers that are none ``null``.

    ``modules`` lists each module or tensor, ``spectra`` adds the singular values of each module.
    """
    found, hashes = look.inspection, look.hashes
    spec = found.spec
    told: dict[str, Any] = {
        "version": 1,
        "file": found.path.name,
        "size": found.size,
        "container": found.container,
        "files": list(found.files),
        "type": "lora" if isinstance(spec, AdapterSpec) else "checkpoint",
        "family": spec.family,
        "base": found.base,
        "dtypes": dict(sorted(found.dtypes.items())),
        "training": dict(found.notes),
        "metadata": dict(sorted(found.metadata.items())),
        "hashes": None if hashes is None else _hashes(hashes),
        "trouble": look.trouble,
    }
    if isinstance(spec, AdapterSpec):
        return told | _adapter(found, spec, look.figures, modules=modules or spectra, spectra=spectra)
    return told | _checkpoint(spec, look.tensors, modules)


def _hashes(hashes: FileHashes) -> dict[str, str | None]:
    return {
        "sha256": hashes.sha256,
        "autov1": hashes.autov1 or None,
        "autov2": hashes.autov2 or None,
        "autov3": hashes.autov3 or None,
        "data_sha256": hashes.data or None,
        "sshs_model_hash": hashes.sshs or None,
        "sshs_legacy_hash": hashes.sshs_legacy or None,
    }


def _adapter(
    found: Inspection,
    spec: AdapterSpec,
    figures: Mapping[ModuleId, Figures] | None,
    *,
    modules: bool,
    spectra: bool,
) -> dict[str, Any]:
    ranks = Counter(module.rank for module in spec.modules.values())
    told: dict[str, Any] = {
        "naming": found.naming,
        "modules": len(spec.modules),
        "extras": list(spec.extras),
        "components": dict(sorted(Counter(m.component for m in spec.modules).items())),
        "formats": dict(sorted(found.forms.items())),
        "scales": dict(sorted(found.scales.items())),
        "alphas": {f"{alpha:g}": count for alpha, count in found.alphas.items()},
        "ranks": {str(rank): count for rank, count in sorted(ranks.items())},
        "norm": None if figures is None else json_number(together(figures.values())),
        "blocks": None if figures is None else _blocks(spec, figures),
    }
    if modules:
        told["module_list"] = [
            _module(spec, module, block, figures, spectra)
            for (_, block), group in by_block(spec.family, spec.modules).items()
            for module in group
        ]
    return told


def _blocks(spec: AdapterSpec, figures: Mapping[ModuleId, Figures]) -> list[dict[str, Any]]:
    return [
        {
            "component": component,
            "block": block,
            "modules": len(group),
            "norm": json_number(together(figures[module] for module in group)),
        }
        for (component, block), group in by_block(spec.family, figures).items()
    ]


def _module(
    spec: AdapterSpec,
    module: ModuleId,
    block: str,
    figures: Mapping[ModuleId, Figures] | None,
    spectra: bool,
) -> dict[str, Any]:
    known = spec.modules[module]
    told: dict[str, Any] = {
        "name": known.spelling.stem,
        "component": module.component,
        "block": block,
        "key": module.key,
        "rows": list(module.rows) if module.rows else None,
        "shape": list(known.shape),
        "rank": known.rank,
        "format": "LoRA" if known.form is None else known.form.name,
    }
    one = None if figures is None else figures.get(module)
    if one is not None:
        told |= {
            "norm": json_number(one.norm),
            "true_rank": one.rank,
            "stable_rank": one.stable_rank,
            "rank_for_90": one.rank_for(0.9),
            "rank_for_99": one.rank_for(0.99),
        }
        if spectra:
            told["singular_values"] = list(one.singular_values)
    return told


def _checkpoint(spec: CheckpointSpec, figures: Mapping[str, Figure] | None, modules: bool) -> dict[str, Any]:
    told: dict[str, Any] = {"tensors": len(spec.tensors)}
    if modules or figures is not None:
        told["tensor_list"] = [
            {
                "name": name,
                "dtype": tensor.dtype,
                "shape": list(tensor.shape),
                **(
                    {}
                    if figures is None or name not in figures
                    else {"norm": json_number(figures[name].norm)}
                ),
            }
            for name, tensor in spec.tensors.items()
        ]
    return told
