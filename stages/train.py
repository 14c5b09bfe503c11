"""data/FashionMNIST → model.pth, curves.csv, training.json."""

import sys
from collections.abc import Callable
from math import isfinite, nan
from pathlib import Path
from typing import Literal

import augment
import checkpoint
import numpy as np
import torch
import torch.distributed as dist
from command import Blocks, Count, Fraction, NonNegative, Pixels, Positive, Seed, Size, Threads, Width, run
from dataset import read_split, split_files, to_floats
from files import write, write_csv, write_json
from model import Device, Network, build, infer, set_up
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from tqdm import tqdm


def train(
    dataset: Path,
    model_file: Path,
    curves_file: Path,
    training_file: Path,
    checkpoint_file: Path,
    /,
    *,
    seed: Seed,
    epochs: Count,
    batch_size: Count,
    optimizer: Literal["sgd", "muon"],
    learning_rate: Positive,
    schedule: Literal["constant", "one_cycle"],
    momentum: Fraction,
    label_smoothing: Fraction,
    shuffle: bool,
    flip: bool,
    shift: Pixels,
    erase: Fraction,
    precision: Literal["fp32", "bf16"],
    validation_size: NonNegative,
    network: Network,
    hidden_size: Size,
    width: Width,
    blocks: Blocks,
    device: Device,
    threads: Threads,
) -> None:
    """Train on the training split, but for its last `validation_size` images, and save the `state_dict`.

    Goes on from the last finished epoch of a run that was killed, if nothing it depends on has changed. Started by
    torchrun, each of its processes takes a share of every batch, and the first one writes.
    """
    values = {name: value for name, value in locals().items() if not isinstance(value, Path)}
    on = set_up(device, threads)
    run_fingerprint = checkpoint.fingerprint(values | {"device": on}, split_files(dataset, "train"))
    images, labels = (tensor.to(on) for tensor in read_split(dataset, "train"))
    size = len(labels) - validation_size
    if size < 1:
        sys.exit(f"--validation_size {validation_size}: leaves nothing to train on of {len(labels)} images")
    steps = -(-size // batch_size)
    if dist.is_torchelastic_launched():
        dist.init_process_group()
    rank, processes = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    if 0 < size % batch_size < processes or batch_size < processes:
        sys.exit(
            f"--batch_size {batch_size}: a batch has fewer images than the {processes} processes of `launch.train`"
        )

    torch.manual_seed(seed)
    model = build(network, hidden_size, width, blocks).to(on)
    mirrored = (torch.rand(size) < 0.5).to(on)  # in one epoch, and the others in the next
    steppers = optimize(model, optimizer, learning_rate, momentum, schedule, epochs * steps)
    parts = [model, *steppers]
    parallel = nn.parallel.DistributedDataParallel(model) if processes > 1 else model
    history: list[dict[str, float]] = []
    print(model)
    states = [checkpoint.load(checkpoint_file, run_fingerprint) if rank == 0 else None]
    if processes > 1:
        dist.broadcast_object_list(states)
    if state := states[0]:
        for part, saved in zip(parts, state["parts"], strict=True):
            part.load_state_dict(saved)
        history = state["history"]
        if rank == 0:
            report(curves_file, training_file, history)
        print(f"Going on after epoch {len(history)}")

    def step(batch: Tensor) -> Tensor:
        """Learn from this process's share of the images of those numbers; returns its part of their mean loss."""
        share = batch.tensor_split(processes)[rank]
        inputs = images[share]
        if flip:
            inputs = augment.flip(inputs, mirrored[share] ^ (epoch % 2 == 0))
        if shift:
            inputs = augment.shift(inputs, shift)
        if erase:
            inputs = augment.erase(inputs, erase)
        with torch.autocast(on.type, torch.bfloat16, enabled=precision == "bf16"):
            logits = parallel(to_floats(inputs))
        loss = nn.functional.cross_entropy(logits.float(), labels[share], label_smoothing=label_smoothing)
        loss = loss * (len(share) * processes / len(batch))  # the gradients are averaged over the processes
        loss.backward()
        for stepper in steppers:
            stepper.step()
        model.zero_grad()
        return loss.detach()

    with tqdm(total=epochs * steps, initial=len(history) * steps, unit="batch", disable=None) as bar:
        for epoch in range(len(history) + 1, epochs + 1):
            # All randomness of an epoch is a function of (seed, epoch): a checkpoint needs no generator's state.
            seed_all(seed, epoch)
            order = torch.randperm(size) if shuffle else torch.arange(size)
            if rank:
                seed_all(seed, epoch, rank)  # the order is of all processes, shifts and rectangles are of each
            model.train()
            loss = train_epoch(step, order.to(on), batch_size, bar)
            if not isfinite(loss):
                sys.exit(f"The loss is {loss} after epoch {epoch}: lower --learning_rate {learning_rate}")
            results = {"train_loss": loss} | validate(model, images[size:], labels[size:])
            told = [f"{name} {value:.4f}" for name, value in results.items() if isfinite(value)]
            bar.write(f"Epoch {epoch}/{epochs}: " + ", ".join(told))
            history.append({"epoch": epoch} | results)
            if rank == 0:
                state = {"parts": [part.state_dict() for part in parts], "history": history}
                checkpoint.save(checkpoint_file, run_fingerprint, state)
                report(curves_file, training_file, history)

    if rank == 0:
        weights = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
        write(model_file, checkpoint.serialized(weights))
        print(f"Saved the weights to {model_file}")
        checkpoint_file.unlink()
    if dist.is_initialized():
        dist.destroy_process_group()


def seed_all(*numbers: int) -> None:
    """Seed PyTorch from all of the numbers."""
    torch.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]))


