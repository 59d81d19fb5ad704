"""What workers tell of themselves before any work, and what of it stands in the way.

First each says which versions it has, in a message that any version can read; then it plans the
job, and tries what it will need: the store, the folders of the outputs, the device.
"""

from __future__ import annotations

import asyncio
import platform
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from lorapipe.build.cluster.job import Job
from lorapipe.build.cluster.reach import Mark, reached
from lorapipe.build.cluster.station import means_on, station_of
from lorapipe.errors import BuildError, LorapipeError, gathered
from lorapipe.store.shared.reach import Token
from lorapipe.version import __version__

if TYPE_CHECKING:
    from distributed import Worker

__all__ = ["Trouble", "introduce", "prepare", "refuse", "versions", "wrong_versions"]

_PACKAGES = ("torch", "distributed")


@dataclass(frozen=True, slots=True)
class Trouble:
    """An error on the worker at ``address``, or at the scheduler's."""

    address: str
    error: LorapipeError


def versions() -> dict[str, str]:
    """What has to be the same wherever a build's work is done, by name."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"lorapipe": __version__, "Python": python} | {name: _version(name) for name in _PACKAGES}


def _version(package: str) -> str:
    try:
        return version(package).partition("+")[0]
    except PackageNotFoundError:
        return "missing"


def introduce() -> dict[str, str]:
    """A worker's versions, and its ``host``: run on each."""
    return {**versions(), "host": socket.gethostname()}


def wrong_versions(address: str, theirs: Mapping[str, str], ours: Mapping[str, str]) -> Iterator[Trouble]:
    """What is of another version there than here."""
    other = [name for name in ours if theirs.get(name) != ours[name]]
    if other:
        told = ", ".join(f"{name} is {theirs[name]} there, {ours[name]} here" for name in other)
        hint = "install the same versions on all machines: the bits depend on them"
        yield Trouble(address, BuildError("versions-differ", told, hint=hint))


async def prepare(job: Job, marks: tuple[Mark | Token, ...], dask_worker: Worker) -> list[LorapipeError]:
    """Plan a job on a worker, and see what of its needs is not there: run on each."""
    return await asyncio.to_thread(_prepared, job, marks, dask_worker)


def _prepared(job: Job, marks: tuple[Mark | Token, ...], worker: Worker) -> list[LorapipeError]:
    errors = [error for mark in marks for error in reached(mark)]
    try:
        planned = station_of(worker).accept(job)
        planned.records.probe()
        limit = worker.memory_manager.memory_limit
        means_on(planned.job, worker.state.nthreads, 1, limit).check(planned.plan)
    except LorapipeError as error:
        errors += error.parts
    return errors


def refuse(found: Iterable[Trouble], hosts: Mapping[str, str]) -> None:
    """Raise what is wrong, one error for all workers that say the same; nothing if nothing is."""
    alike: dict[tuple[Any, ...], tuple[LorapipeError, list[str]]] = {}
    for trouble in found:
        error = trouble.error
        said = (type(error), error.code, error.message, error.hint, error.where, error.details)
        alike.setdefault(said, (error, []))[1].append(trouble.address)
    for error, addresses in alike.values():
        error.details = (*error.details, *(f"on {named(address, hosts)}" for address in addresses))
    if alike:
        raise gathered([error for error, _ in alike.values()])


def named(address: str, hosts: Mapping[str, str]) -> str:
    """A worker as its user may know it."""
    return f"{address} ({hosts[address]})" if address in hosts else address
