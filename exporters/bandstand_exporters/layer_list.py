"""A network built from weights by name and a written list of its layers, without guesses.

A state dict has no pooling, no activation, no stride, and no certain order. So the list has all
layers, one in each line, in the order of computation:

    conv1 padding=1      a name of the checkpoint's: its weights say what layer it is, and how large
    bn1
    relu
    max_pool size=2x2    what has no weights
    flatten
    fc1
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from bandstand.errors import CheckpointError

Group = dict[str, Tensor]
"""The weights of one layer by their last names."""
Options = dict[str, Any]

_COUNTER = "num_batches_tracked"
"""A weight of a batch norm that only training needs."""
_NORM = {"weight", "bias", "running_mean", "running_var"}
_CONV_AXES, _LINEAR_AXES = 4, 2
_OPTION = re.compile(r"(\w+)=(-?[\d.e+-]+)(?:x(\d+))?")


class Standardize(nn.Module):
    """Subtract a mean, divide by a deviation."""

    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.mean, self.std = mean, std

    def forward(self, picture: Tensor) -> Tensor:
        """Return the picture, standardised."""
        return (picture - self.mean) / self.std


def _global(pooling: nn.Module) -> nn.Module:
    return nn.Sequential(pooling, nn.Flatten())


_OPERATIONS: dict[str, tuple[Callable[..., nn.Module], dict[str, str]]] = {
    "relu": (nn.ReLU, {}),
    "elu": (nn.ELU, {}),
    "tanh": (nn.Tanh, {}),
    "leaky_relu": (nn.LeakyReLU, {"slope": "negative_slope"}),
    "standardize": (Standardize, {"mean": "mean", "std": "std"}),
    "max_pool": (
        nn.MaxPool2d,
        {"size": "kernel_size", "stride": "stride", "padding": "padding"},
    ),
    "average_pool": (
        nn.AvgPool2d,
        {"size": "kernel_size", "stride": "stride", "padding": "padding"},
    ),
    "global_max_pool": (lambda: _global(nn.AdaptiveMaxPool2d(1)), {}),
    "global_average_pool": (lambda: _global(nn.AdaptiveAvgPool2d(1)), {}),
    "flatten": (nn.Flatten, {}),
}
"""Layers without weights: what makes them, and their options by the names that it has for them."""
_CONV_OPTIONS = {name: name for name in ("stride", "padding", "dilation", "groups")}
_NORM_OPTIONS = {"eps": "eps"}


def build_layers(lines: Sequence[str], weights: Mapping[str, Tensor]) -> nn.Sequential:
    """Return the network of a list, with the weights, in evaluation mode.

    Args:
        lines: the list.
        weights: all of them are used, each once.

    Raises:
        CheckpointError: a line that cannot be understood, weights that no line or two lines name,
            or weights of no layer that is known here.
    """
    groups = group_weights(weights)
    layers: list[nn.Module] = []
    for line in lines:
        word, options = _parse(line)
        if word in groups:
            layers.append(_layer(word, groups.pop(word), options, line))
        elif word in _OPERATIONS:
            make, known = _OPERATIONS[word]
            layers.append(_make(make, options, known, line))
        else:
            raise CheckpointError(
                f"layer {line!r}: {word} is neither a name in the checkpoint that no other line "
                f"has ({', '.join(groups) or 'all are taken'}) nor one of {', '.join(_OPERATIONS)}"
            )
    if groups:
        raise CheckpointError(f"no line of `layers` names {', '.join(groups)} of the checkpoint")
    return nn.Sequential(*layers).eval()


def group_weights(weights: Mapping[str, Tensor]) -> dict[str, Group]:
    """Return the weights by the names of their layers, in the checkpoint's order."""
    groups: dict[str, Group] = {}
    for name, tensor in weights.items():
        layer, _, own = name.rpartition(".")
        if own != _COUNTER:
            groups.setdefault(layer, {})[own] = tensor
    return groups


