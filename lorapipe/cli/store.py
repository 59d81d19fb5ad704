"""``lorapipe store``: what is kept between builds, and for how long."""

from __future__ import annotations

import json
import sys

import click

from lorapipe.cli.completing import recipes
from lorapipe.cli.options import setting_option, settings_given

__all__ = ["command"]


@click.group("store", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Show, trim and check the store of results, which all recipes of a user share.

    LORAPIPE_STORE names its folder, LORAPIPE_STORE_SIZE the bytes that it may take (such as
    20GiB; by default 50GiB, on a small disk a tenth of it). Builds keep to that: what was not
    used for longest goes first.
    """


@command.command("path")
def path() -> None:
    """Print the store's folder."""
    from lorapipe.store.paths import store_root

    click.echo(store_root())


@command.command("ls")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON, sizes in bytes.")
def ls(as_json: bool) -> None:
    """List the results in the store, the last used first."""
    from lorapipe.build.upkeep import contents
    from lorapipe.views.store import contents_json, print_contents

    found = contents()
    if as_json:
        click.echo(json.dumps(contents_json(found), indent=2))
    else:
        print_contents(found)


@command.command("gc", short_help="Let go of what is beyond the store's size.")
@click.option(
    "--max-size", metavar="SIZE", help="What to keep at most, such as 10GiB; else the store's size."
)
@click.option("--older-than", metavar="AGE", help="Let go of what was not used for that long, such as 30d.")
@click.option("--dry-run", is_flag=True, help="Say what would go, and remove nothing.")
def gc(max_size: str | None, older_than: str | None, dry_run: bool) -> None:
    """Let go of results beyond the store's size, and of what killed builds left.

    Pinned results stay, and those that another process is at work on.
    """
    from lorapipe.build.upkeep import collect
    from lorapipe.cli.options import duration, memory_size
    from lorapipe.views.store import print_freed

    most = None if max_size is None else memory_size(max_size, "--max-size")
    unused = None if older_than is None else duration(older_than, "--older-than")
    print_freed(collect(most, unused, dry=dry_run), dry=dry_run)


@command.command("verify", short_help="Read every result again, drop damaged ones.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON, sizes in bytes.")
def verify(as_json: bool) -> None:
    """Read every result again, and drop those that are damaged; then the exit status is 8."""
    from rich.console import Console

    from lorapipe.build.upkeep import require_sound, verified
    from lorapipe.views.progress import progress_view
    from lorapipe.views.store import print_verified, verified_json

    with progress_view(Console(stderr=True, highlight=False), quiet=as_json) as listen:
        found = verified(listen)
    if as_json:
        click.echo(json.dumps(verified_json(found), indent=2))
    else:
        print_verified(found)
    sys.stdout.flush()
    require_sound(found)


@command.command("pin", short_help="Keep results whatever the store's size.")
@click.argument("what", metavar="RECIPE|KEY", shell_complete=recipes)
@setting_option
def pin(what: str, settings: tuple[str, ...]) -> None:
    """Keep the results of a recipe, or that of a key, whatever the store's size."""
    from lorapipe.build.upkeep import pin as keep
    from lorapipe.views.store import print_pinned

    print_pinned(keep(what, settings_given(settings)), "pinned")


@command.command("unpin", short_help="Undo pin.")
@click.argument("what", metavar="RECIPE|KEY", shell_complete=recipes)
@setting_option
def unpin(what: str, settings: tuple[str, ...]) -> None:
    """Let the results of a recipe, or that of a key, go as any other."""
    from lorapipe.build.upkeep import unpin as release
    from lorapipe.views.store import print_pinned

    print_pinned(release(what, settings_given(settings)), "not pinned any more")
