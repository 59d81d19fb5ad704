"""What merges cost here: by their bytes, by their tasks, by each engine.

What a merge costs for a byte is the difference of two runs of the same model, with few layers and with more,
so that what each run costs beside is not in it; what a task costs beside its bytes is measured on a model
with all its tensors and next to no bytes.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.large import LARGE, Size, make_adapter, make_model
from benchmarks.layouts import tensors
from benchmarks.making import size
from benchmarks.measure import Sample, apart, measure

__all__ = ["RANK", "SIZED", "engines", "least", "model", "python", "resize", "sizes"]

_LAYERS = {"llama-70b": (1, 5), "qwen-image": (2, 12), "wan-14b": (1, 6)}
SIZED = "wan-14b"
"""The model that is measured in several sizes, and by each engine."""
_SIZES = (2, 4, 8)
RANK = 32
"""Of the LoRAs that are merged."""

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


def least(function: Callable[[], float], times: int = 3) -> float:
    """The least of some tries: what other work on the machine added least to."""
    return min(function() for _ in range(times))


def python(folder: Path, *arguments: str) -> Sample:
    """One process of this Python, measured."""
    env = {"LORAPIPE_STORE": str(folder / "store"), "PYTHONPATH": str(Path(__file__).parents[1])}
    return measure((sys.executable, *arguments), folder=folder, env=env)


def resize(folder: Path) -> float:
    """CPU seconds to bring a Qwen-Image LoRA's modules of one block from rank 64 to 16."""

    def cpu(layers: int) -> float:
        lora = apart(partial(make_adapter, folder, "qwen-image", 64, Size(layers), empty=False))
        (folder / "r.yaml").write_text(_RESIZE.format(lora=lora.name))
        spent = _lorapipe(folder, "run", "r.yaml").cpu
        _clear(folder)
        return spent

    few, more = 1, 4
    return (cpu(more) - cpu(few)) / (more - few)


def sizes(folder: Path) -> list[dict[str, Any]]:
    """The same model in three sizes of holes, and the middle one of true bytes, which come from the disk."""
    wanted = (*((layers, True) for layers in _SIZES), (_SIZES[1], False))
    return [
        {"layers": layers, "hollow": empty, **_merge(folder, SIZED, Size(layers, divide=2), empty=empty)}
        for layers, empty in wanted
    ]


def model(folder: Path, name: str) -> dict[str, Any]:
    """What is known of a large model, and what a merge into it costs."""
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


def _merge(folder: Path, name: str, part: Size, *, empty: bool = True) -> dict[str, float]:
    """A merge within 512 MiB, its inputs hashed before, and if they take room not in the page cache."""
    nbytes = _recipe(folder, name, part, empty=empty)
    _lorapipe(folder, "plan", "--hash", "r.yaml")
    made = make_model(folder, name, part, empty=empty)
    if not empty:
        _forget(made)
    run = _lorapipe(folder, "run", "--memory", "512MiB", "r.yaml")
    _clear(folder)
    if not empty:
        shutil.rmtree(made)
    _tell(f"  {part}: {nbytes / 1e9:.2f} GB, {run.cpu:.1f} s of CPU, {run.wall:.1f} s, {run.peak >> 20} MiB")
    return {"bytes": nbytes, "cpu": run.cpu, "wall": run.wall, "peak": run.peak}


def _forget(model: Path) -> None:
    """Let the system have no pages of a model's files any more."""
    os.sync()
    for path in model.rglob("*.safetensors"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _recipe(folder: Path, name: str, part: Size, *, empty: bool = True) -> int:
    """Write the recipe of a merge of part of a model; returns the bytes of its tensors."""
    # Made apart: the kernel counts a process's peak from that of the one which started it.
    model = apart(partial(make_model, folder, name, part, empty=empty))
    lora = apart(partial(make_adapter, folder, name, RANK, part, empty=False))
    index = json.loads(next(model.rglob("*.index.json")).read_text(encoding="utf-8"))
    nbytes: int = index["metadata"]["total_size"]
    shard = max(LARGE[name].shard * nbytes // sum(map(size, tensors(name).values())), 1)
    _write(folder, model, lora, shard)
    return nbytes


def _write(folder: Path, model: Path, lora: Path, shard: int) -> None:
    named = f"{lora.name}/" if lora.is_dir() else lora.name
    text = _RECIPE.format(model=model.name, lora=named, shard=shard)
    (folder / "r.yaml").write_text(text, encoding="utf-8")


def _plan(folder: Path, name: str) -> float:
    """CPU seconds of the plan at full size: what a scheduler does first."""
    _write(folder, make_model(folder, name), make_adapter(folder, name, RANK), LARGE[name].shard)
    return least(lambda: _lorapipe(folder, "plan", "r.yaml").cpu)


def engines(folder: Path) -> list[dict[str, Any]]:
    """The same merge by each engine; what each takes to start is what it takes for next to nothing."""
    found = []
    for engine, workers in (("threads", 1), ("dask", 1), ("dask", 2)):
        options = ("run", "--engine", engine, "--workers", str(workers), "--memory", "1GiB", "r.yaml")
        spent: dict[str, Any] = {"engine": engine, "workers": workers, "load": os.getloadavg()[0]}
        for label, part in (("start", Size(1, divide=64)), ("all", Size(_SIZES[1], divide=2))):
            spent["bytes"] = _recipe(folder, SIZED, part)
            runs = [_run(folder, options) for _ in range(2)]
            spent[label] = {"wall": min(run.wall for run in runs), "cpu": min(run.cpu for run in runs)}
        _tell(f"  {spent}")
        found.append(spent)
    return found


def _run(folder: Path, options: tuple[str, ...]) -> Sample:
    """A run whose inputs were hashed before."""
    _lorapipe(folder, "plan", "--hash", "r.yaml")
    run = _lorapipe(folder, *options)
    _clear(folder)
    return run


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
    return python(folder, "-m", "lorapipe", *arguments)


def _clear(folder: Path) -> None:
    """Remove what a run made; what it was made of stays."""
    for path in (folder / "out", folder / "store"):
        shutil.rmtree(path, ignore_errors=True)
    for path in (folder / "r.lock", folder / "out.safetensors"):
        path.unlink(missing_ok=True)


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")
