"""The engine ``dask``: tasks on other processes and machines, which share a file system and a store.

The client plans, hands out tasks and keeps lock and journal; a worker plans the same recipe once,
sees that its keys are the client's, and does tasks as ``threads`` does them. What passes between them is
names, digests and events, never a tensor.

* ``job``: what all tasks of a build share, from which a worker plans; ``messages``: a task on its way
  out, and what comes back.
* ``planned``, ``station``: a worker process, the jobs that it planned, the tasks that it does.
* ``joining``: a scheduler found, or processes started; ``asking``, ``meeting``, ``reach``: its workers asked,
  before any work, for all that may stand in the way.
* ``work``, ``dask``, ``hearing``: what is to be done, the engine, and what is told of it.
"""
