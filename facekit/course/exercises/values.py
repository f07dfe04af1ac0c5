"""Arguments and results as JSON holds them, arrays and tensors too. Built in no notebook."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

PLAIN = (bool, int, float, str, type(None))


class Other:
    """Stands for a value of a kind that no exercise asks for; equal to nothing."""


def encode(value: Any) -> Any:
    """A value for json.dumps; of a kind that is not known here only the type's name is kept."""
    if type(value) in PLAIN:
        return value
    if isinstance(value, list):
        return [encode(part) for part in value]
    if isinstance(value, tuple):
        return {"tuple": [encode(part) for part in value]}
    if isinstance(value, dict):
        return {"dict": [[encode(key), encode(part)] for key, part in value.items()]}
    if isinstance(value, Path):
        return {"path": value.as_posix()}
    if isinstance(value, torch.Tensor):
        return {"tensor": encode(value.detach().cpu().numpy())}
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biuf":
        flat = np.ravel(value).tolist()
        return {"array": flat, "dtype": str(value.dtype), "shape": list(value.shape)}
    return {"other": type(value).__name__}


def decode(coded: Any) -> Any:
    """The value that `encode` made this of."""
    if isinstance(coded, list):
        return [decode(part) for part in coded]
    if not isinstance(coded, dict):
        return coded
    if "tuple" in coded:
        return tuple(decode(part) for part in coded["tuple"])
    if "dict" in coded:
        return {decode(key): decode(part) for key, part in coded["dict"]}
    if "path" in coded:
        return Path(coded["path"])
    if "tensor" in coded:
        return torch.from_numpy(decode(coded["tensor"]))
    if "array" in coded:
        return np.array(coded["array"], coded["dtype"]).reshape(coded["shape"])
    return Other()
