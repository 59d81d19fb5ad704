"""An attestation that was verified, line by line."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from lorapipe.build.proving.attestation import Verified
from lorapipe.views.text import visible

__all__ = ["print_verified"]


def print_verified(found: Verified, console: Console) -> None:
    """Print the files that are as the attestation says, and how far that can be trusted."""
    lines = [f"{name}: as it was built" for name in found.files]
    lines.append(f"built by {found.builder}")
    if not found.signed:
        lines.append("not checked who says so: --key PUB.pem checks the signature")
    for line in lines:
        console.print(Text(visible(line)), soft_wrap=not console.is_terminal)
