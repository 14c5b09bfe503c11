"""data/FashionMNIST → model.pth, training curves."""

import sys
from math import isfinite
from pathlib import Path

import checkpoint
import numpy as np
import torch
from command import Count, Fraction, NonNegative, Positive, Seed, Threads, run
from dataset import read_split, split_files
from dvclive import Live
from files import write
from model import MLP, Device, infer, set_up
from torch import Tensor, nn


def train(
    dataset: Path,
    model_file: Path,
    curves: Path,
    checkpoint_file: Path,
    /,
    *,
    seed: Seed,
    epochs: Count,
    batch_size: Count,
    learning_rate: Positive,
    momentum: Fraction,
    shuffle: bool,
    augment: bool,
    validation_size: NonNegative,
    dropout: Fraction,
    hidden_size: Count,
    device: Device,
    threads: Threads,
) -> None:
    """Train on the training split, but for its last `validation_size` images, and save the `state_dict`.

    Goes on from the last finished epoch of a run that was killed, if nothing it depends on has changed.
    """
    values = {name: value for name, value in locals().items() if not isinstance(value, Path)}
    on = set_up(device, threads)
    run_fingerprint = checkpoint.fingerprint(values | {"device": on}, split_files(dataset, "train"))
    images, labels = (tensor.to(on) for tensor in read_split(dataset, "train"))
    size = len(labels) - validation_size
    if size < 1:
        sys.exit(f"--validation_size {validation_size}: leaves nothing to train on of {len(labels)} images")

    torch.manual_seed(seed)
    network = MLP(hidden_size, dropout).to(on)
    optimizer = torch.optim.SGD(network.parameters(), lr=learning_rate, momentum=momentum)
    history: list[dict[str, float]] = []
    print(network)
    if state := checkpoint.load(checkpoint_file, run_fingerprint):
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        history = state["history"]
        print(f"Going on after epoch {len(history)}")

    with Live(str(curves), dvcyaml=False, save_dvc_exp=False, report=None) as live:
        for results in history:
            log(live, results)
        for epoch in range(len(history) + 1, epochs + 1):
            # All randomness of an epoch is a function of (seed, epoch): a checkpoint needs no generator's state.
            torch.manual_seed(int(np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)[0]))
            order = torch.randperm(size) if shuffle else torch.arange(size)
            results = {"train_loss": train_epoch(network, optimizer, images, labels, order.to(on), batch_size, augment)}
            if not isfinite(results["train_loss"]):
                sys.exit(
                    f"The loss is {results['train_loss']} after epoch {epoch}: lower --learning_rate {learning_rate}"
                )
            if validation_size:
                logits = infer(network, images[size:])
                results["validation_loss"] = nn.functional.cross_entropy(logits, labels[size:]).item()
                results["validation_accuracy"] = (logits.argmax(1) == labels[size:]).float().mean().item()
            print(f"Epoch {epoch}/{epochs}:", ", ".join(f"{name} {value:.4f}" for name, value in results.items()))
            history.append(results)
            state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "history": history}
            checkpoint.save(checkpoint_file, run_fingerprint, state)
            log(live, results)

    write(model_file, checkpoint.serialized({name: weights.cpu() for name, weights in network.state_dict().items()}))
    print(f"Saved the weights to {model_file}")
    checkpoint_file.unlink()


def train_epoch(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    order: Tensor,
    batch_size: int,
    augment: bool,
) -> float:
    """One pass over the images in `order`; returns the mean loss of an image."""
    network.train()
    total = torch.zeros((), device=images.device)
    for number, batch in enumerate(order.split(batch_size)):
        inputs = images[batch]
        if augment:
            mirrored = torch.rand(len(batch)).to(images.device) < 0.5
            inputs = torch.where(mirrored[:, None, None, None], inputs.flip(-1), inputs)
        loss = nn.functional.cross_entropy(network(inputs), labels[batch])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        total += loss.detach() * len(batch)
        if number % 100 == 0:
            seen = number * batch_size + len(batch)
            print(f"loss: {loss.item():>7f} [{seen:>5d}/{len(order):>5d}]", flush=True)
    return (total / len(order)).item()


def log(live: Live, results: dict[str, float]) -> None:
    """Add an epoch's results to the training curves."""
    live.step += 1
    for name, value in results.items():
        live.log_metric(name, value)
    live.make_summary()


if __name__ == "__main__":
    run(train)
