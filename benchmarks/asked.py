"""Contestants: how each program is asked for the same thing."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.work import Check, Contestant, Setting

__all__ = [
    "FOLDER",
    "OUT",
    "SCRIPTS",
    "concat",
    "floor",
    "floors",
    "folder_floors",
    "folder_merge",
    "kohya",
    "kohya_help",
    "kohya_terms",
    "lorapipe",
    "merge",
    "mergekit",
    "peer",
    "plain",
    "resize",
    "said",
    "steps_alone",
    "sweep",
]

SCRIPTS = Path(__file__).parent / "contestants"
OUT = "out.safetensors"
FOLDER = "out"

Terms = Sequence[tuple[Path, float]]
_WHOLE = "takes whole models only"


def merge(base: Path, terms: Terms) -> str:
    """The recipe of LoRAs into a checkpoint."""
    step = f"done: {{merge-into-checkpoint: base, loras: {_weights(terms)}}}"
    return _recipe({"base": base} | _loads(terms), step, f"out: {{save: done, to: {OUT}}}")


def folder_merge(base: Path, terms: Terms, shard_size: int) -> str:
    """The recipe of LoRAs into a model's folder, saved as one in shards."""
    step = f"done: {{merge-into-checkpoint: base, loras: {_weights(terms)}}}"
    saved = f"out: {{save: done, to: {FOLDER}/, shard-size: {shard_size}}}"
    return _recipe({"base": base} | _loads(terms), step, saved)


def concat(terms: Terms) -> str:
    """The recipe of LoRAs side by side, in fp16."""
    step = f"done: {{concat: {_weights(terms)}}}"
    return _recipe(_loads(terms), step, f"out: {{save: done, to: {OUT}, dtype: fp16}}")


def resize(terms: Terms, rank: int) -> str:
    """The recipe of LoRAs summed and cut to ``rank``, in fp16."""
    steps = (f"all: {{concat: {_weights(terms)}}}", f"done: {{svd-resize: all, rank: {rank}}}")
    return _recipe(_loads(terms), *steps, f"out: {{save: done, to: {OUT}, dtype: fp16}}")


def sweep(terms: Terms, strengths: Sequence[float], ranks: Sequence[int]) -> str:
    """The recipe of a resize at each strength of the first LoRA and each rank, in fp16, into a folder."""
    (_, _), *others = terms
    weights = [f"lora-{number}: {weight}" for number, (_, weight) in enumerate(others, 1)]
    matrix = f"matrix: {{strength: {list(strengths)}, rank: {list(ranks)}}}"
    steps = (
        f"all: {{concat: {{{', '.join(['lora-0: $(strength)', *weights])}}}}}",
        "done: {svd-resize: all, rank: $(rank)}",
        f"out: {{save: done, to: {FOLDER}/s$(strength)-r$(rank).safetensors, dtype: fp16}}",
    )
    return _recipe(_loads(terms), *steps).replace("steps:", f"{matrix}\nsteps:", 1)


def _recipe(loads: Mapping[str, Path], *steps: str) -> str:
    lines = [f"  {name}: {{load: {json.dumps(str(path))}}}" for name, path in loads.items()]
    return "\n".join(["lorapipe: 1", "steps:", *lines, *(f"  {step}" for step in steps), ""])


def _loads(terms: Terms) -> dict[str, Path]:
    return {f"lora-{number}": path for number, (path, _) in enumerate(terms)}


def _weights(terms: Terms) -> str:
    return "{" + ", ".join(f"lora-{number}: {weight}" for number, (_, weight) in enumerate(terms)) + "}"


def said(terms: Terms) -> list[str]:
    """Terms as the scripts of this package take them: ``path=weight``."""
    return [f"{path}={weight}" for path, weight in terms]


def lorapipe(
    recipe: str,
    name: str = "lorapipe",
    arguments: tuple[str, ...] = ("run", "recipe.yaml"),
    *,
    check: Check | None = None,
    output: str = OUT,
    prepare: bool = False,
    size: tuple[int, int] | None = None,
    inputs: tuple[Path, ...] = (),
) -> Contestant:
    """The lorapipe that this Python imports; ``prepare``: measured when it has run once already."""
    command = (sys.executable, "-m", "lorapipe", *arguments)
    return Contestant(
        name,
        "lorapipe",
        command,
        files={"recipe.yaml": recipe},
        env=_ours(),
        output=output,
        check=check,
        prepare=command if prepare else (),
        size=size,
        inputs=inputs,
    )


def _ours() -> dict[str, str]:
    """An environment for the lorapipe that this Python imports, with a store of its own."""
    found = importlib.util.find_spec("lorapipe")
    package = Path(found.origin if found and found.origin else "").parent
    return {"LORAPIPE_STORE": "store", "PYTHONPATH": str(package.parent)}


def steps_alone(
    name: str, terms: Terms, strengths: Sequence[float], ranks: Sequence[int], check: Check
) -> Contestant:
    """The steps of :func:`sweep` as calls, one after the other: no plan, no store, no lock."""
    words = [",".join(map(str, values)) for values in (strengths, ranks)]
    command = (sys.executable, str(SCRIPTS / "sweep_steps.py"), FOLDER, *words, *said(terms))
    note = "lorapipe's own steps as Python calls, one after the other, without plan, store and lock"
    return Contestant(name, "floor", command, env=_ours(), output=FOLDER, check=check, note=note)


