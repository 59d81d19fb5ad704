"""One step of a task: gather what it takes, work, hold the result against the plan, publish, tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lorapipe.build.engines.threads import Crew
from lorapipe.build.events import Listener, Note, OutputReady, Progress
from lorapipe.build.ownership import Ownership
from lorapipe.build.records import Records, Upload
from lorapipe.build.result import BuiltOutput
from lorapipe.build.running.means import Means
from lorapipe.build.running.results import Results
from lorapipe.build.running.spool import Spool
from lorapipe.build.running.values import Values
from lorapipe.errors import LorapipeError
from lorapipe.formats.containers.output import Written
from lorapipe.plan.files import Certainty
from lorapipe.plan.plan import Plan, PlannedStep, Status
from lorapipe.remote.url import Url
from lorapipe.steps.kind import Context, Inputs, Materialise, Weighted
from lorapipe.store.atomic import Staged
from lorapipe.store.folders import StagedFolder
from lorapipe.store.uploads import StagedObject, StagedObjects
from lorapipe.weights.each import in_memory
from lorapipe.weights.specs import AdapterSpec, FileSpec, Spec
from lorapipe.weights.verdicts import CheckSpec

if TYPE_CHECKING:
    from lorapipe.steps.save import SavedFile

__all__ = ["Workshop", "inputs_of", "run_step", "waiting_for"]


@dataclass(frozen=True, slots=True)
class Workshop:
    """What all tasks of one build share that are done in this process."""

    plan: Plan
    ownership: Ownership
    means: Means
    crew: Crew
    listen: Listener
    results: Results

    @property
    def records(self) -> Records:
        return self.ownership.records

    def hold_inputs(self, below: PlannedStep) -> None:
        """See that nothing above a step changed: what is loaded or found is read until it is done."""
        self.records.shelf.hold()
        above, pending = {below.step.id}, [below]
        while pending:
            planned = pending.pop()
            if planned.source is not None:
                self.records.hold(planned.source)
            if planned.status is not Status.IN_STORE:
                new = {term.step for term in planned.step.terms()} - above
                above |= new
                pending.extend(self.plan.steps[step] for step in new)


def run_step(
    planned: PlannedStep, values: Values, shop: Workshop, parts: Mapping[str, Written] | None = None
) -> tuple[Any, str]:
    """The step's value, and how it came: from a store, built, or written to its file.

    ``parts`` are the files of an output folder that other tasks made, as each told of its own
    (:mod:`~lorapipe.build.running.parts`): what of the folder is not there yet is made here. Raises
    what the step raises, without its place in the recipe.
    """
    if planned.output is not None:
        made = _write_output(planned, values, shop, parts)
        return made, "written" if made.written else "found"
    if planned.kind.materialise is Materialise.LAZY:
        value = _work(planned, values, _context(planned, shop), shop)
        if planned.source is not None and planned.source.certainty is Certainty.CHECKED:
            shop.records.hold(planned.source)  # the others are still being hashed, beside the work
        return value, "built"
    return _obtain(planned, values, shop)


def _obtain(planned: PlannedStep, values: Values, shop: Workshop) -> tuple[Any, str]:
    """The result of a stored kind, or a check's figures, from the store or by work."""

    def work(notes: dict[str, object]) -> Any:
        value = _work(planned, values, _context(planned, shop, notes=notes), shop)
        shop.hold_inputs(planned)
        return value

    came = False

    def fetched(done: int, total: int) -> None:
        nonlocal came
        came = True
        shop.listen(Progress(planned.step.id, done, total, "fetched"))

    value, known = shop.results.obtain(
        planned, work, waiting_for(planned, shop), _stored(planned, shop.listen), fetched
    )
    if known is None:
        return value, "holds" if isinstance(planned.spec, CheckSpec) else "built"
    for fact, told in known.items():
        shop.listen(Note(planned.step.id, fact, told))
    return _checked(value, planned), "fetched" if came else "store"


def _work(planned: PlannedStep, values: Values, context: Context, shop: Workshop) -> Any:
    try:
        value = planned.kind.work(inputs_of(planned, values), planned.step.params, context)
    except LorapipeError:
        shop.records.shelf.hold()  # a damaged result is no fault of the step that takes it
        raise
    return _checked(value, planned)


def inputs_of(planned: PlannedStep, values: Values) -> Inputs[Any]:
    """What a step takes, by port."""
    ports = {
        port: tuple(Weighted(t.step, t.weight, values[t.step]) for t in terms)
        for port, terms in planned.step.inputs.items()
    }
    return Inputs(ports, planned.files)


def _checked(value: Any, planned: PlannedStep) -> Any:
    """Hold the result against what the plan foretold; a difference is lorapipe's fault."""
    if isinstance(planned.spec, CheckSpec):
        return value  # figures: nobody takes them
    if isinstance(planned.spec, AdapterSpec):
        value.check(planned.spec)
    elif not _as_foretold(planned.spec, value.spec):
        raise LorapipeError("spec-not-kept", "the result is not what was inferred", step=planned.step.id)
    return value


def _as_foretold(foretold: Spec, found: Spec) -> bool:
    if isinstance(foretold, FileSpec) and isinstance(found, FileSpec):
        return foretold.admits(found.tensors)
    return foretold == found


