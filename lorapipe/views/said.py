"""What a build says in lines that stay: facts of results, steps done, and more for who asks for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lorapipe.build.events import Event, Hashing, Note, OutputReady, Planned, StepDone, StepStarted, Warned
from lorapipe.plan.files import InputFile
from lorapipe.plan.plan import Plan
from lorapipe.views.notes import note_lines
from lorapipe.views.text import bytes_text

__all__ = ["Teller"]

_TABLED = frozenset({"energy", "error", "holds", "lowest score kept", "ranks"})
"""Facts that :func:`~lorapipe.build.noted.figures_told` makes figures of."""


class Teller:
    """Lines for events. ``steps``: one for each step done; ``verbose``: keys, decisions, states of files."""

    def __init__(self, *, steps: bool, verbose: bool = False) -> None:
        self._steps, self._verbose = steps or verbose, verbose
        self._places: dict[str, str] = {}
        self._variants: Mapping[str, str] = {}
        self._told: set[tuple[str, str]] = set()

    def lines(self, event: Event) -> Iterator[str]:
        """What there is to say of an event; control characters are still in it."""
        match event:
            case StepStarted():
                self._places[event.step] = f"[{event.position}/{event.count}]"
            case StepDone() if self._steps:
                yield f"{self.at(event.step)}: {event.how} in {event.seconds:.1f} s"
            case Note() if event.step in self._variants and not self._verbose:
                yield from self._of_variant(event)
            case Note():
                yield from note_lines(event)
            case Warned():
                yield f"warning: {event.message}"
            case Planned():
                self._variants = {s.id: s.written for s in event.plan.recipe.steps.values() if s.axes}
                yield from _plan_lines(event.plan) if self._verbose else ()
            case OutputReady() if self._verbose:
                how = "written" if event.written else "up to date"
                yield f"{event.step}: {event.path} is {how}, {bytes_text(event.size)}, sha256 {event.sha256}"
            case Hashing() if self._verbose and event.done == event.total:
                yield f"hashed {event.path}, {bytes_text(event.total)}"

    def _of_variant(self, note: Note) -> Iterator[str]:
        """What the table at the end does not have, of the first variant of a step that tells it."""
        about = (self._variants[note.step], note.fact)
        lines = [] if note.fact in _TABLED or about in self._told else note_lines(note)
        if lines:
            self._told.add(about)
            yield from lines[:-1]
            yield f"{lines[-1]} (-v tells it of other variants)"

    def at(self, step: str) -> str:
        """A step at work as a log names it."""
        return f"{self._places.get(step, '')} {step}".lstrip()


def _plan_lines(plan: Plan) -> Iterator[str]:
    """Each step: what is decided of it and why, its key, the file that it reads."""
    profile = plan.profile
    yield f"plan: torch {profile.torch}, on {plan.device}, arithmetic in {profile.compute}"
    for step, planned in plan.steps.items():
        yield f"{step}: {planned.standing}: {planned.reason}"
        if planned.source is not None:
            yield f"  {_file_line(planned.source)}"
        if planned.key is not None:
            yield f"  key {planned.key}"


def _file_line(source: InputFile) -> str:
    digest = source.sha256 or "unknown"
    return f"{source.path}, {bytes_text(source.size)}, sha256 {digest}, {source.certainty.value}"
