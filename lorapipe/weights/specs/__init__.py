"""What is known of weights from headers alone: dtypes, shapes, ranks, names.

Torch-free on purpose: ``lorapipe plan`` infers every step's result from these
values and never touches tensor data.
"""

from __future__ import annotations

from lorapipe.weights.specs.adapters import AdapterSpec
from lorapipe.weights.specs.checkpoints import CheckpointSpec, FolderSpec, Place, Scales
from lorapipe.weights.specs.files import FileSpec
from lorapipe.weights.specs.modules import Form, ModuleId, ModuleSpec, Spelling, canonical_shape
from lorapipe.weights.specs.tensors import DTYPES, FLOATING, TensorSpec
from lorapipe.weights.verdicts import CheckSpec

__all__ = [
    "DTYPES",
    "FLOATING",
    "AdapterSpec",
    "CheckpointSpec",
    "FileSpec",
    "FolderSpec",
    "Form",
    "ModuleId",
    "ModuleSpec",
    "Place",
    "Scales",
    "Spec",
    "Spelling",
    "TensorSpec",
    "canonical_shape",
]

Spec = AdapterSpec | CheckpointSpec | FileSpec | CheckSpec
"""What a step's result is, whatever its kind."""
