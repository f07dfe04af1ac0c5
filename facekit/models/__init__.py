"""Networks for faces: blocks, a network of them, and the heads and losses it is trained with.

Read blocks.py, net.py, heads.py, losses.py; then specs.py, zoo.py and build.py, where a network is
data, and own_net.py, where it is the reader's own.
parts.py counts and summary.py shows it, for any network; fold.py makes inference quicker; checks.py
and numerics.py serve all of them.
"""

from facekit.models.build import build
from facekit.models.heads import (
    ArcFace,
    CosFace,
    LargeMarginGaussianMixture,
    LargeMarginSoftmax,
    Linear,
)
from facekit.models.losses import CenterLoss, ContrastiveLoss, TripletLoss
from facekit.models.net import FaceNet
from facekit.models.summary import count_parameters
from facekit.models.zoo import TABLE

__all__ = [
    "TABLE",
    "ArcFace",
    "CenterLoss",
    "ContrastiveLoss",
    "CosFace",
    "FaceNet",
    "LargeMarginGaussianMixture",
    "LargeMarginSoftmax",
    "Linear",
    "TripletLoss",
    "build",
    "count_parameters",
]
