"""Networks from names, tables and classes of the reader's own. Built in notebook 03."""

from collections.abc import Mapping
from dataclasses import replace

from facekit.common import own
from facekit.common.errors import RecipeError
from facekit.models.make import make_own
from facekit.models.net import FaceNet
from facekit.models.numerics import make_safe
from facekit.models.own_net import OwnNet
from facekit.models.specs import NetworkSpec, spec_as_dict
from facekit.models.zoo import as_spec


def build(
    spec: str | Mapping | NetworkSpec, num_classes: int, head: str | Mapping = "", size: int = 64
) -> FaceNet | OwnNet:
    """A fresh network: a name in zoo.NETWORKS, a table of settings, a spec, or the reader's own.

    `head` stands in for the network's own. A network of the reader's own (FILE.py:NAME, or as
    `settings_of` gives it) is tried with images of size x size. Raises RecipeError when there is
    no such name, setting or number of classes, or the reader's network gives no logits.
    """
    if num_classes < 1:
        raise RecipeError(f"a network needs at least one class, not {num_classes}")
    if isinstance(spec, Mapping) and "own" in spec:
        head = head or spec.get("head", "")
        spec = spec["own"]
    if own.is_known(spec):
        module = make_own("network", own.get(spec), {}, num_classes=num_classes)
        return OwnNet(make_safe(module), spec, num_classes, size, head)
    spec = as_spec(spec)
    return make_safe(FaceNet(replace(spec, head=head) if head else spec, num_classes))


def settings_of(net: FaceNet | OwnNet) -> dict:
    """Plain types, for a checkpoint; `build` makes the same network of them."""
    if isinstance(net, OwnNet):
        return {"own": net.name, "head": net.head_settings}
    return spec_as_dict(net.spec)
