"""What one writes by hand: ``load_file``, add, ``save_file``. Float32 sums, rounded to fp16 once.

plain_merge.py MAP OUT BASE LORA=WEIGHT ...
"""

import json
import sys
from pathlib import Path

from safetensors.torch import load_file, save_file


def main(places: str, out: str, base: str, *loras: str) -> None:
    """W + sum of weight * alpha / rank * up @ down."""
    where = json.loads(Path(places).read_text(encoding="utf-8"))
    model = load_file(base)
    loaded = []
    for lora in loras:
        path, _, weight = lora.rpartition("=")
        loaded.append((load_file(path), float(weight)))
    for stem, (key, first, end) in where.items():
        terms = [(lora, weight) for lora, weight in loaded if f"{stem}.alpha" in lora]
        if not terms:
            continue
        part = model[key][first:end]
        total = part.float()
        for lora, weight in terms:
            up, down = lora[f"{stem}.lora_up.weight"].float(), lora[f"{stem}.lora_down.weight"].float()
            delta = up.flatten(1) @ down.flatten(1)
            total += (weight * lora[f"{stem}.alpha"].item() / len(down)) * delta.reshape(part.shape)
        part.copy_(total)
    save_file(model, out, {"format": "pt"})


if __name__ == "__main__":
    main(*sys.argv[1:])
