"""data/FashionMNIST → model.pth, curves.csv, training.json."""

from dataclasses import replace
from math import ceil, isfinite, nan
from pathlib import Path
import sys
from typing import Annotated, Literal

from command import number, run, section
import augment
import checkpoint
from compute import Compute, fastest_precision, place, set_up
from dataset import read_split, split_files, to_floats
from files import write, write_csv, write_json
from inputs import check_inputs
from model import Model, build, compute_logits, least_batch
from muon import MuonFP32
import numpy as np
from processes import check_batches, join_processes, ranks
import torch
from torch import Tensor, nn
import torch.distributed as dist
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from tqdm import tqdm


@section
class Train:
    seed: Annotated[int, number(gte=0, lt=2**64)]
    epochs: Annotated[int, number(gte=1, lte=100_000)]
    batch_size: Annotated[int, number(gte=1, lte=100_000)]
    optimizer: Literal["sgd", "muon"]
    learning_rate: Annotated[float, number(gt=0)]
    schedule: Literal["constant", "one_cycle"]
    momentum: Annotated[float, number(gte=0, lt=1)]
    label_smoothing: Annotated[float, number(gte=0, lt=1)]
    shuffle: bool
    flip: bool
    shift: Annotated[int, number(gte=0, lte=27)]
    cutmix: Annotated[float, number(gte=0, lte=1)]
    precision: Literal["fp32", "bf16", "auto"]
    validation_size: Annotated[int, number(gte=0)]


def train(
    dataset: Path,
    model_file: Path,
    curves_file: Path,
    training_file: Path,
    checkpoint_file: Path,
    /,
    *,
    train: Train,
    model: Model,
    compute: Compute,
) -> None:
    """Train on the training split, except its last `validation_size` images, and save the `state_dict`.

    Resumes after the last finished epoch of a run that was killed, unless something it depends on has changed. Started
    by torchrun, each process takes a share of every batch, and the first one writes.
    """
    device = set_up(compute)
    if train.precision == "auto":
        train = replace(train, precision=fastest_precision(compute, device))
        print(f"Training in {train.precision}")
    fingerprint = checkpoint.fingerprint([train, model, compute, device], split_files(dataset, "train"))
    images, labels = (tensor.to(device) for tensor in read_split(dataset, "train"))
    size = training_size(len(labels), train)
    rank, processes = join_processes(fingerprint)  # 0 and 1 without torchrun
    check_inputs()  # so that the fingerprint is that of the code that was imported, and of the data that were read
    check_batches(size, train.batch_size, processes, least_batch(model))

    torch.manual_seed(train.seed)
    network = place(build(model), compute, device)
    flipped = (torch.rand(size) < 0.5).to(device)
    steps = ceil(size / train.batch_size)  # of an epoch
    optimizers, schedulers = build_optimizers(network, train, train.epochs * steps)
    parallel = nn.parallel.DistributedDataParallel(network) if processes > 1 else network
    print(network)
    parts = [network, *optimizers, *schedulers]
    history = checkpoint.resume(checkpoint_file, fingerprint, parts)
    if history and rank == 0:
        print(f"Resuming after epoch {len(history)}")
        write_history(curves_file, training_file, history)
    with tqdm(total=train.epochs * steps, initial=len(history) * steps, unit="batch", disable=None) as bar:
        for epoch in range(len(history) + 1, train.epochs + 1):
            drawn = augment_epoch(images[:size], labels[:size], flipped, train, epoch)
            loss = train_epoch(parallel, optimizers, schedulers, *drawn, train, bar)
            del drawn  # so that the next epoch can use its memory
            if not isfinite(loss):
                sys.exit(f"The loss is {loss} after epoch {epoch}: lower `train.learning_rate`, {train.learning_rate}")
            compute_logits(network, images[:1000])  # which ends a run whose last step has made the weights overflow
            results = {"train_loss": round(loss, 4)} | validate(network, images[size:], labels[size:])
            shown = [f"{name} {value:.4f}" for name, value in results.items() if isfinite(value)]
            bar.write(f"Epoch {epoch}/{train.epochs}: " + ", ".join(shown))
            history.append({"epoch": epoch} | results)
            if rank == 0:
                checkpoint.save(checkpoint_file, fingerprint, parts, history)
                write_history(curves_file, training_file, history)
    check_inputs()  # while there is a checkpoint to go on from
    if rank == 0:
        save(network, model_file)
        checkpoint_file.unlink()
    if dist.is_initialized():
        dist.destroy_process_group()


def training_size(count: int, train: Train) -> int:
    """How many of the `count` images are trained on, and not held out; ends with a line if none are."""
    size = count - train.validation_size
    if size < 1:
        sys.exit(f"--validation_size {train.validation_size}: leaves none of the {count} images to train on")
    return size


