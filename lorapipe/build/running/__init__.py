"""A plan carried out: tasks, results, memory, disk space, time left."""