def _write_output(
    planned: PlannedStep, values: Values, shop: Workshop, parts: Mapping[str, Written] | None
) -> BuiltOutput:
    assert planned.output is not None
    assert planned.key is not None
    assert isinstance(planned.spec, FileSpec)
    path, step = planned.output, planned.step.id
    # Of two processes that want the same output, one writes it and the other finds it in place.
    with shop.records.entry_lock(planned.key, waiting_for(planned, shop)):
        making = shop.results.making(planned)
        found = shop.records.in_place(path, planned.key, making)
        if found is not None:
            shop.listen(OutputReady(step, path, *found, written=False))
            return BuiltOutput(step, path, *found, written=False)
        with _staged(planned, shop, parts) as staged:
            saved: SavedFile = _work(planned, values, _context(planned, shop, output=staged), shop)
            shop.hold_inputs(planned)
            shop.ownership.publish(staged, saved, planned.key, making)
    shop.listen(OutputReady(step, path, saved.sha256, saved.size, written=True))
    return BuiltOutput(step, path, saved.sha256, saved.size, written=True, etag=shop.records.etag(path))


def _staged(
    planned: PlannedStep, shop: Workshop, parts: Mapping[str, Written] | None
) -> Staged | StagedFolder | Upload:
    """The output on its way to where it goes."""
    assert planned.output is not None
    assert planned.key is not None
    assert isinstance(planned.spec, FileSpec)
    if isinstance(planned.output, Url):
        _, sent = _progress(planned, shop.listen)
        force = shop.ownership.force
        return shop.records.stage_upload(planned.output, planned.spec, sent=sent, force=force)
    known = {name: (written.size, written.sha256) for name, written in (parts or {}).items()}
    waiting = None if parts is None else waiting_for(planned, shop)
    staged = shop.records.stage(planned.output, planned.spec, planned.key, known=known, waiting=waiting)
    finished = set(staged.finished) if isinstance(staged, StagedFolder) else set[str]()
    if resumed := len(finished & planned.spec.files.keys() - known.keys()):
        told = f"{resumed} of {len(planned.spec.files)} files were finished"
        shop.listen(Note(planned.step.id, "resumed", told))
    return staged


def waiting_for(planned: PlannedStep, shop: Workshop) -> Callable[[], None]:
    """What to call again and again while another holds the lock: the first time that is told."""
    told = False

    def waiting() -> None:
        nonlocal told
        shop.crew.halt.go_on()
        if not told:
            told = True
            shop.listen(Note(planned.step.id, "waiting", "another step or process is at work on it"))

    return waiting


def _context(
    planned: PlannedStep,
    shop: Workshop,
    output: Staged | StagedFolder | Upload | None = None,
    notes: dict[str, object] | None = None,
) -> Context:
    """What the step's work may know; what it notes is told, and put into ``notes``."""
    step, listen = planned.step.id, shop.listen
    tick, wrote = _progress(planned, listen)
    share = shop.means.share(planned)

    def note(fact: str, value: object) -> None:
        if notes is not None:
            notes[fact] = value
        listen(Note(step, fact, value))

    return Context(
        device=shop.plan.device,
        compute=shop.plan.profile.compute,
        each=shop.crew.each(tick, share.under_way),
        note=note,
        put_away=Spool(shop.records.scratch).put_away if share.spooled else in_memory,
        # What is written to a URL counts as it comes there.
        wrote=_unheard if isinstance(output, StagedObject | StagedObjects) else wrote,
        output=output.file if isinstance(output, Staged | StagedObject) else None,
        provenance=planned.provenance,
        **(_into(output, planned, shop) if isinstance(output, StagedFolder | StagedObjects) else {}),
    )


def _unheard(count: int) -> None:
    pass


def _into(folder: StagedFolder | StagedObjects, planned: PlannedStep, shop: Workshop) -> dict[str, Any]:
    """What the step's work may know of the folder that it writes."""

    def finish(name: str, written: Written) -> None:  # noqa: ARG001  # it is the file that is open
        # What was read from an input that changed must not be kept under the old input's key.
        shop.hold_inputs(planned)
        folder.finish(written.sha256)

    finished = {name: Written(known.state.size, known.sha256) for name, known in folder.finished.items()}
    return {"create": folder.create, "finished": finished, "finish": finish}


def _progress(planned: PlannedStep, listen: Listener) -> tuple[Callable[[], None], Callable[[int], None]]:
    """What to call for each finished module, and for bytes written: an output counts these."""
    spec, step, costs = planned.spec, planned.step.id, planned.cost.items
    # Counted once: a file has thousands of tensors, and a build as many steps forward.
    total, work = _total(spec), sum(costs)
    unit = "bytes" if isinstance(spec, FileSpec) else "items" if isinstance(spec, CheckSpec) else "modules"
    done = spent = 0

    def add(count: int) -> None:
        nonlocal done, spent
        spent += sum(costs[done : done + count]) if unit != "bytes" else 0
        done += count
        listen(Progress(step, min(done, total), total, unit, spent / work if work else None))

    if isinstance(spec, FileSpec):
        return (lambda: None), add
    return (lambda: add(1)), add


def _stored(planned: PlannedStep, listen: Listener) -> Callable[[int], None]:
    """What to call for bytes of a result that go into the store."""
    done, total = 0, planned.cost.written

    def add(count: int) -> None:
        nonlocal done
        done += count
        listen(Progress(planned.step.id, min(done, total), total, "stored"))

    return add


def _total(spec: Spec) -> int:
    if isinstance(spec, CheckSpec):
        return spec.count
    return len(spec.modules) if isinstance(spec, AdapterSpec) else spec.nbytes
