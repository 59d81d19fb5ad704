"""The table of bad inputs: what is wrong, what is said of it, and which command says it first."""

# ruff: noqa: E501  # messages and recipes stand on one line, as they are read

from __future__ import annotations

import os
import pickle
import shutil
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from ..bench import CONV1, KEYS, PROJ_IN, SHAPES, TE, TO_Q, Bench
from ..formats.model_folders import hf_folder, index_of
from ..hostile import builders

__all__ = ["CASES", "FAILED", "MERGE", "SAVE", "Case", "edited", "spoilt"]

Prepare = Callable[[Bench], object]


@dataclass(frozen=True)
class Case:
    """A recipe or an input that is wrong.

    ``says`` are the error's lines without the excerpt, ``…`` standing for anything and
    ``{folder}`` for the recipe's folder; ``marks`` is what the caret line underlines.
    ``found_by`` is the first of validate, plan and run that can know it.
    """

    name: str
    steps: str
    status: int
    says: str
    marks: str
    found_by: str = "plan"
    prepare: Prepare = lambda bench: None
    head: str = ""


SAVE = "a: {load: a.safetensors}\nout: {save: a, to: o.safetensors}"
MERGE = """
    base: {load: base.safetensors}
    a: {load: a.safetensors}
    m: {merge-into-checkpoint: base, loras: a}
    out: {save: m, to: o.safetensors}
"""
CONCAT = """
    a: {load: a.safetensors}
    x: {load: x.safetensors}
    both: {concat: {a: 0.5, x: 0.5}}
    out: {save: both, to: o.safetensors}
"""
Q = KEYS[TO_Q]
MERGED = "with 'unmatched: warn' or 'ignore' the others are merged"
DAMAGED = "the file is damaged: copy or download it again"
INCOMPLETE = "the file is incomplete or damaged: copy or download it again"
FAILED = "the training failed, or the file is damaged"
MAKER = "the program that wrote it is at fault"


# --- making files bad -------------------------------------------------------------------


def edited(
    change: Callable[[dict[str, Any]], object], name: str = "a", metadata: Mapping[str, str] | None = None
) -> Prepare:
    """Change a file's tensors as any program with the safetensors library could."""

    def prepare(bench: Bench) -> None:
        path = bench.folder / f"{name}.safetensors"
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path, {"ss_base_model_version": "sd_v1"} if metadata is None else dict(metadata))

    return prepare


def put(tensor: str, value: object) -> Callable[[dict[str, Any]], object]:
    return lambda tensors: tensors.update({tensor: torch.as_tensor(value)})


def spoilt(tensor: str, value: float) -> Callable[[dict[str, Any]], object]:
    return lambda tensors: tensors[tensor].view(-1)[:1].fill_(value)


def raw(data: bytes, name: str = "a.safetensors") -> Prepare:
    """A file of just these bytes."""
    return lambda bench: (bench.folder / name).write_bytes(data)


def cut_short(bench: Bench) -> None:
    path = bench.folder / "a.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def endless_header(bench: Bench) -> None:
    """A header over 100 MB that is really there, though as a hole in the file."""
    with (bench.folder / "a.safetensors").open("wb") as stream:
        stream.write(struct.pack("<Q", 100_000_001))
        stream.truncate(8 + 100_000_001 + 4)


