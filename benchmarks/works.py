"""The works: each makes its data, and says who does what with it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path

from benchmarks import asked
from benchmarks.data import Checkpoint, Lora, make_checkpoint, make_headers, make_lora, make_map
from benchmarks.folders import make_llama, make_peft, shard_size
from benchmarks.layouts import Module
from benchmarks.measure import apart
from benchmarks.work import Check, Contestant, Goal, Setting, Work

__all__ = ["WORKS"]

_OUT = asked.OUT
_DENSE = "dense SVDs, thin, one thread"
_SAMPLED = 36
"""Of SDXL's 986 modules: the share of them is then that of the operations too, within 1%."""


def sdxl_merge(setting: Setting) -> Work:
    """Two LoRAs into SDXL."""
    loras = [(setting.lora("sdxl", 32, 1), 0.7), (setting.lora("sdxl", 32, 2), -0.3)]
    goals = (
        Goal("wall", 1.25, over=("cp + sync", "sha256sum")),
        Goal("peak", 900 * 2**20),
        Goal("wall", 1 / 5, over=("kohya",)),
        Goal("cpu", 1 / 3, over=("kohya",)),
        Goal("peak", 1 / 24, over=("kohya",)),
    )
    title = "Two rank-32 LoRAs (986 modules each) into SDXL, 6.9 GB fp16 to fp16"
    return _merge(setting, "sdxl-merge", title, loras, goals)


def sd15_merge(setting: Setting) -> Work:
    """One LoRA into SD 1.5."""
    loras = [(setting.lora("sd15", 32, 1, kind="convolution"), 0.8)]
    goals = (Goal("cpu", 11), Goal("peak", 700 * 2**20))
    title = "One rank-32 LoRA with convolutions (352 modules) into SD 1.5, 2.1 GB fp16 to fp16"
    return _merge(setting, "sd15-merge", title, loras, goals)


def _merge(
    setting: Setting, name: str, title: str, loras: Sequence[tuple[Lora, float]], goals: tuple[Goal, ...]
) -> Work:
    layout = loras[0][0].layout
    base = apart(make_checkpoint, setting.data, Checkpoint(layout, setting.divide))
    terms = _made(setting, loras)
    places = apart(make_map, setting.data, layout, loras[0][0].kind, setting.divide)
    check = Check("check_merge", (base, terms, _some(loras[0][0], 12)))
    said = (_OUT, str(base), *asked.said(terms))
    script = "sdxl_merge_lora.py" if layout == "sdxl" else "merge_lora.py"
    kohya = (f"networks/{script}", "--sd_model", str(base), *asked.kohya_terms(terms))
    added = "with one method added, without which its release merges no SD1 LoRA" if layout == "sd15" else ""
    lost = "leaves out conv_in and conv_out without a word, which its error shows" if layout == "sd15" else ""
    contestants = (
        asked.lorapipe(asked.merge(base, terms), check=check),
        asked.plain("load_file, add, save_file", ("plain_merge.py", str(places), *said), check),
        asked.peer(setting, "sd-mecha", ("mecha_merge.py", layout, *said), check, whole=True, note=added),
        asked.kohya(setting, kohya, check, note=lost, needs=0 if layout == "sd15" else 22 * 2**30),
        *asked.floors(base),
    )
    return Work(name, title, contestants, (base, *(path for path, _ in terms)), goals)


def llama_merge(setting: Setting) -> Work:
    """PEFT's adapter of a Llama into it, folder to folder."""
    what = setting.lora("llama", 16, 1, kind="projections")
    base = apart(make_llama, setting.data, setting.divide)
    adapter = apart(make_peft, setting.data, what)
    terms, most = [(adapter, 1.0)], shard_size(setting.divide)
    check = Check("check_merge", (base, terms, _some(what, 12)))
    recipe = asked.folder_merge(base, terms, most)
    by_hand = ("plain_shards.py", asked.FOLDER, str(base), *asked.said(terms))
    by_peft = ("peft_merge.py", asked.FOLDER, str(most), str(base), str(adapter))
    contestants = (
        asked.lorapipe(recipe, check=check, output=asked.FOLDER),
        asked.plain("load_file, add, save_file", by_hand, check, output=asked.FOLDER),
        asked.peer(setting, "peft", by_peft, check, note="`merge_and_unload`", output=asked.FOLDER),
        asked.mergekit(setting, base, adapter, most, check),
        *asked.folder_floors(base),
    )
    goals = (Goal("cpu", 8), Goal("peak", 600 * 2**20), Goal("left", 2**20))
    title = "PEFT's rank-16 LoRA (280 modules) into a Llama of 1.1 GB in three shards, fp16 to fp16"
    inputs = (*sorted(base.iterdir()), *sorted(adapter.iterdir()))
    return Work("llama-merge", title, contestants, inputs, goals)