def plain(
    name: str,
    arguments: Sequence[str],
    check: Check,
    *,
    note: str = "",
    scale: float = 1.0,
    output: str = OUT,
) -> Contestant:
    """A script with nothing but torch and safetensors: what one writes by hand."""
    note = note or "what one writes by hand"
    return _script(name, sys.executable, arguments, check, note=note, scale=scale, output=output)


def peer(
    setting: Setting,
    name: str,
    arguments: Sequence[str],
    check: Check,
    *,
    whole: bool = False,
    note: str = "",
    scale: float = 1.0,
    output: str = OUT,
) -> Contestant:
    """A peer from PyPI, through a script; ``whole``: it refuses the tiny models of ``--small``."""
    place = setting.peers[name]
    missing = place.missing or (_WHOLE if whole and setting.small else "")
    return _script(
        name, place.python, arguments, check, note=note, scale=scale, output=output, missing=missing
    )


def _script(
    name: str,
    python: str,
    arguments: Sequence[str],
    check: Check,
    *,
    note: str,
    scale: float,
    output: str,
    missing: str = "",
) -> Contestant:
    script, *rest = arguments
    command = (python, str(SCRIPTS / script), *rest)
    # Without its terms a script loads its libraries and ends: its start-up.
    startup = tuple(part for part in command if "=" not in part) if scale != 1 else ()
    return Contestant(
        name,
        "peer",
        command,
        output=output,
        check=check,
        missing=missing,
        note=note,
        scale=scale,
        startup=startup,
    )


def mergekit(setting: Setting, base: Path, adapter: Path, shard_size: int, check: Check) -> Contestant:
    """``mergekit-yaml`` on a model with a LoRA; its cache of merged models lies beside the output."""
    place = setting.peers["mergekit"]
    model = json.dumps(f"{base}+{adapter}")
    settings = f"merge_method: passthrough\nmodels: [{{model: {model}}}]\ndtype: float16\n"
    told = ("--lora-merge-cache", "cache", "--out-shard-size", str(shard_size), "--no-copy-tokenizer")
    return Contestant(
        "mergekit",
        "peer",
        (str(Path(place.python).parent / "mergekit-yaml"), "merge.yaml", FOLDER, *told),
        files={"merge.yaml": settings},
        output=FOLDER,
        check=check,
        missing=place.missing,
        note="what it leaves is a merged copy of the model, in the cache that it asks for",
    )


def kohya_terms(terms: Terms) -> list[str]:
    """The options that kohya's merging scripts share."""
    models = [str(path) for path, _ in terms]
    ratios = [str(weight) for _, weight in terms]
    precision = ["--precision", "float", "--save_precision", "fp16"]
    return ["--save_to", OUT, "--models", *models, "--ratios", *ratios, *precision]


def kohya(
    setting: Setting,
    arguments: Sequence[str],
    check: Check,
    *,
    note: str = "",
    scale: float = 1.0,
    needs: int = 0,
) -> Contestant:
    """A script of kohya's checkout; its start-up is its ``--help``."""
    return Contestant(
        "kohya",
        "peer",
        _kohya_command(setting, *arguments),
        env={"PYTHONPATH": str(setting.kohya_folder)},
        output=OUT,
        check=check,
        missing=setting.kohya.missing or (_WHOLE if setting.small else ""),
        note=note,
        scale=scale,
        startup=_kohya_command(setting, arguments[0], "--help") if scale != 1 else (),
        needs=needs,
    )


def kohya_help(setting: Setting, script: str) -> Contestant:
    """``--help`` of one of kohya's scripts."""
    command = _kohya_command(setting, script, "--help")
    env = {"PYTHONPATH": str(setting.kohya_folder)}
    name = f"kohya {Path(script).name} --help"
    return Contestant(name, "peer", command, env=env, missing=setting.kohya.missing)


def _kohya_command(setting: Setting, script: str, *arguments: str) -> tuple[str, ...]:
    return (setting.kohya.python, str((setting.kohya_folder or Path()) / script), *arguments)


def floors(path: Path) -> tuple[Contestant, ...]:
    """What copying and hashing a file cost."""
    copy = ("sh", "-c", f'cp "$1" {OUT} && sync {OUT}', "sh", str(path))
    what = "of the checkpoint"
    return (
        floor("cp + sync", copy, what),
        floor("sha256sum", ("sha256sum", str(path)), what),
        floor("hashlib sha256", (sys.executable, str(SCRIPTS / "hash_file.py"), str(path)), what),
    )


def folder_floors(path: Path) -> tuple[Contestant, ...]:
    """What copying and hashing a folder cost."""
    copy = ("sh", "-c", f'cp -r "$1" {FOLDER} && sync {FOLDER}/*', "sh", str(path))
    files, what = sorted(str(file) for file in path.iterdir()), "of the model's folder"
    return (
        floor("cp -r + sync", copy, what),
        floor("sha256sum", ("sha256sum", *files), what),
        floor("hashlib sha256", (sys.executable, str(SCRIPTS / "hash_file.py"), *files), what),
    )


def floor(name: str, command: tuple[str, ...], note: str = "") -> Contestant:
    """A program that does part of what any contestant must do."""
    return Contestant(name, "floor", command, note=note)
