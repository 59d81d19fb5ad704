"""What one writes by hand for a folder: ``load_file``, add, ``save_file``, shard by shard.

plain_shards.py OUT BASE ADAPTER=WEIGHT
"""

import json
import shutil
import sys
from pathlib import Path

from safetensors.torch import load_file, save_file


def main(out: str, base: str, adapter: str) -> None:
    """W + weight * alpha / rank * B @ A, in float32, rounded to fp16 once; what is no shard is copied."""
    folder, _, weight = adapter.rpartition("=")
    config = json.loads(Path(folder, "adapter_config.json").read_text(encoding="utf-8"))
    factors = load_file(Path(folder, "adapter_model.safetensors"))
    strength = float(weight) * config["lora_alpha"] / config["r"]
    Path(out).mkdir()
    for path in sorted(Path(base).iterdir()):
        if path.suffix != ".safetensors":
            shutil.copy(path, out)
            continue
        tensors = load_file(path)
        for key, value in tensors.items():
            stem = "base_model.model." + key.removesuffix(".weight")
            if f"{stem}.lora_A.weight" in factors:
                delta = factors[f"{stem}.lora_B.weight"].float() @ factors[f"{stem}.lora_A.weight"].float()
                value.copy_(value.float() + strength * delta)
        save_file(tensors, Path(out, path.name), {"format": "pt"})


if __name__ == "__main__":
    main(*sys.argv[1:])