def propose_layers(weights: Mapping[str, Tensor]) -> list[str]:
    """Return the most likely list for such weights, as a start for the user.

    Convolutions that keep the size; after each, or after its norm, a ReLU and the largest of
    2 x 2; ReLUs between linear layers.
    """
    groups = {name: group for name, group in group_weights(weights).items() if "weight" in group}
    names = sorted(groups, key=lambda name: _usual_place(name, groups[name]["weight"]))
    lines: list[str] = []
    channels: int | None = None
    for name, following in zip(names, [*names[1:], None], strict=True):
        weight = groups[name]["weight"]
        if weight.ndim == _LINEAR_AXES:
            if channels is not None:
                averaged = weight.shape[1] == channels
                lines.append("global_average_pool" if averaged else "flatten")
                channels = None
            lines += [name] if following is None else [name, "relu"]
            continue
        if weight.ndim == _CONV_AXES:
            channels = len(weight)
            lines.append(f"{name} padding={'x'.join(str(n // 2) for n in weight.shape[2:])}")
            if following is not None and groups[following].keys() >= _NORM:
                continue
        else:
            lines.append(name)
        lines += ["relu", "max_pool size=2"] if channels is not None else ["relu"]
    return lines


def describe_groups(weights: Mapping[str, Tensor]) -> str:
    """Return a description of the layers of the weights."""
    words = []
    for name, group in group_weights(weights).items():
        shapes = " ".join(f"{own} {list(tensor.shape)}" for own, tensor in group.items())
        words.append(f"{name}: {shapes}")
    return "; ".join(words)


def _layer(name: str, group: Group, options: Options, line: str) -> nn.Module:
    """Return the layer of the given weights."""
    weight = group.get("weight")
    plain = weight is not None and group.keys() <= {"weight", "bias"}
    if weight is not None and plain and weight.ndim == _CONV_AXES:
        outputs, inputs, *kernel = weight.shape
        # The weights hold the inputs of one group of channels.
        sizes = {
            "in_channels": inputs * options.get("groups", 1),
            "out_channels": outputs,
            "kernel_size": tuple(kernel),
            "bias": "bias" in group,
        }
        layer = _make(nn.Conv2d, options, _CONV_OPTIONS, line, **sizes)
    elif weight is not None and plain and weight.ndim == _LINEAR_AXES:
        outputs, inputs = weight.shape
        sizes = {"in_features": inputs, "out_features": outputs, "bias": "bias" in group}
        layer = _make(nn.Linear, options, {}, line, **sizes)
    elif group.keys() == _NORM:
        norm = _Norm2dOr1d
        layer = _make(norm, options, _NORM_OPTIONS, line, num_features=len(group["weight"]))
    else:
        raise CheckpointError(
            f"{name} is no convolution over two axes, no batch norm and no linear layer: it has "
            f"{', '.join(f'{own} {list(tensor.shape)}' for own, tensor in group.items())}"
        )
    try:
        missing = layer.load_state_dict(group, strict=False)
    except RuntimeError as error:
        raise CheckpointError(f"layer {line!r}: {error}") from error
    unused = set(missing.missing_keys) - {_COUNTER}
    if unused:
        raise CheckpointError(f"layer {line!r} lacks {', '.join(sorted(unused))}")
    return layer


class _Norm2dOr1d(nn.BatchNorm2d):
    """A batch norm of pictures or, behind a flattening layer, of rows."""

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 (torch's name)
        if input.ndim not in (_LINEAR_AXES, _CONV_AXES):
            raise ValueError(f"a batch norm of {input.ndim} axes")


def _make(
    make: Callable[..., nn.Module],
    options: Options,
    known: Mapping[str, str],
    line: str,
    **sizes: Any,
) -> nn.Module:
    if unknown := options.keys() - known.keys():
        raise CheckpointError(
            f"layer {line!r}: no option {', '.join(sorted(unknown))}; there are "
            f"{', '.join(known) or 'none'}"
        )
    try:
        return make(**sizes, **{known[name]: value for name, value in options.items()})
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"layer {line!r}: {error}") from error


def _parse(line: str) -> tuple[str, Options]:
    word, *rest = line.split() or [""]
    options: Options = {}
    for part in rest:
        match = _OPTION.fullmatch(part)
        if match is None:
            raise CheckpointError(f"layer {line!r}: {part!r} is no option like size=2 or size=2x3")
        name, first, second = match.groups()
        try:
            number = float(first) if re.search(r"[.e]", first) else int(first)
        except ValueError as error:
            raise CheckpointError(f"layer {line!r}: {first!r} is no number") from error
        options[name] = number if second is None else (number, int(second))
    return word, options


def _usual_place(name: str, weight: Tensor) -> tuple[bool, list[int], bool]:
    """Order by number; a convolution comes before its norm, linear layers after all pictures."""
    numbers = [int(number) for number in re.findall(r"\d+", name)]
    return weight.ndim == _LINEAR_AXES, numbers, weight.ndim != _CONV_AXES
