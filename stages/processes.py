"""The processes that train together, which PyTorch's launcher, torchrun, has started."""

import sys

import torch.distributed as dist


def join_processes(fingerprint: bytes) -> tuple[int, int]:
    """Join the processes that torchrun has started, if it has; returns the rank of this one and their number.

    Ends with a line if they do not all belong to the run of this `fingerprint`.
    """
    if dist.is_torchelastic_launched():
        dist.init_process_group()
    rank, processes = ranks()
    if processes > 1:
        fingerprints = [b""] * processes
        dist.all_gather_object(fingerprints, fingerprint)
        if len(set(fingerprints)) > 1:
            sys.exit(
                "launch.train: processes with other values, data, code or packages have joined this run; give each run "
                "a `--rdzv-id` of its own, each machine the same commit, and unequal machines no `precision: auto`"
            )
    return rank, processes


def check_batches(size: int, batch_size: int, processes: int, least: int) -> None:
    """End with a line if a batch of the `size` images has less than `least` of them for each process."""
    share = (size % batch_size or batch_size) // processes
    if share < least:
        sys.exit(
            f"--batch_size {batch_size}: the smallest batch has {share} images for each process of `launch.train` "
            f"({processes}), and this network needs {least}"
        )


def ranks() -> tuple[int, int]:
    """The rank of this process among those that train together, and their number."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
