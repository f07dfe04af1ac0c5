"""A network for evaluation alone, with batch norm folded into its convolutions."""

import copy
from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norm(net: nn.Module) -> nn.Module:
    """A copy in evaluation mode that gives the same outputs but for rounding, and is quicker.

    In evaluation batch norm is a fixed scale and shift of each channel, which the convolution
    right before it can do with its own weights. Other norms stay. The copy cannot be trained on.
    """
    folded = copy.deepcopy(net).eval()
    for parts in folded.modules():
        if isinstance(parts, nn.Sequential):
            for place, (conv, norm) in enumerate(pairwise(list(parts))):
                if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    parts[place] = fuse_conv_bn_eval(conv, norm)
                    parts[place + 1] = nn.Identity()
    return folded.eval().requires_grad_(False)
