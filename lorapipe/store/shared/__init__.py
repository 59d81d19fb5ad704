"""The store that a team shares: behind the local one, in a bucket or in a folder of several machines.

* ``bucket``: what it is kept in, as the others use it; ``folder`` and ``objects`` are the two sorts.
* ``layout``: the names in it, and its version.
* ``catalog``: what the store says of itself, which a stranger may have written.
* ``behind``: asked for what the local store lacks, given what was made anew.
* ``giving``: uploads, beside the work.
* ``upkeep``: what is in it, and letting go of what is old.
* ``reach``: whether two machines mean the same store.
"""
