"""The dense way to another rank, thin and on one thread: one SVD of each module's summed delta.

dense_svd.py RANK OUT LORA=WEIGHT ...    (with no LoRA: start-up alone)
"""

import sys

import torch
from safetensors.torch import load_file, save_file


def main(rank: str, out: str, *loras: str) -> None:
    """U*S and Vh of float32 deltas, cut to ``rank``, in fp16."""
    torch.set_num_threads(1)
    loaded = []
    for lora in loras:
        path, _, weight = lora.rpartition("=")
        loaded.append((load_file(path), float(weight)))
    small = {}
    for stem in sorted({key.partition(".")[0] for lora, _ in loaded for key in lora}):
        deltas = []
        for lora, weight in loaded:
            up, down = lora[f"{stem}.lora_up.weight"].float(), lora[f"{stem}.lora_down.weight"].float()
            deltas.append(
                (weight * lora[f"{stem}.alpha"].item() / len(down)) * (up.flatten(1) @ down.flatten(1))
            )
        U, S, Vh = torch.linalg.svd(torch.stack(deltas).sum(0), full_matrices=False)
        kept = min(int(rank), len(S))
        small[f"{stem}.lora_up.weight"] = (U[:, :kept] * S[:kept]).half().contiguous()
        small[f"{stem}.lora_down.weight"] = Vh[:kept].half().contiguous()
        small[f"{stem}.alpha"] = torch.tensor(float(kept))
    save_file(small, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
