"""The network: stem, stages of blocks, embedding, head. Built in notebook 03."""

import torch
from torch import nn

from facekit.common.errors import RecipeError
from facekit.models import heads
from facekit.models.blocks import BLOCKS, ConvBlock
from facekit.models.make import find_named, option_names
from facekit.models.specs import SHAPE, NetworkSpec, Stem


class FaceNet(nn.Module):
    """A network that gives class logits, and before them the embedding used for verification."""

    def __init__(self, spec: NetworkSpec, num_classes: int) -> None:
        super().__init__()
        self.spec = spec
        self.num_classes = num_classes
        self.stride = spec.stride  # how many pixels lie between two places of the last map
        self.stem = make_stem(spec.stem)
        self.stages = make_stages(spec)
        channels = spec.stages[-1].channels
        self.dim = spec.embedding or channels  # the embedding's length, D
        self.neck = nn.Sequential()
        if spec.embedding:
            # Centred and of one scale, as angles between embeddings want it; to learn a scale
            # would be idle before the head's own weights.
            norm = nn.BatchNorm1d(self.dim, affine=False)
            self.neck = nn.Sequential(nn.Linear(channels, self.dim, bias=False), norm)
        self.dropout = nn.Dropout(spec.dropout)
        self.head = heads.build(spec.head, self.dim, num_classes)
        self.apply(init_relu if spec.init == "relu" else init_kaiming)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Images (B, 3, H, W) -> embeddings (B, D): the last map's mean, through the neck."""
        self.check_images(images)
        features = self.stem(images)  # (B, C, H / stem's stride, W / stem's stride)
        features = self.stages(features)  # (B, channels, H / stride, W / stride)
        pooled = features.mean((2, 3))  # (B, channels)
        return self.neck(pooled)  # (B, D)

    def features(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The embedding (B, D), and what the head makes logits of: the same after dropout."""
        embedding = self.embed(images)
        return embedding, self.dropout(embedding)

    def forward(self, images: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Images (B, 3, H, W) -> logits (B, num_classes), with the labels' margin if given."""
        _, features = self.features(images)  # (B, D)
        return self.head(features, labels)  # (B, num_classes)

    def check_images(self, images: torch.Tensor) -> None:
        """Raise RecipeError unless they are (B, 3, H, W) and the last map has a place for each."""
        if images.ndim != 4 or images.shape[1] != 3:
            raise RecipeError(f"images are (B, 3, H, W), not {tuple(images.shape)}")
        height, width = images.shape[2:]
        if height < self.stride or width < self.stride:
            raise RecipeError(
                f"images of {height} x {width} pixels are smaller than the network's stride of "
                f"{self.stride}; take larger ones or fewer strides"
            )


def make_stem(stem: Stem) -> nn.Module:
    """The first convolution, (B, 3, H, W) -> (B, C, H / stride, W / stride), and the max pool."""
    conv = ConvBlock(
        3,
        stem.channels,
        stem.stride,
        kernel=stem.kernel,
        activation=stem.activation,
        norm=stem.norm,
    )
    if not stem.pool:
        return conv
    return nn.Sequential(conv, nn.MaxPool2d(3, stride=2, padding=1))


def make_stages(spec: NetworkSpec) -> nn.Sequential:
    """All stages; stochastic depth climbs from 0 at the first block to its most at the last."""
    last = max(1, sum(stage.depth for stage in spec.stages) - 1)  # the last block's number
    place = 0  # of a block among all blocks
    channels = spec.stem.channels
    stages = []
    for stage in spec.stages:
        make_block = find_named("block", stage.block, BLOCKS)
        blocks = []
        for number in range(stage.depth):
            options = dict(stage.options)
            if "drop_path" in option_names(make_block, SHAPE):
                options.setdefault("drop_path", spec.drop_path * place / last)
            stride = stage.stride if number == 0 else 1
            blocks.append(make_block(channels, stage.channels, stride, **options))
            channels = stage.channels
            place += 1
        stages.append(nn.Sequential(*blocks))
    return nn.Sequential(*stages)


def init_relu(module: nn.Module) -> None:
    """He et al. 2015 (arXiv 1502.01852): keep the spread of activations through ReLUs."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def init_kaiming(module: nn.Module) -> None:
    """As the published table's networks begin."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight)
