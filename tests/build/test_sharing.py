"""Processes that build one recipe at once share the work: each result is made once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import lorapipe

from ..bench import Bench

SCRIPT = Path(__file__).with_name("sharing.py")


def test_of_three_processes_each_result_and_each_output_is_made_by_one(bench: Bench) -> None:
    bench.lora("a", rank=4)
    recipe = bench.recipe("""
        a: {load: a.safetensors}
        small: {svd-resize: a, rank: 2}
        mixed: {shuffle: small, seed: 7}
        one: {save: mixed, to: one.safetensors}
        two: {save: small, to: two.safetensors}
    """)
    environment = {**os.environ, "PYTHONPATH": str(Path(lorapipe.__file__).parents[1])}

    done = subprocess.run(
        [sys.executable, SCRIPT, recipe, "3"], capture_output=True, text=True, env=environment, check=False
    )

    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(told) == 3
    for step, made, others in (
        ("small", "built", {"store"}),
        ("mixed", "built", {"store"}),
        ("one", "written", {"found"}),
        ("two", "written", {"found"}),
    ):
        # Who came when all was done had nothing to do, and says nothing of the step.
        how = Counter(each[step] for each in told if step in each)
        assert how[made] == 1, (step, told)
        assert set(how) <= {made, *others}, (step, told)
