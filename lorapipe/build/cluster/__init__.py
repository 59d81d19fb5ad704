"""The engine ``dask``: tasks on other processes and machines, which share a file system and a store.

The client plans, hands out tasks and keeps lock and journal; a worker plans the same recipe once,
sees that its keys are the client's, and does tasks as ``threads`` does them. What passes between them is
names, digests and events, never a tensor.

* ``job``: what all tasks of a build share; a worker plans from it.
* ``messages``: a task on its way out, and what comes back.
* ``station``: a worker process: jobs that it planned, tasks that it does.
* ``meeting``: what a worker tells of itself before any work, and what is wrong with it.
* ``joining``: a scheduler found, or a cluster of processes started.
* ``dask``: the engine.
"""
