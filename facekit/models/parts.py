"""The parts of any network: which they are, what each gives for an image, learns and computes.

FLOPs are counted as multiply-adds: one for each product that is summed up in a convolution or a
linear layer, half of what torch.utils.flop_counter counts.
"""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from facekit.common.errors import FacekitError, RecipeError
from facekit.models.fold import evaluation_copy

FEW = 5  # with fewer parts that have parameters, the largest is shown by its own parts
MOST = 24  # more parts than this do not fit a screen
CONTAINERS = nn.Sequential | nn.ModuleList | nn.ModuleDict
OWN = "the module's own"  # what is in no part
ALL = "all"


def count_parameters(net: nn.Module) -> int:
    """How many numbers the network learns; those that two layers share count once."""
    _check_shapes_known(net)
    return sum(p.numel() for p in net.parameters() if p.requires_grad)


def find_parts(net: nn.Module) -> dict[str, str]:
    """A name and a path, such as "features.0", of each part that a table of any network shows.

    They are the module's children; but while only a few of them have parameters, the largest is
    replaced by its own children. A wrapper's `module.` is left out of the names.
    """
    _check_shapes_known(net)
    parts = dict(net.named_children())
    largest = _largest_to_open(parts)
    while largest:
        parts = _open(parts, largest)
        largest = _largest_to_open(parts)
    names = {}
    taken = {*parts, OWN, ALL}
    for path, part in parts.items():
        short = path
        while short.startswith("module."):
            short = short.removeprefix("module.")
        if short in taken:
            short = path
        if short in (OWN, ALL):
            short = f"{path} ({type(part).__name__})"
        names[short] = path
    return names


