"""The first OFT files hold rotations as they are."""

from __future__ import annotations

import numpy as np
import torch

from lorapipe.formats.forms.old_oft import FORM

from .kit import array, measured, numbers, refused
from .operators import close, made, weight
from .test_oft import oft, rotations


def test_the_blocks_are_the_rotations() -> None:
    matrices = rotations(np.random.default_rng(1).standard_normal((3, 4, 4)))
    tensors = {".oft_diag": torch.from_numpy(matrices), **numbers(2, rescale=(12, 1))}
    w = weight(12, 5)
    close(made(FORM, tensors, w, 4.0), oft(w, matrices, array(tensors[".rescale"])))
    assert measured(FORM, tensors).divisor is None


def test_blocks_that_make_no_rows_are_refused() -> None:
    assert refused(FORM, numbers(1, oft_diag=(3, 4))) == ("bad-factor-shape", "oft_diag [3, 4]")