def optimize(
    model: nn.Module,
    optimizer: Literal["sgd", "muon"],
    learning_rate: float,
    momentum: float,
    schedule: Literal["constant", "one_cycle"],
    steps: int,
) -> list[Optimizer | LRScheduler]:
    """What steps after each batch: the optimizers, then the schedules of their learning rates over `steps` steps.

    With Muon the weights that are matrices learn by Muon, of Jordan et al. (2024), and the others by SGD.
    """
    matrices = [weights for weights in model.parameters() if optimizer == "muon" and weights.ndim == 2]
    others = [weights for weights in model.parameters() if optimizer == "sgd" or weights.ndim != 2]
    optimizers: list[Optimizer] = [torch.optim.SGD(others, learning_rate, momentum, nesterov=momentum > 0)]
    if matrices:
        optimizers.append(torch.optim.Muon(matrices, learning_rate, weight_decay=0, momentum=momentum))
    cycled = optimizers if schedule == "one_cycle" else []
    return [*optimizers, *(OneCycleLR(each, learning_rate, steps, cycle_momentum=False) for each in cycled)]


def train_epoch(step: Callable[[Tensor], Tensor], order: Tensor, batch_size: int, bar: tqdm) -> float:
    """One pass over the images in `order`; returns the mean loss of an image."""
    total = torch.zeros((), device=order.device)
    for number, batch in enumerate(order.split(batch_size)):
        loss = step(batch)
        total += loss * len(batch)
        bar.update()
        if number % 100 == 0:
            seen = number * batch_size + len(batch)
            bar.write(f"loss: {loss.item():>7f} [{seen:>5d}/{len(order):>5d}]")
    if dist.is_initialized():
        dist.all_reduce(total)
        total /= dist.get_world_size()
    return (total / len(order)).item()


def validate(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, float]:
    """The mean loss and the accuracy on the images held out; nan where there are none."""
    if not len(labels):
        return {"validation_loss": nan, "validation_accuracy": nan}
    logits = infer(model, images)
    accuracy = (logits.argmax(1) == labels).float().mean().item()
    return {"validation_loss": nn.functional.cross_entropy(logits, labels).item(), "validation_accuracy": accuracy}


def report(curves_file: Path, training_file: Path, history: list[dict[str, float]]) -> None:
    """Write the results of every epoch for `dvc plots`, and those of the last one for `dvc exp show`."""
    write_csv(curves_file, [history[0], *(map(str, results.values()) for results in history)])
    write_json(training_file, {name: value for name, value in history[-1].items() if isfinite(value)})


if __name__ == "__main__":
    run(train)
