"""A build is kept within the memory it is given, measured on the process as a whole."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from benchmarks.large import Size, make_adapter, make_model

MIB = 1 << 20
GIVEN = 512

RUN = """
import sys
from lorapipe.cli import main
try:
    sys.exit(main())
finally:
    with open("/proc/self/status") as status:
        print("peak", next(line for line in status if line.startswith("VmHWM")).split()[1], file=sys.stderr)
"""

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc to measure with")


def lora(path: Path, modules: int, size: int, rank: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    tensors = {}
    for number in range(modules):
        stem = f"blocks.{number}.proj"
        tensors[f"{stem}.lora_up.weight"] = rng.standard_normal((size, rank), np.float32).astype(np.float16)
        tensors[f"{stem}.lora_down.weight"] = rng.standard_normal((rank, size), np.float32).astype(np.float16)
    save_file(tensors, path)


def run(folder: Path, *options: str) -> int:
    """Run the recipe in ``folder`` with an empty store; the peak in MiB."""
    environment = {**os.environ, "LORAPIPE_STORE": str(folder / "store"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", RUN, "run", "r.yaml", "--workers", "8", "-q", *options]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stderr.split("peak ")[1].split()[0]) // 1024


def merge_of_large_tensors(folder: Path) -> None:
    weights = {f"blocks.{n}.proj.weight": np.full((8192, 6144), n + 1, np.float16) for n in range(2)}
    save_file(weights, folder / "base.safetensors")
    rng, tensors = np.random.default_rng(1), {}
    for number in range(2):
        tensors[f"blocks.{number}.proj.lora_up.weight"] = rng.standard_normal((8192, 8)).astype(np.float16)
        tensors[f"blocks.{number}.proj.lora_down.weight"] = rng.standard_normal((8, 6144)).astype(np.float16)
    save_file(tensors, folder / "a.safetensors")
    (folder / "r.yaml").write_text(
        "lorapipe: 1\nsteps:\n  base: {load: base.safetensors, as: checkpoint}\n  a: {load: a.safetensors}\n"
        "  m: {merge-into-checkpoint: base, loras: {a: 0.01}}\n  o: {save: m, to: o.safetensors}\n"
    )


def resize_with_a_large_result(folder: Path) -> None:
    for name in ("a", "b"):
        lora(folder / f"{name}.safetensors", 90, 4096, 48, ord(name))
    (folder / "r.yaml").write_text(
        "lorapipe: 1\nsteps:\n  a: {load: a.safetensors}\n  b: {load: b.safetensors}\n"
        "  c: {concat: [a, b]}\n  s: {svd-resize: c, rank: 64}\n  o: {save: s, to: o.safetensors}\n"
    )


def extraction_of_many_modules_at_once(folder: Path) -> None:
    rng = np.random.default_rng(2)
    for name in ("base", "tuned"):
        weights = {f"blocks.{n}.proj.weight": rng.standard_normal((640, 640), np.float32) for n in range(30)}
        save_file(weights, folder / f"{name}.safetensors")
    (folder / "r.yaml").write_text(
        "lorapipe: 1\nsteps:\n  base: {load: base.safetensors, as: checkpoint}\n"
        "  tuned: {load: tuned.safetensors, as: checkpoint}\n"
        "  x: {extract-lora: tuned, base: base, rank: 16}\n  o: {save: x, to: o.safetensors}\n"
    )


@pytest.mark.parametrize(
    "job", [merge_of_large_tensors, resize_with_a_large_result, extraction_of_many_modules_at_once]
)
def test_the_limit_is_kept_and_the_bytes_are_the_same(job: Callable[[Path], None], tmp_path: Path) -> None:
    job(tmp_path)
    freely = run(tmp_path)
    first = (tmp_path / "o.safetensors").read_bytes()
    for path in (tmp_path / "o.safetensors", tmp_path / "r.lock"):
        path.unlink()
    (tmp_path / "store").rename(tmp_path / "store-1")
    kept = run(tmp_path, "--memory", f"{GIVEN}MiB")
    assert kept <= GIVEN
    assert freely > GIVEN, "the job is too small to show anything"
    assert (tmp_path / "o.safetensors").read_bytes() == first


def test_a_model_of_five_times_the_size_takes_the_same_memory(tmp_path: Path) -> None:
    """Shards of Wan, an eighth as wide, whose data are holes: 60 MB and 240 MB."""
    peaks, sizes = [], []
    for layers in (2, 10):
        folder = tmp_path / str(layers)
        folder.mkdir()
        size = Size(layers, divide=8)
        model, lora = (
            make_model(folder, "wan-14b", size),
            make_adapter(folder, "wan-14b", 16, size, empty=False),
        )
        (folder / "r.yaml").write_text(
            f"lorapipe: 1\nsteps:\n  base: {{load: {model.name}/}}\n  a: {{load: {lora.name}}}\n"
            "  m: {merge-into-checkpoint: base, loras: a}\n  o: {save: m, to: o/, shard-size: 20MB}\n"
        )
        peaks.append(run(folder, "--memory", f"{GIVEN}MiB"))
        sizes.append(sum(path.stat().st_size for path in (folder / "o").glob("*.safetensors")) // MIB)
    assert sizes[1] > sizes[0] + 150
    assert max(peaks) <= GIVEN
    assert peaks[1] - peaks[0] < 50
