"""What one writes by hand: ``load_file``, ``cat``, ``save_file``. The strengths go into the ups.

plain_concat.py OUT LORA=WEIGHT ...
"""

import sys

import torch
from safetensors.torch import load_file, save_file


def main(out: str, *loras: str) -> None:
    """[c1*up1, c2*up2] and [down1; down2] with alpha = rank, in fp16."""
    loaded = []
    for lora in loras:
        path, _, weight = lora.rpartition("=")
        loaded.append((load_file(path), float(weight)))
    stems = sorted({key.partition(".")[0] for lora, _ in loaded for key in lora})
    joined = {}
    for stem in stems:
        ups, downs = [], []
        for lora, weight in loaded:
            if f"{stem}.alpha" in lora:
                up, down = lora[f"{stem}.lora_up.weight"].float(), lora[f"{stem}.lora_down.weight"]
                ups.append((up * (weight * lora[f"{stem}.alpha"].item() / len(down))).half())
                downs.append(down)
        joined[f"{stem}.lora_up.weight"] = torch.cat(ups, dim=1)
        joined[f"{stem}.lora_down.weight"] = torch.cat(downs)
        joined[f"{stem}.alpha"] = torch.tensor(float(len(joined[f"{stem}.lora_down.weight"])))
    save_file(joined, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
