"""``lorapipe inspect``: what a file of weights is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lorapipe.cli.completing import weights
from lorapipe.cli.options import WeightsPath

if TYPE_CHECKING:
    from lorapipe.build.looking.inspecting import Look
    from lorapipe.errors import UsageError
    from lorapipe.remote.url import Location

__all__ = ["command"]


@click.command("inspect")
@click.argument(
    "files", metavar="FILE...", nargs=-1, required=True, type=WeightsPath(), shell_complete=weights
)
@click.option("--family", help="The model family, where the names leave it open.")
@click.option("--hashes/--no-hashes", default=None, help="Hash the file; a LoRA is by default.")
@click.option("--norms/--no-norms", default=None, help="Measure the weights; those of a LoRA are by default.")
@click.option("--modules", is_flag=True, help="List every module with its figures, or every tensor.")
@click.option("--metadata", is_flag=True, help="List the metadata.")
@click.option("--spectrum", is_flag=True, help="Draw the singular values of a LoRA.")
@click.option("--png", type=click.Path(path_type=Path), help="Plot singular values and norms to a PNG file.")
@click.option("--svg", type=click.Path(path_type=Path), help="The same to an SVG file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON (schemas/inspection.v1.schema.json).")
def command(
    files: tuple[Location, ...],
    family: str | None,
    hashes: bool | None,
    norms: bool | None,
    modules: bool,
    metadata: bool,
    spectrum: bool,
    png: Path | None,
    svg: Path | None,
    as_json: bool,
) -> None:
    """Show what FILE, a folder or a URL, holds: family, ranks, training, hashes, norms.

    A LoRA is read whole, which takes seconds; with --no-hashes --no-norms only its header
    is, as of a checkpoint by default. Several files are a table, in JSON a list.
    """
    from rich.console import Console

    from lorapipe.build.looking.inspecting import look
    from lorapipe.views.inspection import print_metadata, print_modules, print_stage
    from lorapipe.views.inspection_json import inspection_json
    from lorapipe.views.spectrum import print_spectra
    from lorapipe.views.waiting import awaited

    plots = plot_files(png, svg)
    if len(files) > 1:
        if plots or spectrum or metadata or (modules and not as_json):
            raise _of_one(files)
        _several(files, family, hashes=hashes, norms=norms, modules=modules, as_json=as_json)
        return
    (file,) = files
    console = Console(highlight=False)
    stages = look(file, family, hashes=hashes, norms=norms, spectra=spectrum or bool(plots))
    for found in awaited(stages, "reading", Console(stderr=True, highlight=False)):
        if not as_json:
            print_stage(found, console)
    if plots:
        write_plots(found, plots)
    if as_json:
        click.echo(json.dumps(inspection_json(found, modules=modules, spectra=spectrum), indent=2))
        return
    if spectrum and found.figures is not None:
        print_spectra(found.inspection.spec.family, found.figures, console)
    if modules:
        print_modules(found, console)
    if metadata:
        print_metadata(found.inspection.metadata, console)


def _of_one(files: tuple[Location, ...]) -> UsageError:
    from lorapipe.errors import UsageError

    message = f"--modules, --metadata, --spectrum, --png and --svg are of one file, not of {len(files)}"
    return UsageError("one-file", message, hint="name one of them, or add --json for the modules of all")


def _several(
    files: tuple[Location, ...],
    family: str | None,
    *,
    hashes: bool | None,
    norms: bool | None,
    modules: bool,
    as_json: bool,
) -> None:
    """Show files beside each other; what is wrong with some is raised when the others are shown."""
    from rich.console import Console

    from lorapipe.build.looking.inspecting import look
    from lorapipe.errors import LorapipeError, gathered
    from lorapipe.views.inspection_json import inspection_json
    from lorapipe.views.inspections import inspections_table
    from lorapipe.views.tables import print_table
    from lorapipe.views.waiting import awaited

    looks, errors = [], list[LorapipeError]()
    waiting = Console(stderr=True, highlight=False)
    for file in files:
        try:
            *_, last = awaited(look(file, family, hashes=bool(hashes), norms=norms), "reading", waiting)
            looks.append(last)
        except LorapipeError as error:  # noqa: PERF203  # the others are looked at all the same
            errors.extend(error.parts)
    if as_json:
        click.echo(json.dumps([inspection_json(found, modules=modules) for found in looks], indent=2))
    elif looks:
        print_table(inspections_table(looks), Console(highlight=False))
    if errors:
        raise gathered(errors)


def plot_files(png: Path | None, svg: Path | None) -> tuple[Path, ...]:
    """The files to plot to; raises :class:`~lorapipe.errors.UsageError` ``not-a-plot`` for another suffix.

    Else a slip of the keyboard would write a picture over a model.
    """
    from lorapipe.errors import UsageError

    for path, suffix in ((png, ".png"), (svg, ".svg")):
        if path is not None and path.suffix.lower() != suffix:
            option = f"--{suffix[1:]}"
            message = f"{option} writes a file that ends in {suffix}, not '{path.name}'"
            raise UsageError("not-a-plot", message, hint=f"such as {path.stem}{suffix}")
    plots = tuple(path for path in (png, svg) if path is not None)
    if plots:
        from lorapipe.views.plots import figure_class

        figure_class()  # before anything is read
    return plots


def write_plots(found: Look, plots: tuple[Path, ...]) -> None:
    """Plot a LoRA's figures; raises :class:`~lorapipe.errors.UsageError` for what has none."""
    from lorapipe.errors import UsageError
    from lorapipe.views.plots import save_plot, spectrum_figure

    if not found.figures:
        message = f"'{found.inspection.path.name}' has no singular values to plot"
        raise UsageError("nothing-to-plot", message, hint="plots are of LoRAs")
    spec = found.inspection.spec
    drawn = spectrum_figure(spec.family, found.figures, found.inspection.path.name)
    for path in plots:
        save_plot(drawn, path)
