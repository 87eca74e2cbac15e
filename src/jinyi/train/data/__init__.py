"""What a step is made of: rows of files, sampled, masked, packed, as tensors; every one a function of (seed, step)."""
