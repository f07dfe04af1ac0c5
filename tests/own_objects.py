"""What readers bring: networks, heads, losses and transforms, each odd in a way of its own."""

import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.transforms import v2

from facekit.models import ArcFace

WIDTH = 8


class Ten(nn.Module):
    """Ten lines: no embed, no batch norm."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTH, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(WIDTH, 2 * WIDTH, 3, stride=2, padding=1)
        self.classifier = nn.Linear(2 * WIDTH, num_classes)

    def forward(self, x):
        x = F.relu(self.conv2(F.relu(self.conv1(x))))
        return self.classifier(x.mean((2, 3)))


class Embedding(nn.Module):
    """With embed, batch norm and dropout; the number of classes by another name."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            nn.Conv2d(3, WIDTH, 1, stride=2, bias=False),  # torch's own gradient of it is unsafe
            nn.Conv2d(WIDTH, 16, 3, 2, 1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
        )
        self.dropout = nn.Dropout(0.3)
        self.fc = nn.Linear(16, classes)

    def embed(self, x):
        return self.convs(x).mean((2, 3))

    def forward(self, x):
        return self.fc(self.dropout(self.embed(x)))


class Pair(Ten):
    """Gives a dictionary."""

    def forward(self, x):
        feats = F.relu(self.conv2(F.relu(self.conv1(x)))).mean((2, 3))
        return {"out": self.classifier(feats), "feats": feats}


class Convolutional(nn.Module):
    """Without any linear layer."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, num_classes, 5, stride=4)

    def forward(self, x):
        return self.conv(x).mean((2, 3))


def resnet18(num_classes: int) -> nn.Module:
    return torchvision.models.resnet18(num_classes=num_classes)


def timm_resnet18(num_classes: int) -> nn.Module:
    return timm.create_model("resnet18", num_classes=num_classes)


def timm_convnext(num_classes: int) -> nn.Module:
    return timm.create_model("convnext_atto", num_classes=num_classes)


def convnext(num_classes: int) -> nn.Module:
    return ConvNeXt([CNBlockConfig(16, 32, 1), CNBlockConfig(32, None, 1)], num_classes=num_classes)


class Block(nn.Module):
    """A block for a spec."""

    def __init__(self, channels: int, out: int, stride: int = 1, wide: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 2 * wide + 1, stride, wide)

    def forward(self, x):
        return F.relu(self.conv(x))


SPEC = {
    "stem": {"channels": 8},
    "stages": [{"block": f"{__file__}:Block", "channels": 16, "stride": 2, "wide": 2}],
}


class Head(nn.Module):
    """Cosines; it knows nothing of the kit."""

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_classes, dim))

    def forward(self, embedding, labels=None):
        return 16 * F.linear(F.normalize(embedding), F.normalize(self.weight))


class MyArcFace(ArcFace):
    """One of the kit's, changed."""

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__(dim, num_classes, scale=8, margin=0.1)


def spread(embedding, labels):
    """A loss that is a plain function."""
    return embedding.float().square().mean()


class Pull(nn.Module):
    """A loss with weights of its own."""

    def __init__(self, num_classes: int, dim: int) -> None:
        super().__init__()
        self.centers = nn.Parameter(torch.zeros(num_classes, dim))

    def forward(self, embedding, labels):
        return (embedding - self.centers[labels]).float().square().mean()


transform = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomCrop(32, padding=3)])
