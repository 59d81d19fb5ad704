"""lorapipe and its peers, measured side by side on the same work: ``python -m benchmarks``.

The harness itself stays small: what it measures are whole processes, and on Linux a child's
peak memory is never below its parent's. So numpy and torch are only in processes apart
(:func:`benchmarks.measure.apart`), and everything else here is the standard library.
"""

from __future__ import annotations
