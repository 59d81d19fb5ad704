"""What workers tell of their tasks, as one build: each step once, in its place of the schedule."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import replace

from lorapipe.build.cluster.messages import Left, Stranger, Told
from lorapipe.build.events import Event, Listener, Progress, StepDone, StepStarted
from lorapipe.plan.plan import Plan
from lorapipe.weights.specs import FileSpec

__all__ = ["Hearing"]


class Hearing:
    """Passes on to ``listen`` what is told of a plan's ``tasks``, and knows which of them are ``begun``.

    A worker tells of every step that it does for a task, also of those that others do too, or
    have done: a lazy step is told by the first task that has it, any other by its own task. The files
    of an output folder are told as the one output that they are.
    """

    def __init__(
        self,
        plan: Plan,
        tasks: Collection[str],
        listen: Listener,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.begun: set[tuple[str, str | None]] = set()
        self._plan = plan
        self._numbers = {position.step: n for n, position in enumerate(plan.schedule, start=1)}
        self._tellers: dict[str, str] = {task: task for task in tasks}
        self._written: dict[str, dict[str, int]] = {}
        self._since: dict[str, float] = {}
        self._listen = listen
        self._clock = clock

    def hear(self, told: Told) -> None:
        """Take something that was told."""
        if isinstance(told.what, Left | Stranger):
            self.begun.discard((told.task, told.part))
            return
        self.begun.add((told.task, told.part))
        step = getattr(told.what, "step", None)
        if step is not None and self._tellers.setdefault(step, told.task) != told.task:
            return
        for event in self._as_one(told, told.what):
            self._listen(event)

    def _as_one(self, told: Told, event: Event) -> tuple[Event, ...]:
        match event:
            case StepStarted():
                return self._started(event.step)
            case Progress(step=step) if told.part is not None:
                return (*self._started(step), self._progress(step, told.part, event.done))
            case StepDone() if event.step in self._written:
                return (replace(event, seconds=self._clock() - self._since[event.step]),)
            case Progress() if event.done < sum(self._written.get(event.step, {}).values()):
                return ()  # what others wrote is counted anew as its folder gets its name
            case _:
                return (event,)

    def _started(self, step: str) -> tuple[Event, ...]:
        if step in self._since:  # its worker died, or its files were told of
            return ()
        self._since[step] = self._clock()
        kind = self._plan.steps[step].step.kind
        return (StepStarted(step, kind, self._numbers[step], len(self._numbers)),)

    def _progress(self, step: str, part: str, done: int) -> Progress:
        written, spec = self._written.setdefault(step, {}), self._plan.steps[step].spec
        written[part] = max(done, written.get(part, 0))
        assert isinstance(spec, FileSpec)
        return Progress(step, min(sum(written.values()), spec.nbytes), spec.nbytes, "bytes")
