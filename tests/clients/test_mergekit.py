"""combine's methods against arcee-ai/mergekit, live: what was recorded of it is what it makes today.

The suite holds combine against the record (tests/weights/algebra/methods).
"""

from __future__ import annotations

import numpy as np

from tests.weights.algebra.methods.peers import mergekit, recorded


def test_what_was_recorded_is_what_mergekit_makes_today() -> None:
    made = mergekit()
    assert made.keys() == recorded("mergekit").keys()
    for method, array in made.items():
        np.testing.assert_allclose(array, recorded("mergekit")[method], atol=1e-6, err_msg=method)