def build_optimizers(network: nn.Module, train: Train, steps: int) -> tuple[list[Optimizer], list[LRScheduler]]:
    """The optimizers, and the schedulers of their learning rates over `steps` steps.

    With Muon the weights that are matrices learn by it, and the others by SGD.
    """
    if train.schedule == "one_cycle" and steps < 2:
        sys.exit(f"--batch_size {train.batch_size}: one step, with which one_cycle learns nothing; lower it")
    matrices = [weights for weights in network.parameters() if train.optimizer == "muon" and weights.ndim == 2]
    others = [weights for weights in network.parameters() if train.optimizer == "sgd" or weights.ndim != 2]
    rate, momentum = train.learning_rate, train.momentum
    optimizers: list[Optimizer] = [torch.optim.SGD(others, rate, momentum, nesterov=momentum > 0)]
    if matrices:
        muon = torch.optim.Muon if train.precision == "bf16" else MuonFP32
        optimizers.append(muon(matrices, rate, weight_decay=0, momentum=momentum))
    scheduled = optimizers if train.schedule == "one_cycle" else []
    return optimizers, [OneCycleLR(each, rate, steps, cycle_momentum=False) for each in scheduled]


def augment_epoch(images: Tensor, labels: Tensor, flipped: Tensor, train: Train, epoch: int) -> tuple[Tensor, Tensor]:
    """The images of an epoch, augmented and in the order of training, with their labels or the probabilities of them.

    With `flip`, the images that `flipped` marks, bool [N], are flipped in odd epochs and the others in even ones. All
    randomness is a function of (seed, epoch): a checkpoint needs no generator state.
    """
    torch.manual_seed(int(np.random.SeedSequence([train.seed, epoch]).generate_state(1, np.uint64)[0]))
    if train.shuffle:
        order = torch.randperm(len(labels)).to(images.device)
        images, labels, flipped = images[order], labels[order], flipped[order]
    if train.flip:
        images = augment.flip(images, flipped ^ (epoch % 2 == 0))
    if train.shift:
        images = augment.shift(images, train.shift)
    if train.cutmix:
        images, labels = augment.cutmix(images, labels, train.batch_size, train.cutmix)
    return images, labels


def train_epoch(
    network: nn.Module,
    optimizers: list[Optimizer],
    schedulers: list[LRScheduler],
    images: Tensor,
    labels: Tensor,
    train: Train,
    bar: tqdm,
) -> float:
    """One pass over the images, in batches of which this process takes its share; returns the mean loss of an image."""
    rank, processes = ranks()
    total = torch.zeros((), device=images.device)
    network.train()
    batches = zip(images.split(train.batch_size), labels.split(train.batch_size), strict=True)
    for step, batch in enumerate(batches):
        inputs, targets = (part.tensor_split(processes)[rank] for part in batch)
        size = len(batch[1])
        with torch.autocast(images.device.type, torch.bfloat16, enabled=train.precision == "bf16"):
            logits = network(to_floats(inputs))
        loss = nn.functional.cross_entropy(logits.float(), targets, label_smoothing=train.label_smoothing)
        loss = loss * (len(targets) * processes / size)  # 1, or for DDP, which averages gradients of unequal shares
        loss.backward()
        for each in (*optimizers, *schedulers):
            each.step()
        network.zero_grad()
        total += loss.detach() * size
        bar.update()
        if step % 100 == 0:
            bar.write(f"loss: {loss.item():>7f} [{step * train.batch_size + size:>5d}/{len(labels):>5d}]")
    if processes > 1:
        dist.all_reduce(total)
    return (total / processes / len(labels)).item()


def validate(network: nn.Module, images: Tensor, labels: Tensor) -> dict[str, float]:
    """The mean loss and the accuracy on the images held out; nan where there are none."""
    if not len(labels):
        return {"validation_loss": nan, "validation_accuracy": nan}
    logits = compute_logits(network, images)
    loss = nn.functional.cross_entropy(logits, labels).item()
    accuracy = (logits.argmax(1) == labels).float().mean().item()
    return {"validation_loss": round(loss, 4), "validation_accuracy": round(accuracy, 4)}


def write_history(curves_file: Path, training_file: Path, history: list[dict[str, float]]) -> None:
    """Write the results of every epoch for `dvc plots`, and those of the last one for `dvc exp show`."""
    write_csv(curves_file, [history[0].keys(), *(results.values() for results in history)])
    write_json(training_file, {name: value for name, value in history[-1].items() if isfinite(value)})


def save(network: nn.Module, model_file: Path) -> None:
    """Save the weights as a `state_dict` on the CPU."""
    weights = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
    write(model_file, checkpoint.serialize(weights))
    print(f"Saved the weights to {model_file}")


if __name__ == "__main__":
    run(train)