class Evil:
    """What a stranger puts into a ``.ckpt``: it leaves a file behind when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch pwned",)


def evil_zip(bench: Bench) -> None:
    torch.save({"state_dict": {"x": Evil()}}, bench.folder / "a.ckpt")


def evil_plain(bench: Bench) -> None:
    (bench.folder / "a.ckpt").write_bytes(pickle.dumps(Evil(), 2))


def linked(make: Callable[[Path, Path], object]) -> Prepare:
    return lambda bench: make(bench.folder / "a.safetensors", bench.folder / "o.safetensors")


def sdxl_checkpoint(bench: Bench) -> None:
    block = "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2"
    text = "conditioner.embedders.1.model.transformer.resblocks.0.attn"
    tensors = {
        f"{block}.to_q.weight": torch.zeros(640, 640, dtype=torch.float16),
        f"{block}.to_k.weight": torch.zeros(640, 2048, dtype=torch.float16),
        f"{text}.in_proj_weight": torch.zeros(3840, 1280, dtype=torch.float16),
    }
    save_file(tensors, bench.folder / "base.safetensors")


XL = {
    "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k": (640, 2048),
    "lora_te2_text_model_encoder_layers_31_self_attn_q_proj": (1280, 1280),
}


def other(modules: Mapping[str, tuple[int, ...]], metadata: Mapping[str, str] | None = None) -> Prepare:
    """A second LoRA, ``x``, of other modules."""
    return lambda bench: bench.lora("x", seed=5, modules=modules, metadata=metadata)


def layers(count: int) -> dict[str, tuple[int, ...]]:
    return {TE.replace("layers_0", f"layers_{i}"): SHAPES[TE] for i in range(count)}


# --- the table --------------------------------------------------------------------------

RECIPE_TEXT = [
    Case(
        "misspelt key",
        "a: {load: a.safetensors}\ns: {svd-resize: a, rnak: 4}\nout: {save: s, to: o.safetensors}",
        3,
        "r.yaml:4:22: error: svd-resize has no option 'rnak' - did you mean 'rank'?",
        "rnak",
        "validate",
    ),
    Case(
        "misspelt key at the top",
        SAVE,
        3,
        "r.yaml:2:1: error: a recipe has no 'parms' - did you mean 'params'?",
        "parms",
        "validate",
        head="parms: {x: 1}\n",
    ),
    Case(
        "misspelt kind",
        "a: {load: a.safetensors}\ns: {svd-resise: a, rank: 4}\nout: {save: s, to: o.safetensors}",
        3,
        "r.yaml:4:7: error: no step kind 'svd-resise' - did you mean 'svd-resize'?",
        "svd-resise",
        "validate",
    ),
    Case(
        "misspelt reference",
        "char: {load: a.safetensors}\nout: {save: cahr, to: o.safetensors}",
        3,
        "r.yaml:4:15: error: no step 'cahr' - did you mean 'char'?",
        "cahr",
        "validate",
    ),
    Case(
        "two kinds",
        "a: {load: a.safetensors}\ns: {svd-resize: a, shuffle: a, rank: 4}\nout: {save: s, to: o.safetensors}",
        3,
        "r.yaml:4:22: error: step 's' has two kinds: svd-resize and shuffle"
        " - give each its own step; 'shuffle' could take 's'",
        "shuffle",
        "validate",
    ),
    Case(
        "no kind",
        "a: {load: a.safetensors}\ns: {rank: 4}\nout: {save: s, to: o.safetensors}",
        3,
        "r.yaml:4:3: error: step 's' has no kind - 'rank' is an option of combine, svd-resize, extract-lora, check",
        "s",
        "validate",
    ),
    Case(
        "cycle",
        """
        a: {load: a.safetensors}
        x: {concat: {a: 1.0, z: 0.5}}
        y: {shuffle: x}
        z: {svd-resize: y, rank: 4}
        out: {save: z, to: o.safetensors}
        """,
        3,
        "r.yaml:4:24: error: the steps go in a circle: x -> y -> z -> x"
        " - a step can only use what is made without it",
        "z",
        "validate",
    ),
    Case(
        "step that uses itself",
        "a: {load: a.safetensors}\nx: {concat: [a, x]}\nout: {save: x, to: o.safetensors}",
        3,
        "r.yaml:4:19: error: step 'x' uses itself",
        "x",
        "validate",
    ),
    Case(
        "an output as an input",
        SAVE + "\ns: {shuffle: out}\nagain: {save: s, to: p.safetensors}",
        3,
        "r.yaml:5:16: error: step 'out' gives nothing to use - a save makes a file; use what it saves, 'a'",
        "out",
        "validate",
    ),
]

TYPES = [
    Case(
        "checkpoint into scale",
        "base: {load: base.safetensors}\ns: {scale: base, by: 0.5}\nout: {save: s, to: o.safetensors}",
        3,
        "r.yaml:4:14: error: 'scale' takes a LoRA, its input is a checkpoint"
        " - merge-into-checkpoint adds LoRAs to a checkpoint; a LoRA taken for one is loaded with 'as: lora'",
        "base",
    ),
    Case(
        "checkpoint into concat",
        """
        a: {load: a.safetensors}
        base: {load: base.safetensors}
        both: {concat: [a, base]}
        out: {save: both, to: o.safetensors}
        """,
        3,
        "r.yaml:5:18: error: 'concat' takes a LoRA, 'base' is a checkpoint"
        " - merge-into-checkpoint adds LoRAs to a checkpoint; a LoRA taken for one is loaded with 'as: lora'",
        "[a, base]",
    ),
    Case(
        "LoRA as the base of a merge",
        "a: {load: a.safetensors}\nm: {merge-into-checkpoint: a, loras: a}\nout: {save: m, to: o.safetensors}",
        3,
        "r.yaml:4:30: error: 'merge-into-checkpoint' takes a checkpoint, its input is a LoRA"
        " - LoRAs go elsewhere; a checkpoint that is taken for one is loaded with 'as: checkpoint'",
        "a",
    ),
    Case(
        "a checkpoint loaded as a LoRA",
        "a: {load: base.safetensors, as: lora}\nout: {save: a, to: o.safetensors}",
        3,
        "r.yaml:3:35: error: 'base.safetensors' holds no LoRA: none of its names is a LoRA's - leave 'as: lora' out",
        "lora",
    ),
]

CHOSEN = [
    Case(
        "block that the family lacks",
        "a: {load: a.safetensors}\ns: {scale: a, blocks: {OUT12: 0.5}}\nout: {save: s, to: o.safetensors}",
        3,
        "r.yaml:4:25: error: SD1.x has no block 'OUT12' - did you mean 'OUT11'? its blocks are time_embed, IN00 to IN11, MID, OUT00 to OUT11, out, BASE",
        "{OUT12: 0.5}",
    ),
    Case(
        "list of a wrong length",
        "a: {load: a.safetensors}\ns: {scale: a, blocks: [1, 0.5, 0]}\nout: {save: s, to: o.safetensors}",
        3,
        "r.yaml:4:25: error: there is no list of 3 numbers for the blocks of SD1.x"
        " - a list has 17 (BASE, …, or 25 (IN00 …, or 26 (BASE, …) numbers",
        "[1, 0.5, 0]",
    ),
    Case(
        "pattern that matches nothing",
        "a: {load: a.safetensors}\ns: {scale: a, modules: {'*atn1*': 0.5}}\nout: {save: s, to: o.safetensors}",
        3,
        "r.yaml:4:26: error: no module matches '*atn1*' - nearest to 'atn1' are attn1, attn; a module is called lora_…",
        "{'*atn1*': 0.5}",
    ),
    Case(
        "pattern without quotes",
        "a: {load: a.safetensors}\ns: {scale: a, modules: {*attn1*: 0.5}}\nout: {save: s, to: o.safetensors}",
        3,
        "r.yaml:4:27: error: a value cannot begin with * - quote it",
        "*",
        "validate",
    ),
    Case(
        "block weights that are all zero",
        "a: {load: a.safetensors}\ns: {scale: a, blocks: {default: 0}}\nout: {save: s, to: o.safetensors}",
        3,
        "r.yaml:4:14: error: every module is scaled to 0: nothing is left…",
        "a",
    ),
    Case(
        "block of rank 0",
        "a: {load: a.safetensors}\ns: {svd-resize: a, rank: {default: 4, blocks: {MID: 0}}}\nout: {save: s, to: o.safetensors}",
        3,
        "r.yaml:4:55: error: a block's rank is a whole number from 1 (filter drops modules), or $(name), not 0…",
        "0",
        "validate",
    ),
    Case(
        "filter that leaves nothing",
        "a: {load: a.safetensors}\ns: {filter: a, drop: {modules: '*'}}\nout: {save: s, to: o.safetensors}",
        3,
        "r.yaml:4:15: error: no module is kept: nothing is left - keep more, or drop less",
        "a",
    ),
    Case(
        "more components than a DyLoRA has",
        "a: {load: a.safetensors}\ns: {dylora-slice: a, components: 64}\nout: {save: s, to: o.safetensors}",
        3,
        "r.yaml:4:36: error: the LoRA has 4 components, not 64 - 4 is the most",
        "64",
    ),
    Case(
        "average of other ranks",
        "a: {load: a.safetensors}\nb: {load: b.safetensors}\ns: {ema: [a, b], decay: 0.5}\nout: {save: s, to: o.safetensors}",
        3,
        "r.yaml:5:12: error: …: 'a' has rank 4 here, 'b' rank 6 - 'average: deltas' averages what the LoRAs add, whatever their factors; the ranks add up",
        "[a, b]",
    ),
    Case(
        "average without a width",
        "a: {load: a.safetensors}\ns: {ema: [a, a]}\nout: {save: s, to: o.safetensors}",
        3,
        "r.yaml:4:7: error: ema needs 'decay' or 'sigma-rel' - such as decay: 0.5",
        "ema",
        "validate",
    ),
]

FILES = [
    Case(
        "missing file",
        "a: {load: loras/char.safetensors}\nout: {save: a, to: o.safetensors}",
        4,
        "r.yaml:3:13: error: no file 'loras/char.safetensors'"
        " - looked in {folder}/loras; --models DIR adds a folder to look in",
        "loras/char.safetensors",
    ),
    Case(
        "missing file with a neighbour",
        "a: {load: bsae.safetensors}\nout: {save: a, to: o.safetensors}",
        4,
        "r.yaml:3:13: error: no file 'bsae.safetensors' - did you mean 'base.safetensors'?",
        "bsae.safetensors",
    ),
    Case(
        "sha256 mismatch",
        f"a: {{load: a.safetensors, sha256: {'ab' * 32}}}\nout: {{save: a, to: o.safetensors}}",
        4,
        "r.yaml:3:36: error: 'a.safetensors' has sha256 …..., the recipe pins abababababab..."
        " - fetch the pinned file again, or change the pin to take this one",
        "ab" * 32,
        "run",
    ),
    Case(
        "a pickle that wants to run code",
        "a: {load: a.ckpt}\nout: {save: a, to: o.safetensors}",
        4,
        "r.yaml:3:13: error: a.ckpt: wants to run code: it asks for posix.system"
        " - convert it to safetensors with a tool that you trust, on a machine that you can lose",
        "a.ckpt",
        prepare=evil_zip,
    ),
    Case(
        "a plain pickle that wants to run code",
        "a: {load: a.ckpt}\nout: {save: a, to: o.safetensors}",
        4,
        "r.yaml:3:13: error: a.ckpt: …",
        "a.ckpt",
        prepare=evil_plain,
    ),
]


def malformed(name: str, says: str, prepare: Prepare) -> Case:
    """A case of a safetensors file that is none."""
    says = f"r.yaml:3:13: error: a.safetensors: {says}"
    return Case(name, SAVE, 4, says, "a.safetensors", prepare=prepare)


ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
TWO = {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}
FAR = {"dtype": "F32", "shape": [2], "data_offsets": [1000, 1008]}

SAFETENSORS = [
    malformed("truncated", f"is cut short: it has … of its … bytes of data - {DAMAGED}", cut_short),
    malformed("empty", "…", raw(b"")),
    malformed("too short", f"has 3 bytes: too short for a safetensors file - {DAMAGED}", raw(b"abc")),
    malformed(
        "header beyond the file",
        f"claims a header of 1000000 bytes but has 73 in all - {DAMAGED}",
        raw(builders.safetensors(builders.entry(), length=10**6)),
    ),
    malformed(
        "header over 100 MB",
        "claims a header of 100000001 bytes; the format allows 100000000"
        " - this is not a safetensors file, or it is damaged",
        endless_header,
    ),
    malformed(
        "overlapping offsets",
        f"has 'b' overlap 'a' - {MAKER}",
        raw(builders.safetensors({"a": ONE, "b": TWO}, bytes(12))),
    ),
    malformed(
        "offsets out of range",
        f"has 992 bytes between 'a' and 'b' - {MAKER}",
        raw(builders.safetensors({"a": ONE, "b": FAR}, bytes(16))),
    ),
    malformed(
        "offsets beyond the end",
        f"is cut short: it has 4 of its 16 bytes of data - {DAMAGED}",
        raw(builders.safetensors(builders.entry(shape=[4], data_offsets=[0, 16]))),
    ),
    malformed(
        "unknown dtype",
        "gives 'a' the dtype 'F31' - known are F64, F32, F16, BF16, …",
        raw(builders.safetensors(builders.entry(dtype="F31"))),
    ),
    malformed(
        "not UTF-8",
        f"has a header that is not UTF-8 (byte 10) - {DAMAGED}",
        raw(builders.safetensors(b'{"\xff": 1}')),
    ),
    malformed(
        "duplicate keys",
        f"names 'a' twice in its header - {MAKER}",
        raw(builders.safetensors('{"a": %s, "a": %s}' % (("{}",) * 2))),
    ),
    malformed(
        "not JSON",
        f"has a header that is not the JSON it should be: … - {DAMAGED}",
        raw(builders.safetensors("not JSON")),
    ),
    malformed(
        "a web page",
        "is a web page, not weights - download the file itself; that may need a login",
        raw(b"<!DOCTYPE html><html>" + b" " * 500),
    ),
]

FAMILIES = [
    Case(
        "an SD1.5 LoRA on an SDXL checkpoint",
        MERGE,
        3,
        "r.yaml:5:43: error: 'a' is for SD1.x, the checkpoint is SDXL"
        " - a LoRA fits only the model family that it was trained on",
        "a",
        prepare=sdxl_checkpoint,
    ),
    Case(
        "LoRAs of two families in a concat",
        CONCAT,
        3,
        "r.yaml:5:18: error: 'a' is for SD1.x, 'x' is for SDXL - only LoRAs of one model family can be joined",
        "{a: 0.5, x: 0.5}",
        prepare=other(XL, {}),
    ),
    Case(
        "a family that the names deny",
        "a: {load: a.safetensors, family: sdxl}\nout: {save: a, to: o.safetensors}",
        3,
        "r.yaml:3:36: error: a.safetensors: it is not for SDXL: its module names are those of SD1.x"
        " - say `family: sd1`, or leave it out",
        "sdxl",
    ),
    Case(
        "shapes that do not fit each other",
        CONCAT,
        3,
        f"r.yaml:5:18: error: {Q}: the delta of 'x' is [20, 24], that of a LoRA before it [20, 20]"
        " - they were trained on different models",
        "{a: 0.5, x: 0.5}",
        prepare=other({TO_Q: (20, 24)}),
    ),
    Case(
        "shapes that do not fit the checkpoint",
        MERGE.replace("loras: a", "loras: x").replace("a: {load: a", "x: {load: x"),
        3,
        f"r.yaml:5:43: error: 1 of 2 modules of 'x' has no place in the checkpoint - {MERGED}\n"
        f"  {Q}: a delta [20, 24] does not fit the checkpoint's weight [20, 20]",
        "x",
        prepare=other({TO_Q: (20, 24), TE: SHAPES[TE]}),
    ),
    Case(
        "modules with no place in the checkpoint",
        MERGE.replace("loras: a", "loras: x").replace("a: {load: a", "x: {load: x"),
        3,
        f"r.yaml:5:43: error: 5 of 6 modules of 'x' have no place in the checkpoint - {MERGED}\n"
        f"  {KEYS[TE].replace('layers.0', 'layers.1')}: the checkpoint has no such weight (nearest: {KEYS[TE]}…)\n"
        f"  {KEYS[TE].replace('layers.0', 'layers.2')}: the checkpoint has no such weight (nearest: {KEYS[TE]}…)\n"
        f"  {KEYS[TE].replace('layers.0', 'layers.3')}: the checkpoint has no such weight (nearest: {KEYS[TE]}…)\n"
        "  and 2 more",
        "x",
        prepare=other(layers(6)),
    ),
]


def unsound(name: str, says: str, change: Callable[[dict[str, Any]], object], found_by: str = "plan") -> Case:
    """A case of a file that is safetensors and no sound LoRA."""
    says = f"r.yaml:3:13: error: a.safetensors: {says}"
    return Case(name, SAVE, 4, says, "a.safetensors", found_by, edited(change))


UP, DOWN, ALPHA = (f"{TO_Q}.{part}" for part in ("lora_up.weight", "lora_down.weight", "alpha"))

FACTORS = [
    unsound(
        "up without down", f"1 module with an up but no down: {TO_Q} - {INCOMPLETE}", lambda t: t.pop(DOWN)
    ),
    unsound("down without up", f"1 module with a down but no up: {TO_Q} - {INCOMPLETE}", lambda t: t.pop(UP)),
    unsound(
        "ranks that disagree",
        f"1 module whose up and down have different ranks: {TO_Q} (up [20, 4], down [3, 20]) - {INCOMPLETE}",
        put(DOWN, torch.zeros(3, 20)),
    ),
    *(
        unsound(
            f"alpha {value}",
            f"1 alpha of 0, NaN or Inf: {ALPHA} ({value}) - {FAILED}",
            put(ALPHA, value),
            "run",
        )
        for value in (float("nan"), float("inf"), 0.0)
    ),
    *(
        unsound(
            f"{value} in a factor", f"1 tensor with NaN or Inf: {UP} - {FAILED}", spoilt(UP, value), "run"
        )
        for value in (float("nan"), float("inf"))
    ),
]


def while_building(name: str, steps: str, says: str, prepare: Prepare) -> Case:
    return Case(name, steps, 5, says, "m" if "m:" in steps else "a", "run", prepare)


RANGE = "save with dtype: bf16, whose range is that of fp32"

BUILDING = [
    *(
        while_building(
            f"{value} in a tensor that a merge touches",
            MERGE,
            f"r.yaml:6:15: error: {Q}: the checkpoint's own tensor holds NaN or Inf where a LoRA is to be added"
            " - the checkpoint is damaged",
            edited(spoilt(Q, value), "base", {}),
        )
        for value in (float("nan"), float("inf"))
    ),
    while_building(
        "overflow of a merge on save",
        MERGE,
        f"r.yaml:6:15: error: {Q}: … is beyond the range of F16 - {RANGE}",
        edited(lambda tensors: tensors[UP].mul_(1e6)),
    ),
    while_building(
        "overflow of a LoRA on save",
        "a: {load: a.safetensors}\nout: {save: a, to: o.safetensors, dtype: fp16}",
        f"r.yaml:4:15: error: {Q}: … is beyond the range of F16 - {RANGE}",
        edited(lambda tensors: tensors[UP].mul_(1e6)),
    ),
]

INPUT = "r.yaml:4:22: error: 'out' would overwrite the file that 'a' loads - write to another name"

OUTPUTS = [
    Case(
        "output equal to an input",
        "a: {load: a.safetensors}\nout: {save: a, to: ./a.safetensors}",
        3,
        INPUT,
        "./a.safetensors",
    ),
    Case(
        "output equal to an input through a symbolic link",
        SAVE,
        3,
        INPUT,
        "o.safetensors",
        prepare=linked(lambda old, new: new.symlink_to(old)),
    ),
    Case(
        "output equal to an input through a hard link",
        SAVE,
        3,
        INPUT,
        "o.safetensors",
        prepare=linked(lambda old, new: new.hardlink_to(old)),
    ),
    Case(
        "an existing file that lorapipe did not write",
        SAVE,
        5,
        "r.yaml:4:22: error: 'o.safetensors' is there and was not written by lorapipe"
        " - move it away, write to another name, or run with --force to replace it",
        "o.safetensors",
        "run",
        raw(b"precious", "o.safetensors"),
    ),
    Case(
        "an output outside of the folder",
        "a: {load: a.safetensors}\nout: {save: a, to: ../o.safetensors}",
        3,
        "r.yaml:4:22: error: '../o.safetensors' is outside {folder}"
        " - outputs stay under the recipe's folder; --output-root DIR names another",
        "../o.safetensors",
    ),
    Case(
        "an output outside of the folder through a link",
        "a: {load: a.safetensors}\nout: {save: a, to: out/o.safetensors}",
        3,
        "r.yaml:4:22: error: 'out/o.safetensors' is outside {folder}"
        " - outputs stay under the recipe's folder; --output-root DIR names another",
        "out/o.safetensors",
        prepare=lambda bench: (bench.folder / "out").symlink_to(bench.folder.parent),
    ),
    Case(
        "two steps that write one file",
        SAVE + "\nother: {save: a, to: x/../o.safetensors}",
        3,
        "r.yaml:5:24: error: 'other' and 'out' write the same file - give each its own 'to'",
        "x/../o.safetensors",
    ),
    Case(
        "a folder where the output should be",
        SAVE,
        3,
        "r.yaml:4:22: error: 'o.safetensors' is a folder - name a file in it, or 'o.safetensors/' to write a folder",
        "o.safetensors",
        prepare=lambda bench: (bench.folder / "o.safetensors").mkdir(),
    ),
]


def shards(bench: Bench) -> Path:
    """A language model of two shards in ``base``."""
    return hf_folder(bench.folder / "base")


def prepared(change: Callable[[Path], object]) -> Prepare:
    """The model, and what ``change`` makes of its folder."""
    return lambda bench: change(shards(bench))


COPY = "base: {load: base/}\nout: {save: base, to: out/}"

FOLDERS = [
    Case(
        "a shard that is missing",
        COPY,
        4,
        "r.yaml:3:16: error: base/: 1 of 2 files that the index names are missing: "
        "model-00002-of-00002.safetensors - download the folder again, whole",
        "base/",
        prepare=prepared(lambda base: (base / "model-00002-of-00002.safetensors").unlink()),
    ),
    Case(
        "an index that names a file outside of the folder",
        COPY,
        4,
        "r.yaml:3:16: error: base/: the index names 1 file outside of its folder: '../a.safetensors'"
        " - do not trust where it comes from",
        "base/",
        prepare=prepared(lambda base: index_of(base, {"a": "../a.safetensors"})),
    ),
    Case(
        "a damaged shard",
        COPY,
        4,
        "r.yaml:3:16: error: base/: model-00001-of-00002.safetensors: has 3 bytes: too short for a safetensors file"
        " - the file is damaged: copy or download it again",
        "base/",
        prepare=prepared(lambda base: (base / "model-00001-of-00002.safetensors").write_bytes(b"abc")),
    ),
    Case(
        "a folder that is one too high",
        "base: {load: models/}\nout: {save: base, to: out/}",
        4,
        "r.yaml:3:16: error: models/: holds no weights - its folder 'llm' does",
        "models/",
        prepare=lambda bench: hf_folder(bench.folder / "models" / "llm"),
    ),
    Case(
        "two sets of weights in a folder",
        COPY,
        4,
        "r.yaml:3:16: error: base/: holds 2 sets of weights: model.safetensors, model.safetensors.index.json"
        " - name the one to load: base/model.safetensors",
        "base/",
        prepare=prepared(lambda base: shutil.copy(base / "config.json", base / "model.safetensors")),
    ),
    Case(
        "a file where the folder should be",
        "base: {load: base/}\nout: {save: base, to: config/}",
        3,
        "r.yaml:4:25: error: 'config/' is a file - remove it, or name another folder",
        "config/",
        prepare=prepared(lambda base: shutil.copy(base / "config.json", base.parent / "config")),
    ),
    Case(
        "an output in a folder that is loaded",
        "base: {load: base/}\nout: {save: base, to: base/new/}",
        3,
        "r.yaml:4:25: error: 'out' would write into the folder that 'base' loads - write to another folder",
        "base/new/",
        prepare=prepared(lambda base: base),
    ),
    Case(
        "an existing folder that lorapipe did not write",
        COPY,
        5,
        "r.yaml:4:25: error: 'out' is there and was not written by lorapipe"
        " - move it away, write to another name, or run with --force to replace it",
        "out/",
        "run",
        prepare=prepared(lambda base: shutil.copytree(base, base.parent / "out")),
    ),
]

CHECKED = "a: {load: a.safetensors}\nb: {svd-resize: a, rank: 2}\nout: {save: b, to: o.safetensors}\n"

CHECKS = [
    Case(
        "a check that asserts nothing",
        CHECKED + "c: {check: b}",
        3,
        "r.yaml:6:7: error: check needs 'rank' or 'modules' or 'finite' or 'norm' or 'energy' or 'differs-from'"
        " - such as rank: {max: 32}",
        "check",
        "validate",
    ),
    Case(
        "limits of a check that leave nothing",
        CHECKED + "c: {check: b, rank: {min: 8, max: 4}}",
        3,
        "r.yaml:6:23: error: 'rank' leaves nothing: min 8 is above max 4 - exchange them",
        "{min: 8, max: 4}",
        "validate",
    ),
    Case(
        "a check of a save",
        CHECKED + "c: {check: out, finite: true}",
        3,
        "r.yaml:6:14: error: step 'out' gives nothing to use - a save makes a file; use what it saves, 'b'",
        "out",
        "validate",
    ),
    Case(
        "a check as if it were a LoRA",
        CHECKED + "c: {check: b, finite: true}\nd: {save: c, to: d.safetensors}",
        3,
        "r.yaml:7:13: error: step 'c' gives nothing to use - a check makes no weights; use what it takes, 'b'",
        "c",
        "validate",
    ),
    Case(
        "energy of a LoRA of other modules",
        CHECKED + "f: {load: f.safetensors}\nc: {check: b, energy: {of: f, min: 0.9}}",
        3,
        f"r.yaml:7:25: error: it has 3 modules that 'f' lacks"
        f" - compare it with what it was made of, of the same modules\n  {TE}\n  {PROJ_IN}\n  {CONV1}",
        "{of: f, min: 0.9}",
        prepare=lambda bench: bench.lora("f", modules={TO_Q: SHAPES[TO_Q]}),
    ),
]

CASES = (
    *RECIPE_TEXT,
    *TYPES,
    *CHOSEN,
    *FILES,
    *SAFETENSORS,
    *FAMILIES,
    *FACTORS,
    *BUILDING,
    *OUTPUTS,
    *FOLDERS,
    *CHECKS,
)
