"""How fast a build goes, and how long it will take: by bytes where it writes, else by operations.

What was not measured is not made up: where steps are to come whose speed nothing has shown, and
which may matter, the time left is told as the least that it can be.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lorapipe.build.events import Event, Hashing, Planned, Progress, StepDone, StepStarted
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

    def __init__(self, now: float, amount: float = 0.0) -> None:
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


class Pace:
    """Hears a build's events and says how it goes. ``clock`` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._to_come: dict[str, dict[bool, float]] = {}
        self._spent: dict[bool, tuple[float, float]] = {True: (0.0, 0.0), False: (0.0, 0.0)}
        self._step: Progress | None = None
        self._work = _Course(clock())
        self._hashing: Hashing | None = None
        self._reading = self._work

    def tell(self, event: Event) -> None:
        now = self._clock()
        match event:
            case Planned():
                self._to_come = dict(_amounts(event.plan))
            case StepStarted():
                self._step, self._work = None, _Course(now)
            case Progress():
                self._progress(event, now)
            case StepDone():
                self._done(event, now)
            case Hashing():
                self._hash(event, now)
            case _:
                return
        if not isinstance(event, Hashing):
            self._hashing = None

    def _hash(self, event: Hashing, now: float) -> None:
        last = self._hashing
        if last is None or last.path != event.path or event.done < last.done:
            self._reading = _Course(now, event.done)
        self._reading.see(now, event.done)
        self._hashing = event

    def _progress(self, event: Progress, now: float) -> None:
        if self._step is not None and self._step.in_bytes != event.in_bytes:
            made = self._work.told  # the last of its modules, which now go into the store
            self._measure(self._step, made)
            self._work = _Course(made)
        self._step = event
        self._work.see(now, event.done if event.in_bytes else event.part)

    def _done(self, event: StepDone, now: float) -> None:
        if self._step is not None and event.how in ("built", "written", "holds"):
            self._measure(self._step, now)
        self._to_come.pop(event.step, None)
        self._step = None

    def _measure(self, step: Progress, now: float) -> None:
        """What one sort of work of a step took is the measure of what is to come of it."""
        amount = self._to_come.get(step.step, {}).pop(step.in_bytes, 0.0)
        before, seconds = self._spent[step.in_bytes]
        self._spent[step.in_bytes] = before + amount, seconds + (now - self._work.began)

    @property
    def rate(self) -> float | None:
        """Bytes per second, of what is being hashed or written; ``None`` where no bytes are counted."""
        if self._hashing is not None:
            return self._reading.rate()
        return self._work.rate() if self._step is not None and self._step.in_bytes else None

    def of_phase(self) -> Left | None:
        """The time left of the file that is being hashed, or of the step at work."""
        hashing = self._hashing
        if hashing is None:
            seconds = self._step_seconds()
        else:
            seconds = _rest(
                hashing.total - hashing.done, self._reading.rate(), self._clock() - self._reading.told
            )
        return None if seconds is None else Left(seconds)

    def _step_seconds(self) -> float | None:
        step, work = self._step, self._work
        taken = work.told - work.began
        if step is None or taken < _FIRST_S or step.part < _FIRST_PART:
            return None
        if step.in_bytes:
            return _rest(step.total - step.done, work.rate(), self._clock() - work.told)
        # Modules differ, and so do their shares: all that is done tells more than the last of it.
        return _rest(1.0 - step.part, step.part / taken, self._clock() - work.told)

    def left(self) -> Left | None:
        """The time left of the whole build; ``None`` while nothing is known of it, and while it hashes."""
        if self._hashing is not None or not self._to_come:
            return None
        known, guessed, measured = 0.0, 0.0, False
        at_work = self._step_seconds()
        now = None if self._step is None or at_work is None else (self._step.step, self._step.in_bytes)
        for step, written, amount in self._amounts():
            done, seconds = self._spent[written]
            if (step, written) == now and at_work is not None:
                known, measured = known + at_work, True
            elif seconds >= _FIRST_S and done:
                known, measured = known + amount * seconds / done, True
            else:
                guessed += amount / _SLOW[written]
        matters = guessed > max(_MATTERS_S, known / 10)
        return Left(known + (0.0 if matters else guessed), matters) if measured else None

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
