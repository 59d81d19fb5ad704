"""The steps of a sweep as calls, one after the other: what they cost without anything around them.

sweep_steps.py FOLDER STRENGTH,... RANK,... LORA=WEIGHT ...
"""

import sys
from pathlib import Path

import lorapipe


def main(folder: str, strengths: str, ranks: str, *terms: str) -> None:
    """Each strength of the first LoRA with each rank, in fp16; the weight of the first is not used."""
    Path(folder).mkdir(parents=True)
    loaded = []
    for term in terms:
        path, _, weight = term.rpartition("=")
        loaded.append((lorapipe.load(path), float(weight)))
    for strength in strengths.split(","):
        both = lorapipe.concat([(loaded[0][0], float(strength)), *loaded[1:]])
        for rank in ranks.split(","):
            small = lorapipe.svd_resize(both, rank=int(rank))
            lorapipe.save(small, to=f"{folder}/s{strength}-r{rank}.safetensors", dtype="fp16")


if __name__ == "__main__":
    main(*sys.argv[1:])
