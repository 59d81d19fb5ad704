"""``python -m benchmarks.rates``: what the model of n machines is made of, measured on one.

CPU seconds, which other work on the machine changes little, and of the disk the best of some tries. What
a merge costs for a byte is the difference of two runs of the same model, with few layers and with more, so
that what each run costs beside is not in it; what a task costs beside its bytes is measured on a model
with all its tensors and next to no bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import mmap
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks.large import LARGE, Size, make_adapter, make_model
from benchmarks.layouts import tensors
from benchmarks.machine import facts
from benchmarks.making import size
from benchmarks.measure import Sample, apart, measure

__all__ = ["FILE", "main"]

FILE = Path(__file__).parent / "rates.json"

_LAYERS = {"llama-70b": (1, 5), "qwen-image": (2, 12), "wan-14b": (1, 6)}
_RANK = 32
_RECIPE = """lorapipe: 1
steps:
  base: {{load: {model}/}}
  lora: {{load: {lora}}}
  merged: {{merge-into-checkpoint: base, loras: lora}}
  out: {{save: merged, to: out/, shard-size: {shard}}}
"""
_RESIZE = """lorapipe: 1
steps:
  lora: {{load: {lora}}}
  small: {{svd-resize: lora, rank: 16}}
  out: {{save: small, to: out.safetensors}}
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write the figures down."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rates", description=__doc__)
    parser.add_argument("--data", type=Path, help="a folder on the disk to measure, with 12 GB of room")
    parser.add_argument("--out", type=Path, default=FILE, help=f"default: {FILE.name} beside this program")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="rates-", dir=asked.data) as scratch:
        folder = Path(scratch)
        found = {
            "machine": facts(folder),
            "date": datetime.now(timezone.utc).date().isoformat(),
            "rank": _RANK,
            "hash": _hash(),
            "disk": _disk(folder),
            "start": _start(folder),
            "resize": _resize(folder),
            "models": {name: _model(folder, name) for name in LARGE},
        }
    asked.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 0


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _least(function: Callable[[], float], times: int = 3) -> float:
    return min(function() for _ in range(times))


def _hash() -> float:
    """CPU seconds to hash a gigabyte."""
    piece, count = bytes(1 << 20), 500

    def once() -> float:
        begun, digest = time.process_time(), hashlib.sha256()
        for _ in range(count):
            digest.update(piece)
        return (time.process_time() - begun) * 1e9 / (count << 20)

    return _least(once)


def _disk(folder: Path) -> dict[str, float]:
    """Bytes a second that the disk under a folder writes and reads, past the page cache."""
    path, piece, count = folder / "disk", mmap.mmap(-1, 1 << 22), 256
    piece.write(os.urandom(1 << 22))

    def timed(flags: int, move: Callable[[int], object]) -> float:
        fd = os.open(path, flags | os.O_DIRECT, 0o600)
        try:
            begun = time.perf_counter()
            for _ in range(count):
                move(fd)
            os.fsync(fd)
            return time.perf_counter() - begun
        finally:
            os.close(fd)

    nbytes = count << 22
    written = _least(lambda: timed(os.O_WRONLY | os.O_CREAT, lambda fd: os.write(fd, piece)))
    read = _least(lambda: timed(os.O_RDONLY, lambda fd: os.readv(fd, [piece])))
    path.unlink()
    return {"write": nbytes / written, "read": nbytes / read}


def _start(folder: Path) -> float:
    """CPU seconds of a process that imports what work needs: a worker, once."""
    code = "import torch, networkx, lorapipe.build.running.executor, lorapipe.weights.checkpoints.checkpoint"
    return _least(lambda: _python(folder, "-c", code).cpu)


def _resize(folder: Path) -> float:
    """CPU seconds to bring a Qwen-Image LoRA's modules of one block from rank 64 to 16."""

    def cpu(layers: int) -> float:
        lora = make_adapter(folder, "qwen-image", 64, Size(layers), empty=False)
        (folder / "r.yaml").write_text(_RESIZE.format(lora=lora.name))
        spent = _lorapipe(folder, "run", "r.yaml").cpu
        _clear(folder)
        return spent

    few, more = 1, 4
    return (cpu(more) - cpu(few)) / (more - few)


def _model(folder: Path, name: str) -> dict[str, Any]:
    _tell(name)
    few, more = (_merge(folder, name, Size(layers, divide=2)) for layers in _LAYERS[name])
    return {
        "bytes": sum(map(size, tensors(name).values())),
        "shards": len(list(make_model(folder, name).rglob("*.safetensors"))),
        "merge": (more["cpu"] - few["cpu"]) * 1e9 / (more["bytes"] - few["bytes"]),
        "peak": more["peak"],
        "plan": _plan(folder, name),
        **_tasks(folder, name),
    }