def sdxl_resize(setting: Setting) -> Work:
    """Three LoRAs to one of rank 64. The dense way is measured on a sample of the modules."""
    rank = setting.rank(64)
    asked_for = ((32, 3, 1.0), (64, 4, 0.7), (128, 5, -0.4))
    whole = [(setting.lora("sdxl", r, seed), weight) for r, seed, weight in asked_for]
    taken = [(setting.lora("sdxl", r, seed, take=_SAMPLED), weight) for r, seed, weight in asked_for]
    terms, sample = _made(setting, whole), _made(setting, taken)
    scale = apart(_count, whole[0][0]) / apart(_count, taken[0][0])
    checked = _some(taken[0][0], 6)
    check = Check("check_resize", (sample, checked, rank))
    part = (
        f"extrapolated: {_SAMPLED} modules, evenly spaced, are measured; what they take above start-up "
        f"times {scale:.1f}, the share of the modules; the peak is the sample's"
    )
    said = (str(rank), _OUT, *asked.said(sample))
    kohya = ("networks/svd_merge_lora.py", *asked.kohya_terms(sample), "--new_rank", str(rank))
    contestants = (
        asked.lorapipe(
            asked.resize(terms, rank),
            check=Check("check_resize", (terms, checked, rank)),
        ),
        asked.plain(_DENSE, ("dense_svd.py", *said), check, note=part, scale=scale),
        asked.peer(
            setting,
            "peft",
            ("peft_combine.py", "svd", *said),
            check,
            note="`add_weighted_adapter`, svd; " + part,
            scale=scale,
        ),
        asked.kohya(setting, kohya, check, note=part, scale=scale),
        asked.floor("sha256sum", ("sha256sum", *(str(path) for path, _ in terms)), "of the inputs"),
    )
    goals = (
        Goal("cpu", 1 / 60, over=("kohya",)),
        Goal("cpu", 1 / 60, over=("peft",)),
        Goal("optimum", 1.0001),
    )
    return Work(
        "sdxl-resize",
        "Three SDXL LoRAs of rank 32, 64, 128 (986 modules) to one of rank 64",
        contestants,
        tuple(path for path, _ in (*terms, *sample)),
        goals,
    )


def sdxl_sweep(setting: Setting) -> Work:
    """Three LoRAs at four strengths by six ranks, from one recipe."""
    strengths = (0.4, 1.0) if setting.small else (0.4, 0.6, 0.8, 1.0)
    ranks = [setting.rank(rank) for rank in ((8, 32) if setting.small else (4, 8, 12, 16, 24, 32))]
    loras = [(setting.lora("sdxl", 32, seed), weight) for seed, weight in ((1, 1.0), (2, 0.7), (3, -0.4))]
    terms, sampled = _made(setting, loras), _some(loras[0][0], 3)
    check = Check("check_sweep", (terms, sampled, list(product(strengths, ranks))))
    alone = "its steps alone"
    contestants = (
        asked.lorapipe(asked.sweep(terms, strengths, ranks), check=check, output=asked.FOLDER),
        asked.steps_alone(alone, terms, strengths, ranks, check),
        asked.floor("sha256sum", ("sha256sum", *(str(path) for path, _ in terms)), "of the inputs"),
    )
    goals = (Goal("cpu", 1.15, over=(alone,)), Goal("optimum", 1.0001))
    count = len(strengths) * len(ranks)
    matrix = f"{len(strengths)} strengths by {len(ranks)} ranks"
    title = f"A sweep: three SDXL LoRAs of rank 32 (986 modules) at {matrix}, {count} files"
    return Work("sdxl-sweep", title, contestants, tuple(path for path, _ in terms), goals)


def sdxl_concat(setting: Setting) -> Work:
    """Two LoRAs into one that is both."""
    loras = [(setting.lora("sdxl", 32, 1), 0.7), (setting.lora("sdxl", 32, 2), -0.3)]
    terms = _made(setting, loras)
    check = Check("check_concat", (terms, _some(loras[0][0], 12)))
    said = (_OUT, *asked.said(terms))
    files = tuple(str(path) for path, _ in terms)
    kohya = ("networks/sdxl_merge_lora.py", *asked.kohya_terms(terms), "--concat")
    contestants = (
        asked.lorapipe(asked.concat(terms), check=check),
        asked.plain("load_file, cat, save_file", ("plain_concat.py", *said), check),
        asked.peer(
            setting, "peft", ("peft_combine.py", "cat", "0", *said), check, note="`add_weighted_adapter`, cat"
        ),
        asked.kohya(setting, kohya, check, note="its strengths mean something else, and the sum is weakened"),
        asked.floor("cat + sync", ("sh", "-c", f'cat "$@" > {_OUT} && sync {_OUT}', "sh", *files)),
        asked.floor("sha256sum", ("sha256sum", *files), "of the inputs"),
    )
    title = "Two SDXL LoRAs of rank 32 (986 modules) into one of rank 64"
    return Work("sdxl-concat", title, contestants, tuple(path for path, _ in terms))


