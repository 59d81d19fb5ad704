"""What a checkpoint's tensors are: places of reference weights, scales, modules that a LoRA could have."""
