"""What `facekit new` writes: a network of the reader's own to begin with, which runs as it is."""

from pathlib import Path

from facekit.common.errors import RecipeError
from facekit.common.files import write_whole

TEXT = '''"""A face network of my own.

    facekit train smoke --network {file}:Net --out runs/{stem}     a minute, to see that it works
    facekit train laptop --network {file}:Net --out runs/{stem}-2
    facekit submit runs/{stem}                                   both submissions

In a notebook: `from {stem} import Net`, then `fit("smoke", course, "runs/{stem}", network=Net)`.
A run keeps a hash of this source: change the network, and it wants a new folder.
"""

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.transforms import v2


class Block(nn.Module):
    """Two 3x3 convolutions with a shortcut round them: (B, C, H, W) -> (B, out, H/2, W/2)."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            nn.Conv2d(channels, out, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(),
            nn.Conv2d(out, out, 3, padding=1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.shortcut = nn.Conv2d(channels, out, 1, stride=2, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.convs(x) + self.shortcut(x))


class Net(nn.Module):
    """Images (B, 3, H, W) -> logits (B, num_classes). At most 21 million parameters in F23."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Block(3, 32), Block(32, 64), Block(64, 128), Block(128, 256))
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Linear(256, num_classes)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """The embedding (B, 256), by which verification compares faces.

        Leave it out, and what the last linear layer gets is taken.
        """
        features = self.blocks(images)  # (B, 256, H/16, W/16)
        return features.mean((2, 3))  # (B, 256)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.dropout(self.embed(images)))  # (B, num_classes)


# What follows is used only where you ask for it.


class Head(nn.Module):
    """Logits by angle instead of the network's classifier: --head {file}:Head.

    `labels` are there in training alone: a margin for the right class would stand here.
    """

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_classes, dim))

    def forward(self, embedding: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        return 16 * F.linear(F.normalize(embedding), F.normalize(self.weight))  # (B, C)


def loss(embedding: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """A number beside the cross-entropy: --set auxiliary_loss={file}:loss.

    Here: faces of one person should lie close together.
    """
    distance = torch.cdist(F.normalize(embedding.float()), F.normalize(embedding.float()))  # (B, B)
    same = labels[:, None] == labels
    return (distance.square() * same).mean()


# Changes of the training images in place of the recipe's: --transform {file}:transform. It gets
# uint8 (3, size, size) and leaves the normalisation to the kit.
transform = v2.Compose([v2.RandomHorizontalFlip(), v2.ColorJitter(0.3, 0.3, 0.3)])
'''


def write(file: Path) -> str:
    """Write it to a file that is not there yet, and say what to do next; RecipeError otherwise."""
    if file.suffix != ".py" or not file.stem.isidentifier():
        raise RecipeError(f"{file}: name a Python file that can be imported, such as mine.py")
    if file.exists():
        raise RecipeError(f"{file}: is there already; name another file, or move it away")
    if not file.parent.is_dir():
        raise RecipeError(f"{file}: there is no folder {file.parent}")
    write_whole(file, TEXT.format(file=file.name, stem=file.stem).encode())
    return (
        f"{file}: a network to begin with; try it by\n"
        f"facekit train smoke --network {file}:Net --out runs/{file.stem}"
    )
