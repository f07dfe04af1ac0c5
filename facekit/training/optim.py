"""The optimiser, and the running average of weights. Built in notebook 04."""

import copy

import torch
from torch import nn

from facekit.training.recipe import Recipe


def build_optimizer(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD, with nesterov momentum where it has any, or AdamW (Loshchilov and Hutter 2019) over
    every parameter of the module, which is on its device and in its memory format already.

    Biases and batch norm's scales are not decayed: pulling them to zero only moves the output.
    """
    decayed = [p for p in module.parameters() if p.ndim > 1]
    rest = [p for p in module.parameters() if p.ndim <= 1]
    groups = [{"params": decayed}, {"params": rest, "weight_decay": 0.0}]
    settings = {"lr": recipe.lr, "weight_decay": recipe.weight_decay}
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


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr


class EMA:
    """A running average of a module's weights, which often judges better than the last of them
    (Tarvainen and Valpola 2017, arXiv 1703.01780).

    `module` is the averaged copy, in evaluation mode. After n updates a weight keeps
    min(decay, (1 + n) / (10 + n)) of itself, so that the random start is soon forgotten. Buffers,
    such as batch norm's statistics, which are averages already, are copied.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take in the weights of the module after a step."""
        kept = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        torch._foreach_lerp_(list(self.module.parameters()), list(module.parameters()), 1 - kept)
        for kind in {buffer.dtype for buffer in module.buffers()}:  # one kernel for each type
            mine = [buffer for buffer in self.module.buffers() if buffer.dtype == kind]
            torch._foreach_copy_(mine, [b for b in module.buffers() if b.dtype == kind])

    def state_dict(self) -> dict:
        return {"module": self.module.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: dict) -> None:
        self.module.load_state_dict(state["module"])
        self.updates = state["updates"]
