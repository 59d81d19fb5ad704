"""``lorapipe attest``: a statement of how files were built, signed if asked for, and its verification."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from lorapipe.cli.options import Asked, build_options

__all__ = ["command"]

_PASSWORD = "LORAPIPE_KEY_PASSWORD"  # noqa: S105  # the variable's name


@click.command("attest")
@build_options
@click.option("--with-dependencies", is_flag=True, help="Tell recipe and inputs even after a shuffle.")
@click.option("--builder", metavar="URI", help="Who built it; by default lorapipe on somebody's own machine.")
@click.option(
    "--key",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Sign with this private key (PEM; Ed25519, ECDSA); to verify, the signer's public key.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write to this file instead of printing.",
)
@click.option("--verify", is_flag=True, help="RECIPE is an attestation: hold it against its files.")
@click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    help="To verify: the folder of the files, if not the attestation's.",
)
def command(
    asked: Asked,
    with_dependencies: bool,
    builder: str | None,
    key: Path | None,
    output: Path | None,
    verify: bool,
    root: Path | None,
) -> None:
    """State how the outputs of RECIPE, or one output, were built; or verify such a statement.

    It is in-toto's Statement with SLSA provenance: outputs and inputs by sha256, the recipe, the
    numbers' profile. Nothing is built, and outputs that are not what the lock says are refused.
    After a shuffle it tells neither recipe nor inputs. With --key it is a signed DSSE envelope.
    """
    if verify:
        _verify(asked.recipe, root, key)
        return
    from lorapipe.build.proving.envelopes import private_key, sign
    from lorapipe.build.proving.statements import BUILDER, statement_bytes
    from lorapipe.store.atomic import atomic_write

    # Before anything is hashed: a key that is none is known at once.
    signer = None if key is None else private_key(key, os.environ.get(_PASSWORD))
    made = statement_bytes(_statement(asked, builder or BUILDER, with_dependencies))
    text = made if signer is None else sign(made, signer)
    if output is None:
        click.echo(text.decode(), nl=False)
        return
    with atomic_write(output, label="attestation") as stream:
        stream.write(text)


def _statement(asked: Asked, builder: str, with_dependencies: bool) -> dict[str, Any]:
    from rich.console import Console

    from lorapipe.build.proving.attestation import attest_output, attest_recipe, is_output
    from lorapipe.views.progress import progress_view

    with progress_view(Console(stderr=True, highlight=False)) as listen:
        if is_output(asked.recipe):
            return attest_output(asked.recipe, builder=builder, listen=listen)
        return attest_recipe(
            asked.load(), asked.options(), builder=builder, with_dependencies=with_dependencies, listen=listen
        )


def _verify(path: Path, root: Path | None, key: Path | None) -> None:
    from rich.console import Console

    from lorapipe.build.proving.attestation import verify_attestation
    from lorapipe.build.proving.envelopes import public_key
    from lorapipe.views.attestation import print_verified

    found = verify_attestation(path, root, None if key is None else public_key(key))
    print_verified(found, Console(highlight=False))
