"""One file of an output folder, made as a task of its own, while other processes make the others.

    parts_of(planned)                        which there are: a pure function of the plan
    write_part(...) -> Written               each of them: anywhere, in any order, several at a time
    run_step(..., parts={name: Written})     once, when all have ended: the folder gets its name

The bytes are those that one process writes. A file is there wholly or not at all, so that whoever is
killed costs its own file alone, and a task that is done twice finds the file there. If none of the tasks ran,
``run_step`` makes all of the folder by itself.
"""

from __future__ import annotations

from pathlib import Path

from lorapipe.build.events import Note, Progress
from lorapipe.build.running.steps import Workshop, inputs_of, waiting_for
from lorapipe.build.running.values import Values
from lorapipe.errors import LorapipeError
from lorapipe.formats.containers.output import Written
from lorapipe.plan.parts import Part
from lorapipe.steps.kind import Context
from lorapipe.store.part_files import StagedPart

__all__ = ["write_part"]


def write_part(part: Part, values: Values, shop: Workshop) -> Written:
    """Make one file of an output folder, unless it is there; returns its bytes and sha256.

    ``values`` has those of what the step takes, which for a checkpoint are descriptions and
    cost nothing. Progress is told of the part: bytes of its own, under its step's id. Raises what the
    step raises, without its place in the recipe, :class:`~lorapipe.errors.InputError`
    ``input-changed`` where what was read is not what the plan was made of, and
    :class:`~lorapipe.errors.BuildError` ``disk-full``, ``output-unwritable`` or ``part-gone``.
    """
    planned = shop.plan.steps[part.step]
    assert isinstance(planned.output, Path)
    assert planned.key is not None
    assert planned.kind.work_part is not None
    waiting = waiting_for(planned, shop)
    with shop.records.stage_part(planned.output, part.name, planned.key, waiting) as staged:
        if staged.finished is not None:
            shop.listen(Progress(part.step, part.nbytes, part.nbytes, "bytes"))
            return Written(staged.finished.state.size, staged.finished.sha256)
        context = _context(part, staged, shop)
        try:
            inputs = inputs_of(planned, values)
            written = planned.kind.work_part(inputs, planned.step.params, context, part.name)
        except LorapipeError:
            shop.records.shelf.hold()  # a damaged result is no fault of the step that takes it
            raise
        # What was read from an input that changed must not be kept under the old input's key.
        shop.hold_inputs(planned)
        staged.finish(written.sha256)
    return written


def _context(part: Part, staged: StagedPart, shop: Workshop) -> Context:
    planned, done = shop.plan.steps[part.step], 0

    def wrote(count: int) -> None:
        nonlocal done
        done += count
        shop.listen(Progress(part.step, done, part.nbytes, "bytes"))

    return Context(
        device=shop.plan.device,
        compute=shop.plan.profile.compute,
        each=shop.crew.each(under_way=shop.means.share(planned).under_way),
        note=lambda fact, value: shop.listen(Note(part.step, fact, value)),
        wrote=wrote,
        create=staged.create,
        provenance=planned.provenance,
    )
