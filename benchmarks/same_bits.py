"""How far "the same bytes" holds: one recipe built under settings that change last bits.

    python -m benchmarks.same_bits [--folder DIR] [--small] [--out docs/same-bits.md]

Every variant builds the same steps in a store of its own. Its outputs are compared with
those of the first variant by sha256 of their tensor data, and where they differ, value by
value. The result is a Markdown table: a row for each kind of step and output dtype, the
number of values that differ in any variant, and which variants those are.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.data import Checkpoint, Lora, make_checkpoint, make_lora
from benchmarks.machine import facts

__all__ = ["VARIANTS", "Variant", "main"]

DTYPES = ("fp32", "fp16", "bf16")
COMPUTE = ("float64", "float32")


@dataclass(frozen=True, slots=True)
class Variant:
    """Settings for one build that should not change its bytes."""

    name: str
    environment: Mapping[str, str] = field(default_factory=dict)
    workers: int = 1


VARIANTS = (
    Variant("1 worker"),
    Variant("2 workers", workers=2),
    Variant("4 workers", workers=4),
    Variant("PYTHONHASHSEED=1", {"PYTHONHASHSEED": "1"}),
    Variant("OMP_NUM_THREADS=4", {"OMP_NUM_THREADS": "4", "MKL_NUM_THREADS": "4"}, workers=2),
    Variant("ATEN_CPU_CAPABILITY=default", {"ATEN_CPU_CAPABILITY": "default"}),
    Variant("ATEN_CPU_CAPABILITY=avx2", {"ATEN_CPU_CAPABILITY": "avx2"}),
    Variant("ATEN_CPU_CAPABILITY=avx512", {"ATEN_CPU_CAPABILITY": "avx512"}),
    Variant("MKL_CBWR=COMPATIBLE", {"MKL_CBWR": "COMPATIBLE"}),
    Variant("MKL_CBWR=AVX2", {"MKL_CBWR": "AVX2"}),
    Variant("MKL_ENABLE_INSTRUCTIONS=AVX2", {"MKL_ENABLE_INSTRUCTIONS": "AVX2"}),
    Variant("MKL_ENABLE_INSTRUCTIONS=SSE4_2", {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}),
)


def recipe(files: Mapping[str, Path], compute: str) -> str:
    """One step of each kind that computes, saved in each dtype."""
    lines = ["lorapipe: 1", f"defaults: {{device: cpu, compute: {compute}}}", "steps:"]
    lines += [f"  {name}: {{load: '{path}', family: sd1}}" for name, path in files.items()]
    lines += [
        "  concat: {concat: {a: 0.7, b: -0.4}}",
        "  shuffle: {shuffle: concat, seed: 7}",
        "  svd-resize: {svd-resize: concat, rank: 12, conv-rank: 6}",
        "  merge-into-checkpoint: {merge-into-checkpoint: base, loras: {a: 0.7, b: -0.4}, unmatched: ignore}",
    ]
    for kind in ("concat", "shuffle", "svd-resize", "merge-into-checkpoint"):
        lines += [
            f"  {kind}-{dtype}: {{save: {kind}, to: {kind}-{dtype}.safetensors, dtype: {dtype}}}"
            for dtype in DTYPES
        ]
    return "\n".join(lines) + "\n"


def build(folder: Path, text: str, variant: Variant) -> dict[str, Path]:
    """Build in an empty folder; the outputs by name."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "bits.yaml").write_text(text, encoding="utf-8")
    environment = {**os.environ, **variant.environment, "LORAPIPE_STORE": str(folder / "store")}
    command = [sys.executable, "-m", "lorapipe", "run", "--quiet", "--workers", str(variant.workers)]
    subprocess.run([*command, str(folder / "bits.yaml")], check=True, env=environment)
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def differing(one: Path, two: Path) -> tuple[int, int]:
    """How many values differ between two files of the same tensors, and how many there are."""
    import torch
    from safetensors import safe_open

    differ = total = 0
    with safe_open(one, "pt") as first, safe_open(two, "pt") as second:
        for name in first.keys():  # noqa: SIM118 - a safetensors handle is no mapping
            a, b = first.get_tensor(name), second.get_tensor(name)
            differ += int(torch.count_nonzero(a != b))
            total += a.numel()
    return differ, total


@dataclass(slots=True)
class Row:
    """One kind and dtype: the most values that differed, of how many, and in which variants."""

    worst: int = 0
    total: int = 0
    where: list[str] = field(default_factory=list)


def compare(
    work: Path, files: Mapping[str, Path], variants: Sequence[Variant]
) -> Iterator[tuple[str, str, Row]]:
    """(compute, output, row) for every output of every compute dtype."""
    for compute in COMPUTE:
        text = recipe(files, compute)
        reference = build(work / "reference", text, variants[0])
        rows = {name: Row() for name in reference}
        for variant in variants[1:]:
            for name, path in build(work / "variant", text, variant).items():
                differ, rows[name].total = differing(reference[name], path)
                rows[name].worst = max(rows[name].worst, differ)
                rows[name].where += [variant.name] if differ else []
        yield from ((compute, name, row) for name, row in rows.items())


def report(found: Sequence[tuple[str, str, Row]], variants: Sequence[Variant]) -> str:
    """The result as Markdown."""
    machine = facts(Path.cwd())
    lines = [
        "# The same bits: what held",
        "",
        "Made by `python -m benchmarks.same_bits`: one recipe, built under each of these settings,",
        "and compared with the first: " + ", ".join(f"`{v.name}`" for v in variants) + ".",
        "",
        f"Machine: {machine['CPU']}; Python {machine['Python']}, torch {machine['torch']}.",
        "",
        "| compute | step | saved as | values | most that differ | under |",
        "|---|---|---|---|---|---|",
    ]
    for compute, name, row in found:
        kind, _, dtype = name.rpartition("-")
        where = ", ".join(f"`{one}`" for one in row.where) or "-"
        lines.append(f"| {compute} | {kind} | {dtype} | {row.total:,} | {row.worst:,} | {where} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the comparison and write its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--folder", type=Path, help="where data and outputs go; by default a temporary folder"
    )
    parser.add_argument("--small", action="store_true", help="divided shapes and three variants: a trial")
    parser.add_argument("--out", type=Path, help="write the Markdown here; by default it is printed")
    chosen = parser.parse_args(arguments)
    divide, variants = (8, VARIANTS[:3]) if chosen.small else (1, VARIANTS)
    with tempfile.TemporaryDirectory() as scratch:
        folder = chosen.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        files = {
            # A merge is the same arithmetic for every tensor: each fourth will do.
            "base": make_checkpoint(folder, Checkpoint("sd15", divide=divide, every=4)),
            "a": make_lora(folder, Lora("sd15", 16, 1, kind="all", divide=divide)),
            "b": make_lora(folder, Lora("sd15", 32, 2, divide=divide)),
        }
        text = report(list(compare(folder, files, variants)), variants)
    if chosen.out is not None:
        chosen.out.write_text(text, encoding="utf-8")
    else:
        print(text)  # noqa: T201 - this is a program


if __name__ == "__main__":
    main()
