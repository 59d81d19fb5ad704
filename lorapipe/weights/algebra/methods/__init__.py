"""The methods of ``combine``: pure functions, each with its definition and its source.

A method is a function here and a row in :data:`~lorapipe.weights.inference.methods.METHODS`, which
says what it is given, and what it gives:

* ``LINEAR``: ``(vectors, weights, settings) -> coefficients``. ``vectors: [n, m]`` are the terms'
  deltas in an orthonormal basis of what they span, all lengths and angles being theirs.
* ``FACTORS``: ``(parts, weights, settings) -> LowRank``, each part the two factors of a term's delta.
* ``DENSE``: ``(deltas, weights, settings, draw) -> matrix``. ``deltas: [O, I*k]`` each, the weights
  in them already, one after the other as they are asked for, and once; a bias is one row. A
  term that lacks the module has a delta of zeros.
  ``draw(i)`` gives term ``i``'s random numbers from 0 to below 1, of the deltas' shape.

Kernels are flattened. Everything is in the compute type, module by module.
"""
