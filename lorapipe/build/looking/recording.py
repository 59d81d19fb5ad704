"""What a run tells, kept for the report that is made of it afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lorapipe.build.events import Event, Listener, Note, OutputReady, StepDone, Swept
from lorapipe.build.looking.report import Ran
from lorapipe.build.sweep import Sweep
from lorapipe.errors import LorapipeError

__all__ = ["Recording"]


@dataclass(slots=True)
class Recording:
    """Grows while a run goes on: how each step came, what was noted of it, which outputs are in place.

    ``errors`` are those with which it ended.
    """

    ran: dict[str, Ran] = field(default_factory=dict)
    notes: dict[str, dict[str, object]] = field(default_factory=dict)
    ready: list[OutputReady] = field(default_factory=list)
    sweep: Sweep | None = None
    errors: tuple[LorapipeError, ...] = ()

    def beside(self, listen: Listener) -> Listener:
        """A listener that records, and tells ``listen`` too."""

        def told(event: Event) -> None:
            self.tell(event)
            listen(event)

        return told

    def tell(self, event: Event) -> None:
        if isinstance(event, StepDone):
            self.ran[event.step] = Ran(event.how, event.seconds)
        elif isinstance(event, Note):
            self.notes.setdefault(event.step, {})[event.fact] = event.value
        elif isinstance(event, OutputReady):
            self.ready.append(event)
        elif isinstance(event, Swept):
            self.sweep = event.sweep

    @property
    def written(self) -> frozenset[str]:
        """The outputs that were written."""
        return frozenset(event.step for event in self.ready if event.written)

    def ended(self, error: LorapipeError) -> None:
        """Keep the errors that a run ended with."""
        self.errors = error.parts

    def noted(self, step: str, fact: str) -> Mapping[str, object] | None:
        """What was noted of a step's result, where that is a mapping."""
        value = self.notes.get(step, {}).get(fact)
        return value if isinstance(value, dict) else None
