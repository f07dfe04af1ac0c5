"""Networks as students write them, each odd in a way of its own."""

import torch
import torch.nn.functional as F
from torch import nn


class Plain(nn.Module):
    """Ten lines, functional where it can be."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 5)  # made first and called last
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 8, 3, stride=2, padding=1)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc(x.mean((2, 3)))


class Dropping(nn.Module):
    """Dropout that never stops: F.dropout drops in evaluation too unless it is told not to."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout2d(0.5))
        self.fc = nn.Linear(4, 5)

    def forward(self, x):
        return self.fc(F.dropout(self.features(x).mean((2, 3)), 0.5))


class Named(Plain):
    """Gives the features as well."""

    def forward(self, x):
        feats = self.conv2(self.conv1(x))
        return {"out": self.fc(feats.mean((2, 3))), "feats": feats}


class Paired(Named):
    def forward(self, x):
        found = super().forward(x)
        return found["out"], [found["feats"]]


class Twice(nn.Module):
    """One convolution, called twice and known by two names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 3, 3, padding=1)
        self.conv2 = self.conv1
        self.fc = nn.Linear(3, 5)

    def forward(self, x):
        return self.fc(self.conv2(self.conv1(x)).mean((2, 3)))


class Inside(nn.Module):
    """A convolution that two branches share, and two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        shared = nn.Conv2d(3, 3, 3, padding=1)
        self.left = nn.Sequential(shared, nn.ReLU())
        self.right = nn.Sequential(nn.Conv2d(3, 3, 1), shared)
        self.narrow = nn.Linear(3, 4, bias=False)
        self.wide = nn.Linear(4, 3, bias=False)
        self.wide.weight = nn.Parameter(self.narrow.weight.T)
        self.again = nn.Linear(3, 4)
        self.again.weight = self.narrow.weight
        self.fc = nn.Linear(4, 5)

    def forward(self, x):
        x = (self.left(x) + self.right(x)).mean((2, 3))
        return self.fc(self.again(self.wide(self.narrow(x))))


class Idle(Plain):
    """With a part that is never called, and one that does nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Conv2d(4, 4, 3)
        self.all = nn.Identity()

    def forward(self, x):
        return super().forward(self.all(x))


class Loose(nn.Module):
    """Parameters and arithmetic that are in no part."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.scale = nn.Parameter(torch.ones(6, 1, 1))
        self.classes = nn.Parameter(torch.randn(5, 6))

    def forward(self, x):
        return F.linear((self.conv(x) * self.scale).mean((2, 3)), self.classes)


class Bare(nn.Module):
    """No parts at all."""

    def __init__(self) -> None:
        super().__init__()
        self.classes = nn.Parameter(torch.randn(5, 3))

    def forward(self, x):
        return x.mean((2, 3)) @ self.classes.T


class Looking(Plain):
    """What it does depends on the numbers, which there are none of on the meta device."""

    def forward(self, x):
        if x.abs().sum() >= 0:
            return super().forward(x)
        return self.fc(x.mean((2, 3)))


class Listed(nn.Module):
    """Goes through its layers by itself, so that what holds them is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1) for _ in range(30))
        self.features = nn.Sequential(*[nn.Conv2d(3, 3, 1) for _ in range(30)])
        self.heads = nn.ModuleDict({"people": nn.Linear(3, 5), "poses": nn.Linear(3, 2)})

    def forward(self, x):
        for block in self.blocks:
            x = F.relu(block(x))
        for layer in self.features:
            x = layer(x)
        return self.heads["people"](x.mean((2, 3)))


class Attending(nn.Module):
    """Torch's own attention, which has a fused way that its counter does not count."""

    def __init__(self, look: bool = False) -> None:
        super().__init__()
        self.look = look
        self.patches = nn.Conv2d(3, 16, 8, stride=8)
        self.encoder = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.fc = nn.Linear(16, 5)

    def forward(self, x):
        if self.look and x.sum() > 0:
            raise ValueError("the images are not black")
        x = self.encoder(self.patches(x).flatten(2).mT)
        return self.fc(self.attention(x, x, x)[0].mean(1))


class Wrapper(nn.Module):
    """As the kit wraps a student's module: what it gives goes to a head, where there is one."""

    def __init__(self, module: nn.Module, head: nn.Module | None = None) -> None:
        super().__init__()
        self.module = module
        self.head = head

    def forward(self, x, labels=None):
        x = self.module(x)
        return x if self.head is None else self.head(x)


def layers_in_a_row() -> nn.Sequential:
    """No class at all."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
    )


OWN_NETWORKS = {
    "plain": Plain,
    "dropping": Dropping,
    "named": Named,
    "paired": Paired,
    "twice": Twice,
    "inside": Inside,
    "idle": Idle,
    "loose": Loose,
    "bare": Bare,
    "looking": Looking,
    "listed": Listed,
    "attending": Attending,
    "wrapped": lambda: Wrapper(Plain()),
    "with a head": lambda: Wrapper(Plain(), nn.Linear(5, 6)),
    "two deep": lambda: Wrapper(Wrapper(Loose())),
    "in a row": layers_in_a_row,
    "double": lambda: Plain().double(),
}
