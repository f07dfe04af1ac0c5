"""The pieces a network is built of. Built in notebook 03."""

import torch
from torch import nn


class ConvBlock(nn.Sequential):
    """Convolution, batch norm, ReLU: (B, C, H, W) -> (B, out, H / stride, W / stride)."""

    def __init__(self, channels: int, out: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(
            # Batch norm subtracts the mean, so a bias before it would do nothing.
            nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(inplace=True),
        )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al. 2016, arXiv 1512.03385, figure 2).

    (B, C, H, W) -> (B, out, H / stride, W / stride). Where the shape changes, the shortcut is a
    strided 1x1 convolution with batch norm (their option B); elsewhere it is the identity.
    """

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            ConvBlock(channels, out, stride=stride),
            nn.Conv2d(out, out, 3, padding=1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.shortcut = nn.Identity()
        if stride != 1 or channels != out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.residual(x) + self.shortcut(x))
