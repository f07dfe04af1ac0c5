"""The optimiser, its learning rate, and the running average of weights. Built in notebook 04."""

import copy
import math
from collections.abc import Sequence

import torch
from torch import nn

from facekit import runtime
from facekit.heads import Head
from facekit.recipes import Recipe


def build_optimizer(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD, with nesterov momentum where it has any, AdamW (Loshchilov and Hutter 2019) or Muon,
    over every parameter of the module, which is on its device and in its memory format already.

    Biases and batch norm's scales are not decayed: pulling them to zero only moves the output.
    """
    matrices = hidden_matrices(module) if recipe.optimizer == "muon" else []
    known = {id(p) for p in matrices}
    decayed = [p for p in module.parameters() if p.ndim > 1 and id(p) not in known]
    rest = [p for p in module.parameters() if p.ndim <= 1]
    groups = [{"params": decayed}, {"params": rest, "weight_decay": 0.0}]
    settings = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay}
    if recipe.optimizer == "muon":
        return Muon([{"params": matrices, "orthogonal": True}, *groups], **settings)
    # One kernel over all parameters. Elsewhere torch has none, or we have not tried it.
    settings["fused"] = all(p.device.type in ("cpu", "cuda") for p in module.parameters())
    if recipe.optimizer == "adamw":
        optimizer = torch.optim.AdamW(groups, **settings)
    else:
        optimizer = _sgd(groups, recipe.momentum, settings)
    optimizer.register_load_state_dict_post_hook(_lay_out)
    return optimizer


def _sgd(groups: list[dict], momentum: float, settings: dict) -> torch.optim.SGD:
    optimizer = torch.optim.SGD(groups, momentum=momentum, nesterov=momentum > 0, **settings)
    if momentum:
        # A first step that float16 skips for its infinities would leave memory as it found it.
        for parameter in (p for group in groups for p in group["params"]):
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def _lay_out(optimizer: torch.optim.Optimizer) -> None:
    """Put what was loaded in the order of its parameter in memory, where a file kept another:
    fused kernels walk through both side by side and never look at the strides."""
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            if torch.is_tensor(value) and value.shape == parameter.shape:
                state[key] = torch.empty_like(parameter, requires_grad=False).copy_(value)


def hidden_matrices(module: nn.Module) -> list[nn.Parameter]:
    """The weights that mix channels: of dense convolutions and linear layers outside the head.

    A depthwise filter sees one channel, and a head's vectors stand each for a class of its own.
    """
    return [
        layer.weight
        for layer in module.modules()
        if isinstance(layer, nn.Conv2d | nn.Linear) and not isinstance(layer, Head)
        if getattr(layer, "groups", 1) == 1
    ]


class Muon(torch.optim.Optimizer):
    """Momentum made orthogonal before each step (Jordan et al. 2024, kellerjordan.github.io/posts/
    muon), for the groups with orthogonal=True, and AdamW for all others.

    A weight (out, in, k, k) is the matrix (out, in * k * k). Orthogonal, it moves along all its
    directions alike, also those that the gradient hardly shows. The step is scaled to the usual
    length of AdamW's (Liu et al. 2025, arXiv 2502.16982), so one learning rate suits both.
    torch.optim.Muon does the same to matrices, and takes neither convolutions nor anything else.
    """

    def __init__(
        self,
        groups: list[dict],
        lr: float,
        weight_decay: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        adam = {"betas": betas, "eps": eps}
        settings = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum}
        super().__init__(groups, settings | adam | {"orthogonal": False, "steps": 0})

    @torch.no_grad()
    def step(self) -> None:
        """Change every parameter that has a gradient."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                group["steps"] += 1
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
                kind = self._orthogonal if group["orthogonal"] else self._adamw
                kind(group, parameters, [p.grad for p in parameters])

    def _orthogonal(self, group: dict, parameters: list, gradients: list) -> None:
        momentum = self._remembered("momentum", parameters)
        torch._foreach_lerp_(momentum, gradients, 1 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, momentum, group["momentum"])  # nesterov's
        for shape in dict.fromkeys(p.shape for p in parameters):  # those of one shape at once
            same = [i for i, p in enumerate(parameters) if p.shape == shape]
            matrices = torch.stack([ahead[i].flatten(1) for i in same])  # (n, out, in * k * k)
            size = 0.2 * max(matrices.shape[1:]) ** 0.5
            for i, matrix in zip(same, orthogonalize(matrices), strict=True):
                parameters[i].add_(matrix.reshape(shape), alpha=-group["lr"] * size)

    def _adamw(self, group: dict, parameters: list, gradients: list) -> None:
        means = self._remembered("mean", parameters)
        squares = self._remembered("square", parameters)
        first, second = group["betas"]
        torch._foreach_lerp_(means, gradients, 1 - first)
        torch._foreach_mul_(squares, second)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - second)
        roots = torch._foreach_sqrt(squares)
        torch._foreach_div_(roots, (1 - second ** group["steps"]) ** 0.5)
        torch._foreach_add_(roots, group["eps"])
        rate = group["lr"] / (1 - first ** group["steps"])
        torch._foreach_addcdiv_(parameters, means, roots, -rate)

    def _remembered(self, what: str, parameters: list[nn.Parameter]) -> list[torch.Tensor]:
        for parameter in parameters:
            if what not in self.state[parameter]:
                self.state[parameter][what] = torch.zeros_like(parameter)
        return [self.state[parameter][what] for parameter in parameters]


