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

    LORAPIPE_SHARED_STORE names a store that a team shares behind it: s3://bucket/prefix,
    gs://bucket/prefix, or file:///folder of a file server. LORAPIPE_STORE may name that as well.
    """


@command.command("path")
def path() -> None:
    """Print the store's folder."""
    from lorapipe.store.paths import store_root

    click.echo(store_root())


@command.command("ls")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON, sizes in bytes.")
def ls(as_json: bool) -> None:
    """List the results in the store, the last used first.

    Of a shared store it says how many results it has, and of how many bytes.
    """
    from lorapipe.build.shared_upkeep import shared_contents
    from lorapipe.build.upkeep import contents
    from lorapipe.views.store import contents_json, print_contents

    found, shared = contents(), shared_contents()
    if as_json:
        click.echo(json.dumps(contents_json(found, shared), indent=2))
    else:
        print_contents(found, shared)


@command.command("gc", short_help="Let go of what is beyond the store's size.")
@click.option(
    "--max-size", metavar="SIZE", help="What to keep at most, such as 10GiB; else the store's size."
)
@click.option("--older-than", metavar="AGE", help="Let go of what was not used for that long, such as 30d.")
@click.option("--dry-run", is_flag=True, help="Say what would go, and remove nothing.")
@click.option("--shared", is_flag=True, help="Of the shared store; what is younger than a day stays.")
def gc(max_size: str | None, older_than: str | None, dry_run: bool, shared: bool) -> None:
    """Let go of results beyond the store's size, and of what killed builds left.

    Pinned results stay, and those that another process is at work on. The shared store is
    everybody's: with --shared nothing goes that is not asked for, and age counts from when a
    result was given.
    """
    from lorapipe.build.shared_upkeep import collect_shared
    from lorapipe.build.upkeep import collect
    from lorapipe.cli.options import duration, memory_size
    from lorapipe.views.store import print_freed, print_shared_freed

    most = None if max_size is None else memory_size(max_size, "--max-size")
    unused = None if older_than is None else duration(older_than, "--older-than")
    if shared:
        print_shared_freed(collect_shared(most, unused, dry=dry_run), dry=dry_run)
    else:
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


@command.command("push", short_help="Give results to the shared store.")
@click.argument("what", metavar="RECIPE|KEY", shell_complete=recipes)
@setting_option
def push(what: str, settings: tuple[str, ...]) -> None:
    """Give the results of a recipe, or that of a key, to the shared store.

    A build does so by itself with what it makes; this is for what was made before, and for
    jobs that are to fail if not all of it can be given.
    """
    from rich.console import Console

    from lorapipe.build.shared_upkeep import push as give
    from lorapipe.views.progress import progress_view
    from lorapipe.views.store import print_moved

    with progress_view(Console(stderr=True, highlight=False)) as listen:
        moved = give(what, settings_given(settings), listen)
    print_moved(moved, "given")


@command.command("pull", short_help="Fetch results from the shared store.")
@click.argument("what", metavar="RECIPE|KEY", shell_complete=recipes)
@setting_option
def pull(what: str, settings: tuple[str, ...]) -> None:
    """Fetch the results of a recipe from the shared store, as before a journey.

    A build does so by itself with what it needs.
    """
    from lorapipe.build.shared_upkeep import pull as fetch
    from lorapipe.views.store import print_moved

    print_moved(fetch(what, settings_given(settings)), "fetched")
