"""One step at a time, outside a recipe: what the Python API is made of."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorapipe.build.engines.threads import default_workers, ordered_map, single_threaded_torch
from lorapipe.build.ownership import Ownership
from lorapipe.build.records import Records, Upload
from lorapipe.errors import RecipeError
from lorapipe.plan.device import torch_version
from lorapipe.plan.files import Folders, InputFile, find_input, identify
from lorapipe.plan.lineage import Lineage, Profile
from lorapipe.plan.make import Locked
from lorapipe.plan.overlaps import overlap
from lorapipe.plan.provenance import account, output_key, source_date
from lorapipe.plan.resolve import lineage_of
from lorapipe.recipe.model import Step
from lorapipe.remote.targets import check_writable
from lorapipe.remote.url import Location, Url, is_url, parse_url
from lorapipe.steps import find_kind
from lorapipe.steps.kind import Context, Inputs, Kind, Weighted
from lorapipe.store.atomic import Staged
from lorapipe.store.folders import StagedFolder
from lorapipe.store.journal import Making
from lorapipe.store.uploads import StagedObject, StagedObjects
from lorapipe.weights.specs import FileSpec

if TYPE_CHECKING:
    from lorapipe.weights.algebra.adapter import Adapter
    from lorapipe.weights.checkpoints.checkpoint import Checkpoint

__all__ = ["Given", "Weights", "check_single", "save_single", "single_step"]

_PROFILE = Profile(torch=torch_version(), device="cpu", compute="float64")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Weights:
    """A LoRA or a checkpoint, and how it came to be, for the provenance of what is saved.

    ``value`` is a :class:`~lorapipe.weights.algebra.adapter.Adapter`, whose ``modules`` are the
    deltas, or a :class:`~lorapipe.weights.checkpoints.checkpoint.Checkpoint`, which stays on the disk.
    """

    value: Adapter | Checkpoint
    lineage: Lineage
    files: frozenset[Location] = frozenset()
    """The files that it came from, and may still read."""

    def __repr__(self) -> str:
        spec = self.value.spec
        count = f"{len(self.value.modules)} modules" if hasattr(self.value, "modules") else "checkpoint"
        return f"<Weights: {spec.family or 'unknown family'}, {count}>"

    def _repr_html_(self) -> str:
        """For a notebook: what it is, and of a LoRA its blocks."""
        from lorapipe.views.notebook import spec_html

        return spec_html(self.value.spec)


Given = Mapping[str, Sequence[tuple[Weights, float]]]
"""What a step is given: by port, in order, each with its weight."""


def single_step(step: Step, given: Given) -> Weights:
    """Do one step that makes a value, on the CPU in float64; the store is not used.

    Raises what the kind's ``infer`` and ``work`` raise.
    """
    kind = find_kind(step.kind)
    source = _input_file(step)
    files = {} if source is None else {"load": source.path}
    kind.infer(_inputs(step, given, files, lambda value: value.spec), step.params)
    with single_threaded_torch():
        value = kind.work(_inputs(step, given, files, lambda value: value), step.params, _context())
    if source is not None:
        with Records(looking=False) as records:
            records.hold(source)
    read = frozenset(files.values()).union(*(w.files for terms in given.values() for w, _ in terms))
    return Weights(value, _lineage(step, kind, given, source), read)


def check_single(step: Step, given: Given) -> Mapping[str, Any]:
    """Do one step that asserts something; returns its figures. Nothing is kept.

    Raises what the kind's ``infer`` and ``work`` raise.
    """
    kind = find_kind(step.kind)
    kind.infer(_inputs(step, given, {}, lambda value: value.spec), step.params)
    with single_threaded_torch():
        figures: Mapping[str, Any] = kind.work(
            _inputs(step, given, {}, lambda value: value), step.params, _context()
        )
    return figures


def save_single(step: Step, given: Given) -> Location:
    """Do a ``save`` step; the file is written and entered in the journal as a build's are.

    A URL is taken wherever it leads: who calls this is no stranger's recipe.

    Raises :class:`~lorapipe.errors.BuildError` ``foreign-file`` where a file is that
    lorapipe did not write, :class:`~lorapipe.errors.RecipeError` ``output-is-input``,
    ``remote-read-only``.
    """
    kind = find_kind(step.kind)
    path = _target(str(step.params["to"]))
    clash = overlap(path, {str(name): name for w, _ in given["save"] for name in w.files})
    if clash is not None:
        how, loaded = clash
        message = f"this would {how.value} '{loaded}', which was loaded"
        raise RecipeError("output-is-input", message, hint="write to another name")
    specs = _inputs(step, given, {"to": path}, lambda value: value.spec)
    foretold = kind.infer(specs, step.params)
    assert isinstance(foretold, FileSpec)
    hidden = specs.one("save").hidden
    folder = bool(foretold.files)
    lineage, date = _lineage(step, kind, given, None), source_date(os.environ)
    key, preimage, said = output_key(lineage, _PROFILE, path, hidden, folder=folder, date=date)
    with Records(looking=False) as records:
        ownership = Ownership(records, Locked())
        ownership.check(path, foretold)
        with _staged(records, path, foretold) as staged, single_threaded_torch():
            inputs = _inputs(step, given, {"to": path}, lambda value: value)
            saved = kind.work(inputs, step.params, _context(staged, said))
            ownership.publish(staged, saved, key, Making(preimage, account(lineage, _PROFILE), key))
    return path


def _target(name: str) -> Location:
    if not is_url(name):
        return Path(os.path.abspath(name))  # noqa: PTH100  # a link is replaced, not followed
    url = parse_url(name)
    check_writable(url)
    return url


def _unheard(count: int) -> None:
    pass


def _staged(records: Records, path: Location, spec: FileSpec) -> Staged | StagedFolder | Upload:
    if isinstance(path, Url):
        return records.stage_upload(path, spec, sent=_unheard, force=False)
    return records.stage(path, spec)


def _input_file(step: Step) -> InputFile | None:
    if step.kind != "load":
        return None
    pin = None if "sha256" not in step.params else str(step.params["sha256"])
    with Records(looking=False) as records:
        path = find_input(str(step.params["load"]), pin, Folders(Path.cwd()), records.digests)
        variant = None if "variant" not in step.params else str(step.params["variant"])
        return identify(path, pin, None, records.digests, read=True, variant=variant)


def _inputs(
    step: Step, given: Given, files: Mapping[str, Location], view: Callable[[Any], Any]
) -> Inputs[Any]:
    ports = {
        port: tuple(
            Weighted(term.step, term.weight, view(w.value))
            for term, (w, _) in zip(terms, given[port], strict=True)
        )
        for port, terms in step.inputs.items()
    }
    return Inputs(ports, files)


def _lineage(step: Step, kind: Kind, given: Given, source: InputFile | None) -> Lineage:
    inputs = {port: tuple((weight, w.lineage) for w, weight in terms) for port, terms in given.items()}
    return lineage_of(step, kind, inputs, source)


def _context(
    output: Staged | StagedFolder | Upload | None = None, said: Mapping[str, str] | None = None
) -> Context:
    return Context(
        each=ordered_map(default_workers()),
        output=output.file if isinstance(output, Staged | StagedObject) else None,
        create=output.create if isinstance(output, StagedFolder | StagedObjects) else None,
        provenance=said or {},
    )
