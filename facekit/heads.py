"""From an embedding to class scores. Built in notebook 03."""

import torch
from torch import nn


class Linear(nn.Linear):
    """The plain classifier: (B, dim) -> logits (B, num_classes).

    `labels` is accepted and not used, so that every head is called the same way.
    """

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__(dim, num_classes)

    def forward(self, embedding: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        return super().forward(embedding)
