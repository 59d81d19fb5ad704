"""The benchmarks are no part of the installed package: they are imported from the checkout."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


def _import_from_checkout() -> None:
    folder = ROOT / "benchmarks"
    if not folder.is_dir():
        pytest.skip("no benchmarks beside these tests", allow_module_level=True)
    spec = importlib.util.spec_from_file_location(
        "benchmarks", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["benchmarks"] = module
    spec.loader.exec_module(module)


_import_from_checkout()


@pytest.fixture(scope="session")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one small run of the harness wrote: three works, one round, whatever peers there are."""
    folder = tmp_path_factory.mktemp("benchmarks")
    works = ("--only", "sd15-merge", "--only", "llama-merge", "--only", "sdxl-resize")
    where = ("--data", str(folder / "data"), "--out", str(folder / "out"), "--date", "2001-02-03")
    command = (sys.executable, "-m", "benchmarks", "--small", "--runs", "1", *works, *where)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "out"


@pytest.fixture
def row() -> Any:
    """Makes a contestant's row: ``row("name", (wall, cpu, peak), ...)``, more by keyword."""

    def make(name: str, *samples: tuple[float, float, float], **more: Any) -> Mapping[str, Any]:
        kept = [dict(zip(("wall", "cpu", "peak"), sample, strict=True)) for sample in samples]
        plain = {"name": name, "role": "peer", "note": "", "missing": "", "figures": {}, "size": None}
        return plain | {"samples": kept} | more

    return make