def startup(setting: Setting) -> Work:
    """What it costs to say nothing, or that nothing is to be done."""
    headers = [setting.lora("sdxl", 32, number) for number in range(10)]
    ten = asked.concat([(path, 0.1) for path in apart(make_headers, setting.data, headers)])
    base = apart(make_checkpoint, setting.data, Checkpoint("sdxl", setting.divide))
    merge = asked.merge(base, _made(setting, [(setting.lora("sdxl", 32, 1), 0.7)]))
    mergekit, mecha = setting.peers["mergekit"], setting.peers["sd-mecha"]
    script = str(Path(mergekit.python).parent / "mergekit-yaml")
    plan, idle = "lorapipe plan, ten SDXL LoRAs", "lorapipe run, 6.9 GB up to date"
    contestants = (
        asked.lorapipe(ten, "lorapipe --help", ("--help",)),
        asked.lorapipe(ten, "lorapipe validate", ("validate", "recipe.yaml")),
        asked.lorapipe(ten, plan, ("plan", "recipe.yaml")),
        asked.lorapipe(merge, idle, prepare=True),
        Contestant("mergekit-yaml --help", "peer", (script, "--help"), missing=mergekit.missing),
        Contestant("import sd_mecha", "peer", (mecha.python, "-c", "import sd_mecha"), missing=mecha.missing),
        asked.kohya_help(setting, "networks/merge_lora.py"),
        asked.floor("python -c pass", (sys.executable, "-c", "pass")),
        asked.floor("python -c 'import torch'", (sys.executable, "-c", "import torch")),
    )
    goals = (Goal("wall", 0.6, plan), Goal("wall", 0.6, idle))
    return Work("startup", "Start-up: one command that reads no tensor", contestants, (), goals)


def scale_merge(setting: Setting) -> Work:
    """Cost against work: merges into parts of SDXL."""
    contestants = []
    for every in (8, 4, 2, 1):
        base = apart(make_checkpoint, setting.data, Checkpoint("sdxl", setting.divide, every))
        lora = setting.lora("sdxl", 32, 1, every=every)
        terms = _made(setting, [(lora, 0.7)])
        files = (base, terms[0][0])
        contestants.append(_part(every, asked.merge(base, terms), lora, files))
    title = "Cost against work: one rank-32 LoRA into 1/8, 1/4, 1/2 and all of SDXL's tensors"
    return Work("scale-merge", title, tuple(contestants))


def scale_resize(setting: Setting) -> Work:
    """Cost against work: resizes of parts of two LoRAs."""
    contestants = []
    for every in (8, 4, 2, 1):
        loras = [setting.lora("sdxl", rank, seed, every=every) for rank, seed in ((32, 1), (64, 4))]
        terms = _made(setting, [(lora, 1.0) for lora in loras])
        files = tuple(path for path, _ in terms)
        contestants.append(_part(every, asked.resize(terms, setting.rank(32)), loras[0], files))
    title = (
        "Cost against work: SDXL LoRAs of rank 32 and 64 to rank 32, 1/8, 1/4, 1/2 and all of their modules"
    )
    return Work("scale-resize", title, tuple(contestants))


WORKS: Mapping[str, Callable[[Setting], Work]] = {
    "sdxl-merge": sdxl_merge,
    "sd15-merge": sd15_merge,
    "llama-merge": llama_merge,
    "sdxl-resize": sdxl_resize,
    "sdxl-sweep": sdxl_sweep,
    "sdxl-concat": sdxl_concat,
    "startup": startup,
    "scale-merge": scale_merge,
    "scale-resize": scale_resize,
}


def _part(every: int, recipe: str, lora: Lora, files: tuple[Path, ...]) -> Contestant:
    size = (apart(_count, lora), sum(path.stat().st_size for path in files))
    share = "all" if every == 1 else f"1/{every}"
    return asked.lorapipe(recipe, f"lorapipe, {share}", size=size, inputs=files)


def _made(setting: Setting, loras: Sequence[tuple[Lora, float]]) -> list[tuple[Path, float]]:
    return [(apart(make_lora, setting.data, lora), weight) for lora, weight in loras]


def _some(lora: Lora, count: int) -> list[Module]:
    found = apart(lora.modules)
    step = max(1, len(found) // count)
    return found[step // 2 :: step][:count]


def _count(lora: Lora) -> int:
    return len(lora.modules())
