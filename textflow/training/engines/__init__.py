"""Distributed training with DDP, ZeRO and FSDP, numerically equivalent to one process."""
