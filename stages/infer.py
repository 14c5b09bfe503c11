"""A trained network's answers, with the names of the classes."""

from pathlib import Path
import sys
from typing import Annotated

from command import number, section
from cyclopts import Parameter
from model import Model, build, compute_logits
import torch
from torch import Tensor, nn


@section
class Infer:
    test_time_flip: bool
    test_time_shift: Annotated[int, number(gte=0, lte=27)]


def _check_ten(_: type, names: list[str]) -> None:
    if len(set(names)) != 10 or len(names) != 10 or not all(names):
        raise ValueError("Expected ten distinct names, one for each label.")


@section
class Labels:
    classes: Annotated[list[str], Parameter(validator=_check_ten, allow_leading_hyphen=True)]


def load(file: Path, model: Model) -> nn.Module:
    """The declared network with the weights in `file`, on the CPU."""
    network = build(model)
    try:
        weights = torch.load(file, map_location="cpu", weights_only=True)
        if any(weights[name].dtype != own.dtype for name, own in network.state_dict().items()):
            raise TypeError  # load_state_dict would convert them
        network.load_state_dict(weights)
    except FileNotFoundError as error:
        reason = error.strerror
        sys.exit(f"{file}: {reason}; `dvc repro train` makes it, or `dvc pull {file}` fetches it if it was pushed")
    except OSError:
        raise  # it says what is wrong
    except Exception:  # a damaged pickle can raise any
        sys.exit(
            f"{file}: not the weights of {model.network} (hidden_size {model.hidden_size}, width {model.width}, "
            f"blocks {model.blocks}); run `dvc repro train`, or declare its own network in params.yaml"
        )
    return network


def average_logits(network: nn.Module, images: Tensor, infer: Infer) -> Tensor:
    """The logits [N, 10] of images, uint8 [N, 1, 28, 28], averaged over the views of an image."""
    return torch.stack([compute_logits(network, view) for view in views(images, infer)]).mean(0)


def views(images: Tensor, infer: Infer) -> list[Tensor]:
    """The images [N, 1, H, W]; with a shift, also moved towards each corner; with a flip, all of these also flipped."""
    shift = infer.test_time_shift
    corners = [(x, y) for x in (shift, -shift) for y in (shift, -shift)] if shift else []
    moved = [images, *(nn.functional.pad(images, [x, -x, y, -y]) for x, y in corners)]
    return moved + [view.flip(-1) for view in moved] if infer.test_time_flip else moved