def part_table(
    net: nn.Module, parts: Mapping[str, str], shape: tuple[int, ...], own: str = OWN
) -> pd.DataFrame:
    """A row for each part and one for all: output, parameters, multiply_adds.

    `parts`: name and path of each; the rows are in the order of their work on an input of
    `shape`, (1, C, H, W). What is in no part has a row `own`, where there is any. Raises
    RecipeError when the network fails.
    """
    work, outputs = measure(net, parts, shape)
    parameters = parameters_by_part(net, parts)
    called = [name for name in work if name in parts]
    idle = [name for name in parts if name not in work]
    rows = {}
    for name in called + idle:
        output = outputs.get(name, "not called")
        rows[name] = (output, parameters[name], work.get(name, 0))
    if parameters[OWN] or work[OWN]:
        rows[own] = (outputs[OWN], parameters[OWN], work[OWN])
    rows[ALL] = (outputs[OWN], sum(parameters.values()), sum(work.values()))
    columns = ["output", "parameters", "multiply_adds"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("part")


def parameters_by_part(net: nn.Module, parts: Mapping[str, str]) -> dict[str, int]:
    """How many numbers each part learns, and OWN: those in no part.

    What two parts share counts in the first one alone.
    """
    part_of = {}
    for name, path in parts.items():
        for p in net.get_submodule(path).parameters():
            part_of.setdefault(id(p), name)
    counts = dict.fromkeys([*parts, OWN], 0)
    for p in net.parameters():
        if p.requires_grad:
            counts[part_of.get(id(p), OWN)] += p.numel()
    return counts


def measure(
    net: nn.Module, parts: Mapping[str, str], shape: tuple[int, ...]
) -> tuple[dict[str, int], dict[str, str]]:
    """Multiply-adds and outputs, such as "64x56x56", of parts that are called, and of OWN.

    A copy of the network in evaluation mode is run on zeros of `shape`. OWN's output is the whole
    network's. Raises RecipeError when the network fails.
    """
    _check_shapes_known(net)  # it would learn them here, and keep them to itself
    first = next(net.parameters(), torch.empty(0))
    with _random_states_kept(first.device):
        try:
            return _measure_on("meta", net, parts, shape)  # only shapes are computed, no numbers
        except FacekitError:
            raise
        except Exception:  # what a network meets is not known beforehand
            return _measure_at_home(first.device, net, parts, shape)


def unwrap(net: nn.Module) -> nn.Module:
    """The network in a wrapper such as nn.DataParallel, which calls it `module`; else itself."""
    inner = dict(net.named_children()).get("module")
    return net if inner is None else unwrap(inner)


class _Meter:
    """Credits each part of a network with what torch counts while the part is at work."""

    def __init__(self, net: nn.Module, parts: Mapping[str, str], counter: FlopCounterMode) -> None:
        self.counter = counter
        self.counted = 0  # FLOPs that are credited already
        self.flops = {OWN: 0}  # by part, in the order of their first call
        self.outputs = {}
        self.at_work = [OWN]  # the part of each module whose forward goes on, the innermost last
        self.part_of = {}
        for name, path in parts.items():
            for module in net.get_submodule(path).modules():
                self.part_of.setdefault(module, name)
        for module in net.modules():
            module.register_forward_pre_hook(self.begin)
            module.register_forward_hook(self.end, always_call=True)

    def begin(self, module: nn.Module, _) -> None:
        self.credit()
        part = self.at_work[-1]
        if part == OWN:  # else a layer that two parts share works for the one that called it
            part = self.part_of.get(module, OWN)
        self.at_work.append(part)
        self.flops.setdefault(part, 0)

    def end(self, module: nn.Module, _, output: object) -> None:
        self.credit()
        self.outputs[self.at_work.pop()] = shape_text(output)

    def credit(self) -> None:
        total = self.counter.get_total_flops()
        self.flops[self.at_work[-1]] += total - self.counted
        self.counted = total


def _measure_on(
    device: str | torch.device, net: nn.Module, parts: Mapping[str, str], shape: tuple[int, ...]
) -> tuple[dict[str, int], dict[str, str]]:
    net = evaluation_copy(net).to(device)  # leave the caller's as it is
    x = torch.zeros(shape, device=device, dtype=_number_format(net))
    counter = FlopCounterMode(display=False)
    meter = _Meter(net, parts, counter)
    with torch.no_grad(), _countable_attention(), counter:
        net(x)
    work = {name: flops // 2 for name, flops in meter.flops.items()}
    work[OWN] += counter.get_total_flops() // 2 - sum(work.values())
    return work, meter.outputs


def _measure_at_home(
    device: torch.device, net: nn.Module, parts: Mapping[str, str], shape: tuple[int, ...]
) -> tuple[dict[str, int], dict[str, str]]:
    """With numbers, on the device where the network is."""
    try:
        return _measure_on(device, net, parts, shape)
    except FacekitError:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines() or ["no message"]
        raise RecipeError(
            f"{type(unwrap(net)).__name__} fails on an input of shape {shape}: "
            f"{type(error).__name__}: {lines[0]}"
        ) from error


@contextmanager
def _countable_attention() -> Iterator[None]:
    """Attention as plain products: torch's counter does not know all of the fused kernels."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@contextmanager
def _random_states_kept(device: torch.device) -> Iterator[None]:
    """Whatever is drawn inside, Python's, NumPy's and torch's next numbers stay the same."""
    gpus = [device] if device.type == "cuda" else []
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(gpus):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def shape_text(output: object) -> str:
    """The shape without the batch, "64x56x56"; of a tuple or dict those of its tensors."""
    if isinstance(output, torch.Tensor):
        return "x".join(str(side) for side in output.shape[1:])
    if isinstance(output, Mapping):
        output = list(output.values())
    if not isinstance(output, list | tuple):
        return ""
    texts = [shape_text(value) for value in output]
    return ", ".join(text for text in texts if text)


def can_open(part: nn.Module) -> bool:
    """Whether it has parts to show. A layer of torch is shown whole: it may not call its own."""
    if isinstance(part, CONTAINERS):
        return len(part) > 0
    of_torch = type(part).__module__.startswith(("torch.nn.modules", "torch.nn.utils"))
    return not of_torch and len(list(part.children())) > 0


def _largest_to_open(parts: Mapping[str, nn.Module]) -> str | None:
    """The path of the part to be shown by its children, if any."""
    sizes = {path: _size(part) for path, part in parts.items()}
    if sum(size > 0 for size in sizes.values()) >= FEW:
        return None
    for path in sorted(sizes, key=sizes.get, reverse=True):
        if can_open(parts[path]) and len(_open(parts, path)) <= MOST:
            return path
    return None


def _open(parts: Mapping[str, nn.Module], path: str) -> dict[str, nn.Module]:
    """The parts with one replaced by its children, but for those that are there already."""
    known = {id(part) for part in parts.values()}
    opened = {}
    for other, part in parts.items():
        if other != path:
            opened[other] = part
            continue
        for name, child in part.named_children():
            if id(child) not in known:
                opened[f"{path}.{name}"] = child
    return opened


def _size(part: nn.Module) -> int:
    return sum(p.numel() for p in part.parameters())


def _number_format(net: nn.Module) -> torch.dtype:
    for p in net.parameters():
        if p.is_floating_point():
            return p.dtype
    return torch.get_default_dtype()


def _check_shapes_known(net: nn.Module) -> None:
    if any(nn.parameter.is_lazy(p) for p in net.parameters()):
        raise RecipeError(
            f"{type(unwrap(net)).__name__} has lazy layers, whose shapes are not known yet; "
            "call it once with a batch of images first"
        )