def orthogonalize(matrices: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
    """U V^T for each matrix U S V^T of (n, rows, columns), nearly: five Newton-Schulz steps.

    Jordan's polynomial brings singular values from 0.01 of the matrix's length on to 0.7 ... 1.2.
    That is near enough, so products are in bfloat16 where the device has it.
    """
    if dtype is None:
        usual = runtime.precision(matrices.device).value
        dtype = usual if usual == torch.bfloat16 else torch.float32
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices  # the smaller of the two products of x with itself
    x = (x / x.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)).to(dtype)
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (2.0315 * gram @ gram - 4.7750 * gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)


def rate(
    recipe: Recipe, step: int, steps_per_epoch: int, dev_accuracies: Sequence[float] = ()
) -> float:
    """The learning rate of a step, counted over the whole run, by the recipe's schedule.

    `dev_accuracies` are those of the epochs done, which "plateau" looks at. A function of its
    arguments alone: there is no scheduler to save and to restore.
    """
    steps, peak = recipe.epochs * steps_per_epoch, recipe.learning_rate
    warmup = round(recipe.warmup_epochs * steps_per_epoch)
    if recipe.schedule == "onecycle":
        return one_cycle(step, steps, peak)  # climbs by itself
    if recipe.schedule == "cosine" or step < warmup:
        return learning_rate(step, steps, warmup, peak)
    if recipe.schedule == "restarts":
        length = max(1, recipe.restart_epochs) * steps_per_epoch
        return learning_rate((step - warmup) % length, length, 0, peak)
    if recipe.schedule == "plateau":
        return peak * 0.5 ** plateaus(dev_accuracies, recipe.plateau_epochs)
    return peak


def learning_rate(step: int, steps: int, warmup: int, peak: float) -> float:
    """The rate of step 0 ... steps - 1: a straight climb to `peak`, then half a cosine to zero."""
    if step < warmup:
        return peak * ((step + 1) / warmup)  # exactly the peak at the end of the climb
    done = (step - warmup) / max(1, steps - warmup)
    return peak * 0.5 * (1 + math.cos(math.pi * done))


def one_cycle(step: int, steps: int, peak: float) -> float:
    """From peak / 25 up to it in 30 % of the steps, and down to peak / 250,000, by half cosines
    (Smith and Topin 2018, arXiv 1708.07120)."""
    top, last = 0.3 * steps - 1, steps - 1
    if step <= top:
        start, end, done = peak / 25, peak, step / top
    else:
        start, end, done = peak, peak / 250_000, (step - top) / (last - top)
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * done))


def plateaus(accuracies: Sequence[float], patience: int) -> int:
    """How often more than `patience` epochs in a row brought no better accuracy."""
    best, waited, count = -math.inf, 0, 0
    for accuracy in accuracies:
        waited = 0 if accuracy > best else waited + 1
        best = max(best, accuracy)
        if waited > patience:
            waited, count = 0, count + 1
    return count


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


class Average:
    """A running average of a module's weights, which often judges better than the last of them
    (Tarvainen and Valpola 2017, arXiv 1703.01780).

    `module` is the averaged copy, in evaluation mode. After n updates a weight keeps
    min(decay, (1 + n) / (10 + n)) of itself, so that the random start is soon forgotten. Buffers,
    such as batch norm's statistics, which are averages already, are copied.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take in the weights of the module after a step."""
        kept = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        torch._foreach_lerp_(list(self.module.parameters()), list(module.parameters()), 1 - kept)
        for mine, new in zip(self.module.buffers(), module.buffers(), strict=True):
            mine.copy_(new)

    def copy_to(self, module: nn.Module) -> None:
        """Give a module the averaged weights and the buffers."""
        module.load_state_dict(self.module.state_dict())

    def state_dict(self) -> dict:
        return {"module": self.module.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: dict) -> None:
        self.module.load_state_dict(state["module"])
        self.updates = state["updates"]
