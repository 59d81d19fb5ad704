"""How fast a build goes, and how long it will take: by bytes where it writes, else by operations.

What was not measured is not made up: where steps are to come whose speed nothing has shown, and
which may matter, the time left is told as the least that it can be.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from lorapipe.build.events import Event, Hashing, Planned, Progress, Sharing, StepDone, StepStarted
from lorapipe.plan.plan import Plan, Status
from lorapipe.steps.kind import Materialise
from lorapipe.weights.specs import FileSpec

__all__ = ["Left", "Pace"]

_WINDOW_S = 10.0
"""Seconds over which bytes per second are taken: a disk's cache fills, and then all goes slower."""

_FIRST_S = 1.0
"""Seconds of work before anything is foretold of it."""

_FIRST_PART = 0.01

_SLOW = {True: 100e6, False: 1e9}
"""Bytes written, and operations, in a second on a slow machine: whether what was not measured matters."""

_MATTERS_S = 2.0


@dataclass(frozen=True, slots=True)
class Left:
    """Seconds to the end; ``least`` where it may be longer, since something is not known yet."""

    seconds: float
    least: bool = False


class _Course:
    """An amount that grows, seen over the last seconds; when it ``began`` and was ``told`` last."""

    def __init__(self, now: float = 0.0, amount: float = 0.0) -> None:
        self.began = self.told = now
        self._seen = deque([(now, amount)])

    def see(self, now: float, amount: float) -> None:
        self.told = now
        # Steps forward are many; five in a second say as much.
        if len(self._seen) > 1 and now - self._seen[-2][0] < 0.2:
            self._seen.pop()
        self._seen.append((now, amount))
        while len(self._seen) > 2 and now - self._seen[1][0] > _WINDOW_S:
            self._seen.popleft()

    def rate(self) -> float | None:
        (start, before), (end, after) = self._seen[0], self._seen[-1]
        return (after - before) / (end - start) if end - start >= _FIRST_S and after > before else None


class _Task:
    """A step at work: what it told last, and two clocks since its present sort of work began.

    ``shared`` is the wall's time shared with the other steps at work: that of all of them adds up to
    the wall's, and so what is done in it tells how long the rest of a build takes.
    """

    __slots__ = ("shared", "since", "told", "wall")

    def __init__(self, now: float) -> None:
        self.told: Progress | None = None
        self.since = 0.0
        self.wall, self.shared = _Course(now), _Course()

    def turn(self) -> None:
        """Another sort of work begins where the last was told: its bytes are made, and now are stored."""
        self.since -= self.shared.told
        self.wall, self.shared = _Course(self.wall.told), _Course()

    def see(self, now: float, event: Progress) -> None:
        amount = event.done if event.in_bytes else event.part
        self.told = event
        self.wall.see(now, amount)
        self.shared.see(self.since, amount)

    def rest(self, course: _Course, now: float) -> float | None:
        """Seconds of a course that the present sort of work still takes."""
        told, taken = self.told, course.told - course.began
        if told is None or taken < _FIRST_S or told.part < _FIRST_PART:
            return None
        if told.in_bytes:
            return _rest(told.total - told.done, course.rate(), now - course.told)
        # Modules differ, and so do their shares: all that is done tells more than the last of it.
        return _rest(1.0 - told.part, told.part / taken, now - course.told)


