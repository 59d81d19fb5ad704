"""What a build remembers: results, digests, outputs and the lock. Torch-free.

One concept a module; :mod:`lorapipe.store.store` opens them together:

* ``places``: where the store lives, and which one a team shares behind it (``shared``).
* ``paths``: where each thing lies in it. Looking never creates it.
* ``digest``: the sha256 of files, and the state by which a file is known again.
* ``atomic``, ``folders``: files and folders that are absent, old or new, never partial.
* ``disk``, ``temporaries``: what these two ask of the disk, and what they leave on it when killed.
* ``contents``: the digest of a folder.
* ``database``: the sqlite file under memo, journal and entries.
* ``memo``: digests remembered by file state, so that an unchanged file is not read again.
* ``journal``: which outputs are ours.
* ``entries``: results of stored kinds by content key.
* ``lockfile``: the ``.lock`` beside a recipe.
"""
