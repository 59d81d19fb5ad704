"""The commands by name; each lives in a module of its own, imported on use."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import click

from lorapipe.cli.failures import run_command
from lorapipe.cli.stopping import stoppable
from lorapipe.recipe.suggest import did_you_mean
from lorapipe.version import __version__

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["COMMANDS", "SECTIONS", "cli", "main"]

SECTIONS: Mapping[str, Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "Build": {
            "run": ("lorapipe.cli.run", "Build the files that a recipe names."),
            "plan": ("lorapipe.cli.plan", "Show what run would do, reading headers only."),
            "explain": ("lorapipe.cli.explain", "Say why a step would run, or would not."),
            "status": ("lorapipe.cli.status", "Tell how files and steps stand against lock and disk."),
            "lock": ("lorapipe.cli.lock", "Write down what a build is made of, without building."),
        },
        "One line": {
            "concat": ("lorapipe.cli.concat", "Add LoRAs exactly."),
            "resize": ("lorapipe.cli.resize", "Bring a LoRA to a smaller rank."),
            "merge": ("lorapipe.cli.merge", "Merge LoRAs into a checkpoint."),
            "extract": ("lorapipe.cli.extract", "Make a LoRA of the difference of two checkpoints."),
        },
        "Look": {
            "inspect": ("lorapipe.cli.inspect", "Tell what a LoRA or checkpoint file holds."),
            "report": ("lorapipe.cli.report", "Draw a page: the build, norms, ranks, who fights whom."),
            "diff": ("lorapipe.cli.diff", "Compare two LoRAs, checkpoints or recipes."),
            "graph": ("lorapipe.cli.graph", "Draw a recipe's steps as mermaid or dot."),
        },
        "Trust and store": {
            "verify": ("lorapipe.cli.verify", "Hold outputs against the lock; build them again to compare."),
            "recover": ("lorapipe.cli.recover", "Print the recipe that built a file."),
            "attest": ("lorapipe.cli.attest", "State, signed, how files were built; verify it."),
            "store": ("lorapipe.cli.store", "Show, trim and check what is kept between builds."),
        },
        "Write recipes": {
            "init": ("lorapipe.cli.init", "Write a recipe for a job from the files that are here."),
            "validate": ("lorapipe.cli.validate", "Check recipes; no input need exist."),
            "steps": ("lorapipe.cli.steps", "List the step kinds, or explain one."),
            "import": ("lorapipe.cli.import_", "Turn a command of kohya's scripts into a recipe."),
            "fmt": ("lorapipe.cli.fmt", "Bring recipes into one form, comments kept."),
            "schema": ("lorapipe.cli.schema", "Print or write the recipe schema for editors."),
            "completion": ("lorapipe.cli.completion", "Print what makes bash, zsh or fish complete."),
        },
    }
)
"""Section of the help -> name -> (module, summary). The module's ``command`` is the command."""

COMMANDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {name: row for section in SECTIONS.values() for name, row in section.items()}
)


_COLLECT_AFTER = 500_000
"""Objects made before garbage is looked for; Python's own default is 700."""


class LazyGroup(click.Group):
    """A group that knows names and summaries, and imports a command to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in COMMANDS:
            return None
        return cast(click.Command, import_module(COMMANDS[cmd_name][0]).command)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[Any]]:
        from click.shell_completion import CompletionItem

        begun = [name for name in COMMANDS if name.startswith(incomplete)]
        named = [CompletionItem(name, help=COMMANDS[name][1]) for name in begun]
        return [*named, *click.Command.shell_complete(self, ctx, incomplete)]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            hint = did_you_mean(args[0], COMMANDS) or f"the commands are {', '.join(COMMANDS)}"
            raise click.UsageError(f"no command '{args[0]}' - {hint}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        with stoppable():
            return super().invoke(ctx)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """One screen: what click says of a group takes half of one before the first command."""
        formatter.write_usage(ctx.command_path, "[-h | --version] COMMAND ...")
        formatter.write_text(f"{self.help} See also: lorapipe COMMAND --help")
        formatter.write_paragraph()
        self.format_commands(ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        for title, section in SECTIONS.items():
            formatter.write(f"{title}:\n")
            with formatter.indentation():
                formatter.write_dl([(name, summary) for name, (_, summary) in section.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lorapipe", message="%(prog)s %(version)s")
def cli() -> None:
    """Same recipe, same LoRA, byte for byte."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status."""
    # Headers and specs are many small objects and no cycles: looking for some took an
    # eighth of the time of a plan on ten LoRAs.
    gc.set_threshold(_COLLECT_AFTER, 20, 100)
    # Nor is any looked for at the end, when all goes: that took as long again, and with torch 0.2 s.
    atexit.register(gc.freeze)
    return run_command(cli, arguments)