def _merge(folder: Path, name: str, part: Size) -> dict[str, float]:
    """A merge within 512 MiB, its inputs hashed before."""
    nbytes = _recipe(folder, name, part)
    _lorapipe(folder, "plan", "--hash", "r.yaml")
    run = _lorapipe(folder, "run", "--memory", "512MiB", "r.yaml")
    _clear(folder)
    _tell(f"  {part}: {nbytes / 1e9:.2f} GB, {run.cpu:.1f} s of CPU, {run.wall:.1f} s, {run.peak >> 20} MiB")
    return {"bytes": nbytes, "cpu": run.cpu, "peak": run.peak}


def _recipe(folder: Path, name: str, part: Size) -> int:
    """Write the recipe of a merge of part of a model; returns the bytes of its tensors."""
    model = make_model(folder, name, part)
    lora = make_adapter(folder, name, _RANK, part, empty=False)
    index = json.loads(next(model.rglob("*.index.json")).read_text(encoding="utf-8"))
    nbytes: int = index["metadata"]["total_size"]
    shard = max(LARGE[name].shard * nbytes // sum(map(size, tensors(name).values())), 1)
    text = _RECIPE.format(model=model.name, lora=f"{lora.name}/" if lora.is_dir() else lora.name, shard=shard)
    (folder / "r.yaml").write_text(text)
    return nbytes


def _plan(folder: Path, name: str) -> float:
    """CPU seconds of the plan at full size: what a scheduler does first."""
    model, lora = make_model(folder, name), make_adapter(folder, name, _RANK)
    text = _RECIPE.format(
        model=model.name, lora=f"{lora.name}/" if lora.is_dir() else lora.name, shard=LARGE[name].shard
    )
    (folder / "r.yaml").write_text(text)
    return _least(lambda: _lorapipe(folder, "plan", "r.yaml").cpu)


def _tasks(folder: Path, name: str) -> dict[str, float]:
    """Seconds of a shard's task beside its bytes, and of giving the folder its name.

    Of a model with every tensor and shard of the whole, whose axes are a 64th: 1/4096 of the bytes.
    """
    _recipe(folder, name, Size(divide=64))
    spent: dict[str, float] = apart(_parts, folder, str(folder / "store"))
    _clear(folder)
    return spent


def _parts(folder: Path, store: str) -> dict[str, float]:
    from lorapipe.build.engines.threads import Crew, single_threaded_torch
    from lorapipe.build.planning import Options, plan_free, unheard
    from lorapipe.build.records import Records
    from lorapipe.build.running.bench import Bench
    from lorapipe.build.running.means import Means
    from lorapipe.plan.parts import parts_of
    from lorapipe.plan.tasks import tasks_of
    from lorapipe.recipe.parsing import load_recipe

    os.environ["LORAPIPE_STORE"] = store
    recipe = load_recipe(folder / "r.yaml")
    with Records(looking=False) as records, Crew(1, records.halt) as crew, single_threaded_torch():
        plan, ownership = plan_free(recipe, Options(), records)
        tasks = tasks_of(plan)
        bench = Bench(plan, tasks, ownership, Means(1), crew, unheard)
        made, took = {}, []
        for part in parts_of(plan.steps["out"]):
            begun = time.perf_counter()
            ended = bench.make_part(tasks[-1], part)
            took.append(time.perf_counter() - begun)
            assert ended.part is not None, ended.error
            made[part.name] = ended.part
        begun = time.perf_counter()
        assert bench.perform(tasks[-1], made).output is not None
        published = time.perf_counter() - begun
    # The first one reads the headers, as each worker does once.
    return {"opening": took[0], "task": sorted(took)[len(took) // 2], "publish": published}


def _lorapipe(folder: Path, *arguments: str) -> Sample:
    return _python(folder, "-m", "lorapipe", *arguments)


def _python(folder: Path, *arguments: str) -> Sample:
    env = {"LORAPIPE_STORE": str(folder / "store"), "PYTHONPATH": str(Path(__file__).parents[1])}
    return measure((sys.executable, *arguments), folder=folder, env=env)


def _clear(folder: Path) -> None:
    """Remove what a run made; what it was made of stays."""
    for path in (folder / "out", folder / "store"):
        shutil.rmtree(path, ignore_errors=True)
    for path in (folder / "r.lock", folder / "out.safetensors"):
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
