"""A report of a recipe, of a run, or of files: a plan, what was told, and the figures of the weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from lorapipe.architectures import titles
from lorapipe.build.engines.threads import imported
from lorapipe.build.events import Listener
from lorapipe.build.locks.locking import locate, locked_view
from lorapipe.build.looking.figuring import Figured, figured, many, merges
from lorapipe.build.looking.recording import Recording
from lorapipe.build.looking.report import Checked, Lost, Report, ReportFile, Resized
from lorapipe.build.noted import noted
from lorapipe.build.planning import Options, hashing, plan_with, recipe_folder, unheard
from lorapipe.build.records import Records
from lorapipe.build.sweep import Sweep
from lorapipe.build.sweeping import Came, failing, swept
from lorapipe.plan.make import Locked
from lorapipe.plan.plan import Plan, Status
from lorapipe.recipe.draft import Draft, literal, render, step_id
from lorapipe.recipe.model import JSON, Recipe
from lorapipe.recipe.parsing import parse
from lorapipe.steps.kind import Materialise
from lorapipe.store.lockfile import read
from lorapipe.weights.inference.binding import bind
from lorapipe.weights.specs import AdapterSpec, CheckpointSpec
from lorapipe.weights.verdicts import CheckSpec

__all__ = ["files_recipe", "report_files", "report_recipe"]


def report_recipe(
    recipe: Recipe,
    options: Options | None = None,
    *,
    recording: Recording | None = None,
    listen: Listener = unheard,
) -> Report:
    """A report of what a recipe would do, or did in the run that was recorded.

    Inputs and outputs are read: for their sha256, where that is not remembered, and for the figures
    of the weights. Nothing is written but what was hashed. Raises what a plan raises.
    """
    options = options or Options()
    folder, recording = recipe_folder(recipe), recording or Recording()
    locked = locked_view(read(locate(recipe, options.lock)), folder)
    with Records(looking=False, progress=hashing(listen), root=options.places) as records:
        made = plan_with(recipe, replace(options, frozen=False), records, locked, read=True)
        title = recipe.name or Path(recipe.file).stem
        return _report(made, records, recording, listen, title=title, folder=folder, file=Path(recipe.file))


def report_files(paths: Sequence[Path], *, family: str | None = None, listen: Listener = unheard) -> Report:
    """A report of files of weights. Raises as loading them in a recipe does."""
    recipe, options = files_recipe(paths, family), Options()
    with Records(looking=False, progress=hashing(listen)) as records:
        made = plan_with(recipe, options, records, Locked(), read=True)
        made = replace(made, warnings=())  # that nothing is saved
        title = ", ".join(path.name for path in paths)
        return _report(
            made, records, Recording(), listen, title=title, folder=recipe_folder(recipe), file=None
        )


def files_recipe(paths: Sequence[Path], family: str | None = None) -> Recipe:
    """The recipe, in the present folder, that loads each file and does nothing with it."""
    steps: dict[str, dict[str, JSON]] = {}
    for path in paths:
        options: dict[str, JSON] = {"load": literal(path.as_posix())}
        steps[step_id(path.stem, steps)] = options if family is None else {**options, "family": family}
    return parse(render(Draft(steps)), file="files.yaml")


def _report(
    plan: Plan,
    records: Records,
    recording: Recording,
    listen: Listener,
    *,
    title: str,
    folder: Path,
    file: Path | None,
) -> Report:
    imported("torch")
    from lorapipe.build.engines.threads import single_threaded_torch

    with single_threaded_torch():
        found = figured(plan, records, listen)
    files = tuple(_files(plan, records, recording))
    return Report(
        title=title,
        recipe=file,
        folder=folder,
        plan=plan,
        ran=dict(recording.ran),
        files=files,
        portraits=tuple(found.portraits),
        meetings=tuple(found.meetings),
        resized=tuple(_resized(plan, records, recording)),
        merged=tuple(found.merged),
        lost=tuple(_lost(plan)),
        checked=tuple(_checked(plan, records, recording)),
        errors=tuple(error.message for error in recording.errors),
        untold=tuple(found.untold),
        sweep=_sweep(plan, records, recording, files, found),
        many=many(plan),
    )


def _sweep(
    plan: Plan, records: Records, recording: Recording, files: Iterable[ReportFile], found: Figured
) -> Sweep | None:
    """What came of the variants: in the run that was recorded, and of files that are there."""
    came = {step: Came(ran.how) for step, ran in recording.ran.items()}
    came |= {f.step: Came(f.state, f.size, f.sha256) for f in files if f.output and f.size is not None}
    told = partial(noted, notes=recording.notes, records=records)
    failed = failing(plan, {step: ran.how for step, ran in recording.ran.items()})
    return swept(plan, came, told, failed=failed, measured=found.measured)


def _files(plan: Plan, records: Records, recording: Recording) -> Iterator[ReportFile]:
    """Inputs, then outputs, in the order of the plan."""
    for planned in plan.steps.values():
        if planned.source is not None:
            source = planned.source
            yield ReportFile(
                planned.step.id, source.path, False, source.size, source.sha256, source.certainty.value
            )
    for planned in plan.outputs:
        path = planned.output
        assert path is not None
        if planned.status is Status.UP_TO_DATE:
            state = "written" if planned.step.id in recording.written else "up to date"
            size, sha256 = records.size(path), records.digest(path, read=False)
            yield ReportFile(planned.step.id, path, True, size, sha256, state)
        else:
            yield ReportFile(planned.step.id, path, True, None, None, planned.status.value)


def _resized(plan: Plan, records: Records, recording: Recording) -> Iterator[Resized]:
    """What resizes and the like keep: as the run told it, or as the store remembers it."""
    for planned in plan.steps.values():
        if planned.kind.materialise is not Materialise.STORED:
            continue
        energy = noted(planned, notes=recording.notes, records=records).get("energy")
        if isinstance(energy, dict) and energy:
            yield Resized(planned.step.id, energy)


def _lost(plan: Plan) -> Iterator[Lost]:
    """The modules without a place that merges went on without; of many variants those of the first."""
    found, seen, of_many = merges(plan), set[str](), many(plan)
    for step, (below, loras) in found.items():
        written = plan.steps[step].step.written
        if step in of_many and written in seen:
            continue
        seen.add(written)
        base = plan.steps[below].spec
        assert isinstance(base, CheckpointSpec)
        for lora in dict.fromkeys(loras):
            adapter = plan.steps[lora].spec
            assert isinstance(adapter, AdapterSpec)
            for problem in bind(adapter, base, titles(), lora).problems:
                name = adapter.modules[problem.module].spelling.stem
                yield Lost(step, lora, name, problem.reason)


def _checked(plan: Plan, records: Records, recording: Recording) -> Iterator[Checked]:
    for planned in plan.steps.values():
        if planned.kind.materialise is not Materialise.CHECK:
            continue
        assert isinstance(planned.spec, CheckSpec)
        step = planned.step.id
        ran = recording.ran.get(step)
        kept = None if planned.key is None else records.shelf.read_figures(planned.key)
        holds = {Status.UP_TO_DATE: True, Status.FAILS: False}.get(planned.status)
        if ran is not None and ran.how == "does not hold":
            holds = False
        told = recording.noted(step, "holds") or recording.noted(step, "measured")
        told = told or (kept[0] if kept is not None else {})
        yield Checked(step, planned.spec.asserted, holds, told)
