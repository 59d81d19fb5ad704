"""The values of a build's steps, each made once and kept as long as a task may need it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from lorapipe.plan.tasks import Task

__all__ = ["Values"]


class Values:
    """Values by step, for tasks on several threads.

    ``make`` gives that of a step which is no task's own (it is lazy, or in the store) when it is first
    asked for; who asks meanwhile waits. ``tasks`` are all that will use them.
    """

    def __init__(self, make: Callable[[str], Any], tasks: Iterable[Task]) -> None:
        self._make = make
        self._made: dict[str, Any] = {}
        self._uses = Counter(step for task in tasks for step in task.steps)
        self._lock = threading.Lock()
        self._making: dict[str, threading.Lock] = {}

    def __getitem__(self, step: str) -> Any:
        with self._lock:
            making = self._making.setdefault(step, threading.Lock())
        with making:
            if step not in self._made:
                self._made[step] = self._make(step)
            return self._made[step]

    def put(self, step: str, value: Any) -> None:
        """Keep what a task made."""
        self._made[step] = value

    def release(self, task: Task) -> None:
        """Let go of what no task needs after this one."""
        with self._lock:
            self._uses.subtract(task.steps)
            for step in task.steps:
                if self._uses[step] <= 0:
                    self._made.pop(step, None)
