"""PEFT: ``merge_and_unload`` of an adapter's folder into a model's, saved by transformers.

peft_merge.py OUT SHARD_SIZE BASE ADAPTER
"""

import sys

import peft
from transformers import AutoModelForCausalLM


def main(out: str, shard_size: str, base: str, adapter: str) -> None:
    """The model in the dtype that it has, on the CPU."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    merged = peft.PeftModel.from_pretrained(model, adapter).merge_and_unload()
    merged.save_pretrained(out, max_shard_size=int(shard_size))


if __name__ == "__main__":
    main(*sys.argv[1:])
