"""sd-mecha: kohya LoRAs into a checkpoint, as its documentation describes it.

mecha_merge.py LAYOUT OUT BASE LORA=WEIGHT ...
"""

import sys

import sd_mecha
import torch
from sd_mecha.keys_map import RealizedKeyRelation

# Release 1.1.8 converts no SD1 LoRA: its conversion indexes a class that cannot be indexed.
# With this one method, which is what the line means, it does.
if not hasattr(RealizedKeyRelation, "__getitem__"):
    RealizedKeyRelation.__getitem__ = lambda relation, name: relation.inputs[name]


def main(layout: str, out: str, base: str, *loras: str) -> None:
    """W + sum of weight * delta, in float32, saved in fp16."""
    config = {"sd15": "sd1-ldm", "sdxl": "sdxl-sgm"}[layout]
    recipe = model = sd_mecha.model(base, config)
    for lora in loras:
        path, _, weight = lora.rpartition("=")
        network = sd_mecha.model(path, f"{config.split('-')[0]}-kohya_kohya_lora")
        recipe = recipe + sd_mecha.convert(network, model) * float(weight)
    sd_mecha.merge(
        recipe, fallback_model=model, output=out, merge_dtype=torch.float32, output_dtype=torch.float16
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
