"""What a build made, as JSON: the shape is ``schemas/built.v1.schema.json``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lorapipe.build.events import OutputReady
from lorapipe.build.sweep import Sweep
from lorapipe.views.sweep_json import sweep_json

__all__ = ["built_json"]


def built_json(ready: Iterable[OutputReady], sweep: Sweep | None) -> dict[str, Any]:
    """A JSON-ready dict of the outputs in place; sizes in bytes, paths absolute."""
    return {
        "version": 1,
        "outputs": [
            {
                "step": event.step,
                "path": str(event.path),
                "sha256": event.sha256,
                "size": event.size,
                "written": event.written,
            }
            for event in ready
        ],
        "sweep": None if sweep is None else sweep_json(sweep, None),
    }
