"""The peers that come from PyPI: which release, where it is, how it gets there."""

from __future__ import annotations

import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PEERS", "Peer", "Place", "find", "install"]

_TORCH = "torch==2.13.0"
_TRANSFORMERS = "transformers==5.23.0"
_PEFT = "0.21.2"
_VERSION = "import importlib.metadata as m; print(m.version({0!r}), m.version('torch'))"


@dataclass(frozen=True, slots=True)
class Peer:
    """A release on PyPI, and what it is to be installed with."""

    package: str
    version: str
    also: tuple[str, ...] = (_TORCH,)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a peer runs: its Python and versions; or why it does not."""

    python: str = ""
    version: str = ""
    torch: str = ""
    missing: str = ""


PEERS = {
    "sd-mecha": Peer("sd-mecha", "1.1.8"),
    # Its merge of a LoRA is PEFT's, on transformers' models: releases that work together.
    "mergekit": Peer("mergekit", "0.1.5", (_TORCH, _TRANSFORMERS, f"peft=={_PEFT}")),
    "peft": Peer("peft", _PEFT, (_TORCH, _TRANSFORMERS)),
}


def find(name: str, folder: Path) -> Place:
    """The peer in its own environment under ``folder``, else in this one."""
    peer = PEERS[name]
    failed = folder / f"{name}.failed"
    for python in (folder / name / "bin" / "python", Path(sys.executable)):
        if not python.exists():
            continue
        asked = [str(python), "-c", _VERSION.format(peer.package)]
        answer = subprocess.run(asked, capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            version, torch = answer.stdout.split()
            return Place(str(python), version, torch)
    return Place(missing=failed.read_text(encoding="utf-8") if failed.exists() else "not installed")


def install(folder: Path) -> list[str]:
    """Make an environment for each peer; a line for each says how it went.

    One that cannot be installed leaves its reason behind for :func:`find`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    told = []
    for name, peer in PEERS.items():
        failed = folder / f"{name}.failed"
        failed.unlink(missing_ok=True)
        venv.create(folder / name, with_pip=True, clear=True)
        pip = [str(folder / name / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        wanted = [f"{peer.package}=={peer.version}", *peer.also]
        answer = subprocess.run([*pip, *wanted], capture_output=True, text=True, check=False)
        if answer.returncode:
            last = answer.stderr.strip().splitlines()[-1][:120] if answer.stderr.strip() else "pip failed"
            failed.write_text(f"not installable: {last}", encoding="utf-8")
        told.append(f"{wanted[0]}: {'installed' if not answer.returncode else last}")
    return told