class Pace:
    """Hears a build's events and says how it goes, several steps at a time. ``clock`` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._now = clock, clock()
        self._to_come: dict[str, dict[bool, float]] = {}
        self._spent: dict[bool, tuple[float, float]] = {True: (0.0, 0.0), False: (0.0, 0.0)}
        self._at_work: dict[str, _Task] = {}
        self._hashing: Hashing | Sharing | None = None
        self._reading = _Course(self._now)

    def tell(self, event: Event) -> None:
        now = self._pass()
        match event:
            case Planned():
                self._to_come, self._at_work = dict(_amounts(event.plan)), {}
            case StepStarted():
                self._at_work[event.step] = _Task(now)
            case Progress():
                self._progress(event, now)
            case StepDone():
                self._done(event)
            case Hashing() | Sharing():
                self._hash(event, now)
            case _:
                return
        if not isinstance(event, Hashing | Sharing):
            self._hashing = None

    def _pass(self) -> float:
        """Share the time that has passed out to the steps at work."""
        now = self._clock()
        for task in self._at_work.values():
            task.since += (now - self._now) / len(self._at_work)
        self._now = now
        return now

    def _hash(self, event: Hashing | Sharing, now: float) -> None:
        last = self._hashing
        if last is None or last.of != event.of or event.done < last.done:
            self._reading = _Course(now, event.done)
        self._reading.see(now, event.done)
        self._hashing = event

    def _progress(self, event: Progress, now: float) -> None:
        task = self._at_work.setdefault(event.step, _Task(now))
        if task.told is not None and task.told.in_bytes != event.in_bytes:
            self._measure(task.told, task.shared.told)
            task.turn()
        task.see(now, event)

    def _done(self, event: StepDone) -> None:
        task = self._at_work.pop(event.step, None)
        if task is not None and task.told is not None and event.how in ("built", "written", "holds"):
            self._measure(task.told, task.since)
        self._to_come.pop(event.step, None)

    def _measure(self, step: Progress, taken: float) -> None:
        """What one sort of work of a step took is the measure of what is to come of it."""
        amount = self._to_come.get(step.step, {}).pop(step.in_bytes, 0.0)
        before, seconds = self._spent[step.in_bytes]
        self._spent[step.in_bytes] = before + amount, seconds + taken

    @property
    def rate(self) -> float | None:
        """Bytes per second, hashed or written, of all steps together; ``None`` where none are counted."""
        if self._hashing is not None:
            return self._reading.rate()
        rates = [self.rate_of(step) for step in self._at_work]
        known = [rate for rate in rates if rate is not None]
        return sum(known) if known else None

    def rate_of(self, step: str) -> float | None:
        """Bytes per second that one step at work writes; ``None`` where it counts none."""
        task = self._at_work.get(step)
        counts = task is not None and task.told is not None and task.told.in_bytes
        return task.wall.rate() if task is not None and counts else None

    def of_phase(self, step: str | None = None) -> Left | None:
        """The time left of what is being hashed or shared, or of a step at work, if only one is that one."""
        now, hashing = self._clock(), self._hashing
        if step is None and hashing is not None:
            seconds = _rest(hashing.total - hashing.done, self._reading.rate(), now - self._reading.told)
        else:
            alone = next(iter(self._at_work)) if len(self._at_work) == 1 else None
            task = self._at_work.get(step or alone or "")
            seconds = None if task is None else task.rest(task.wall, now)
        return None if seconds is None else Left(seconds)

    def left(self) -> Left | None:
        """The time left of the whole build; ``None`` while nothing is known of it, and while it hashes."""
        if self._hashing is not None or not self._to_come:
            return None
        self._pass()
        known, guessed, measured = 0.0, 0.0, False
        at_work = dict(self._rests())
        for step, written, amount in self._amounts():
            done, seconds = self._spent[written]
            if (step, written) in at_work:
                known, measured = known + at_work[step, written], True
            elif seconds >= _FIRST_S and done:
                known, measured = known + amount * seconds / done, True
            else:
                guessed += amount / _SLOW[written]
        matters = guessed > max(_MATTERS_S, known / 10)
        return Left(known + (0.0 if matters else guessed), matters) if measured else None

    def _rests(self) -> Iterator[tuple[tuple[str, bool], float]]:
        """What the steps at work still take of the time that they share, where it is known."""
        for step, task in self._at_work.items():
            rest = task.rest(task.shared, task.since)
            if rest is not None and task.told is not None:
                yield (step, task.told.in_bytes), rest

    def _amounts(self) -> Iterable[tuple[str, bool, float]]:
        return ((step, *one) for step, amounts in self._to_come.items() for one in amounts.items())


def _rest(amount: float, rate: float | None, since: float) -> float | None:
    """Seconds that an amount takes at a rate, of which some have passed."""
    return None if rate is None else max(0.0, amount / rate - since)


def _amounts(plan: Plan) -> Iterable[tuple[str, dict[bool, float]]]:
    """What each step on the schedule will take: bytes written (``True``) and operations."""
    for position in plan.schedule:
        planned = plan.steps[position.step]
        if isinstance(planned.spec, FileSpec):
            yield position.step, {True: float(planned.spec.nbytes)}
        elif planned.kind.materialise is not Materialise.LAZY and planned.status is not Status.IN_STORE:
            yield position.step, {False: float(planned.cost.flops), True: float(planned.cost.written)}
