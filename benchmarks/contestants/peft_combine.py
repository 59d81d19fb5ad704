"""PEFT: ``add_weighted_adapter`` over LoRAs of one shape of model, from kohya's files and back.

peft_combine.py svd|cat RANK OUT LORA=WEIGHT ...    (with no LoRA: start-up alone)

The model is one Linear for each module; its weights are memory that nobody touches.

"""

import sys

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraModel
from safetensors.torch import load_file, save_file


def main(combination: str, rank: str, out: str, *loras: str) -> None:
    """The factors that PEFT makes, in fp16, under kohya's names, alpha = rank."""
    files, weights = {}, []
    for number, lora in enumerate(loras):
        path, _, weight = lora.rpartition("=")
        files[f"lora{number}"] = load_file(path)
        weights.append(float(weight))
    if files:
        save_file(combined(files, weights, combination, int(rank)), out)


def combined(
    files: dict[str, dict[str, torch.Tensor]], weights: list[float], combination: str, rank: int
) -> dict[str, torch.Tensor]:
    """One adapter of several, as kohya names it."""
    first = next(iter(files.values()))
    stems = sorted({key.partition(".")[0] for key in first})
    # PEFT passes over modules with `lora_` in their names, and every one of kohya's has it.
    places = {stem: stem.removeprefix("lora_") for stem in stems}
    base = torch.nn.Module()
    for stem, place in places.items():
        into, outof = first[f"{stem}.lora_down.weight"].shape[1], len(first[f"{stem}.lora_up.weight"])
        base.add_module(place, torch.nn.utils.skip_init(torch.nn.Linear, into, outof, bias=False))
    model = None
    for name, factors in files.items():
        config = LoraConfig(
            r=len(factors[f"{stems[0]}.lora_down.weight"]),
            lora_alpha=factors[f"{stems[0]}.alpha"].item(),
            target_modules=list(places.values()),
            init_lora_weights=False,
        )
        if model is None:
            model = LoraModel(base, config, name)
        else:
            model.peft_config[name] = config
            model.inject_adapter(base, name)
        for stem, place in places.items():
            layer = getattr(base, place)
            layer.lora_A[name].weight.data = factors[f"{stem}.lora_down.weight"].float()
            layer.lora_B[name].weight.data = factors[f"{stem}.lora_up.weight"].float()
    model.add_weighted_adapter(
        list(files), weights, "out", combination, svd_rank=rank if combination == "svd" else None
    )
    found = {}
    for stem, place in places.items():
        layer = getattr(base, place)
        down, up = layer.lora_A["out"].weight.data, layer.lora_B["out"].weight.data
        found[f"{stem}.lora_down.weight"] = down.half().contiguous()
        found[f"{stem}.lora_up.weight"] = up.half().contiguous()
        found[f"{stem}.alpha"] = torch.tensor(layer.scaling["out"] * len(down))
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
