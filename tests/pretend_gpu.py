"""A pretend GPU: its tensors say cuda:0, compute on the processor, and tell what they were asked.

    with pretend_gpu.pretending() as log:
        run = Run(recipe, data, out, pretend_gpu.GPU)
        ...
    log.count(WAIT)

A GPU works beside the processor, which only hands over operations ("launches"). Three things make
the processor stop until all of them are done: to ask for a value, to copy to it, and to copy from
memory that is not pinned. Here each is noted with the function of the kit that did it. To mix
tensors of both sides is an error, as on a real one. What is pinned is known by the memory's
address; speed, kernels and compiling are not pretended.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

GPU = torch.device("cuda", 0)
LAUNCH = "launch"  # an operation
WAIT = "wait"  # the processor stops until the GPU has done all that was asked
BLOCKING = "blocking copy"  # to the GPU; the processor stops, too
UNPINNED = "unpinned copy"  # to the GPU, meant not to block, from memory that makes it
COPY = "copy"  # to the GPU, beside everything else
OTHER_LAYOUT = "not channels_last"  # a map at a convolution or batch norm: it would be turned

ASKS = set(
    "_local_scalar_dense nonzero equal is_nonzero masked_select _unique2 unique_dim "
    "unique_consecutive bincount".split()
)
INDEXES = {"index", "index_put", "index_put_", "_index_put_impl_"}
ON_MAPS = {"convolution", "native_batch_norm", "_batch_norm_with_update", "cudnn_batch_norm"}
# Operations that only look at memory in another way, or ask for some.
FREE = set(
    "detach alias lift_fresh _unsafe_view _reshape_alias empty empty_like empty_strided "
    "new_empty new_empty_strided _local_scalar_dense".split()
)


class Log:
    """What was asked of the GPU since `clear`, by kind and by the function of the kit."""

    def __init__(self) -> None:
        self.events: dict[str, Counter[str]] = {}
        self.pinned: dict[int, torch.Tensor] = {}  # by address; held, so that none is used again
        self.sent: list[tuple[torch.Tensor, torch.Tensor]] = []

    def note(self, kind: str, what: str) -> None:
        self.events.setdefault(kind, Counter())[what] += 1

    def count(self, kind: str) -> int:
        return self.events.get(kind, Counter()).total()

    def places(self, kind: str) -> dict[str, int]:
        """How often each function did it."""
        return dict(self.events.get(kind, Counter()))

    def clear(self) -> None:
        self.events = {}

    def pin(self, tensor: torch.Tensor) -> torch.Tensor:
        self.pinned[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    def send(self, tensor: torch.Tensor) -> torch.Tensor:
        """Where the numbers will be, on the processor, once the GPU was waited for."""
        there = torch.zeros_like(tensor)
        self.sent.append((there, tensor))
        return there

    def synchronize(self, *_: object) -> None:
        self.note(WAIT, place())
        for there, tensor in self.sent:
            there.copy_(tensor)
        self.sent = []

    def is_pinned(self, tensor: torch.Tensor) -> bool:
        return tensor.untyped_storage().data_ptr() in self.pinned


log = Log()  # of the running `pretending`


def place() -> str:
    """The innermost function of the kit that is at work, such as "loop.py:train_step"."""
    frame = sys._getframe(1)
    while frame:
        path = Path(frame.f_code.co_filename)
        if "facekit" in path.parts[-4:-1]:
            return f"{path.name}:{frame.f_code.co_name}"
        frame = frame.f_back
    return "elsewhere"


def is_gpu(device: object) -> bool:
    return device is not None and torch.device(device).type == "cuda"


class PretendTensor(torch.Tensor):
    """A tensor that says it is on the GPU; `inner` holds its numbers."""

    inner: torch.Tensor
    device = property(lambda self: GPU)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "PretendTensor":
        with torch.inference_mode(False):  # or a view of an older one could not be made there
            made = torch.Tensor._make_wrapper_subclass(
                cls,
                inner.size(),
                strides=inner.stride(),
                storage_offset=inner.storage_offset(),
                dtype=inner.dtype,
                layout=inner.layout,
                device=inner.device,  # what torch's own code sees: it would look for a driver
            )
        made.inner = inner
        return made

    def __init__(self, inner: torch.Tensor) -> None:
        pass

    def __repr__(self) -> str:
        return f"PretendTensor({tuple(self.shape)}, {self.dtype})"

    def __deepcopy__(self, memo: dict) -> "PretendTensor":
        if id(self) not in memo:
            copied = PretendTensor(self.inner.detach().clone())
            if isinstance(self, torch.nn.Parameter):
                copied = torch.nn.Parameter(copied)
            memo[id(self)] = copied.requires_grad_(self.requires_grad)
        return memo[id(self)]

    def to(self, *args: Any, copy: bool = False, **keys: Any) -> torch.Tensor:
        if args and isinstance(args[0], torch.Tensor):
            args = (args[0].device, args[0].dtype)
        device, dtype, beside, layout = torch._C._nn._parse_to(*args, **keys)
        keys = {"dtype": dtype or self.dtype, "copy": copy}
        if layout is not None:
            keys["memory_format"] = layout
        if device is None or device.type == "cuda":
            return super().to(**keys)
        if device.type != "cpu":
            return super().to(device=device, **keys)
        copied = self.detach().inner.clone().to(**keys)
        if beside:
            return log.send(copied)
        log.note(WAIT, place())
        return copied

    def cpu(self) -> torch.Tensor:
        return self.to("cpu")

    def tolist(self) -> list:
        log.note(WAIT, place())
        return self.inner.tolist()

    def numpy(self, *_: object, **__: object) -> None:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    @classmethod
    def __torch_function__(
        cls, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(
        cls, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        return operate(func, args, kwargs or {})


class PretendMode(TorchDispatchMode):
    """Sees what is made on the GPU of nothing, or of the processor's tensors."""

    def __torch_dispatch__(
        self, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        return operate(func, args, kwargs or {})


def unwrap(value: object) -> object:
    return value.inner if isinstance(value, PretendTensor) else value


def wrap(value: object) -> object:
    plain = isinstance(value, torch.Tensor) and not isinstance(value, PretendTensor)
    return PretendTensor(value) if plain else value


@cache
def is_composite(func: Any) -> bool:
    """Whether it is made of other operations on every device."""
    key = "CompositeImplicitAutograd"
    return torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), key)


def operate(func: Any, args: tuple, kwargs: dict) -> Any:
    """One operation: noted, done on the processor, and what it gives is the GPU's where it was."""
    if is_composite(func):
        with PretendMode():  # inference mode does not take it apart by itself
            return func.decompose(*args, **kwargs)
    name = func.overloadpacket.__name__
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    device = kwargs.get("device")
    on_gpu = any(isinstance(tensor, PretendTensor) for tensor in tensors)
    on_gpu = on_gpu and (device is None or torch.device(device).type != "meta")
    on_gpu = on_gpu or is_gpu(device)
    inner_args = tree_map(unwrap, args)
    inner_kwargs = tree_map(unwrap, kwargs)
    if is_gpu(device):
        inner_kwargs["device"] = torch.device("cpu")
    if on_gpu:
        note_operation(func, name, args, kwargs, tensors)
    result = func(*inner_args, **inner_kwargs)
    if not on_gpu or (name == "copy_" and not isinstance(args[0], PretendTensor)):
        return args[0] if on_gpu else result
    if name in ON_MAPS:
        check_layout(inner_args[0], result)
    result = tree_map(wrap, result)
    return return_and_correct_aliasing(func, args, kwargs, result)


def note_operation(
    func: Any, name: str, args: tuple, kwargs: dict, tensors: list[torch.Tensor]
) -> None:
    """Note it; RuntimeError for tensors of both sides."""
    if not func.is_view and name not in FREE:
        log.note(LAUNCH, name)
    if name in ASKS:
        log.note(WAIT, place())
    if name in ("_to_copy", "copy_"):
        note_copy(name, args, kwargs)
        return
    others = [t for t in tensors if not isinstance(t, PretendTensor) and t.ndim > 0]
    if name not in INDEXES:
        if others:
            raise RuntimeError(f"expected all tensors on one device: {name} in {place()}")
        return
    for index in args[1]:
        if isinstance(index, torch.Tensor):
            if not isinstance(index, PretendTensor):
                log.note(BLOCKING, place())
            if index.dtype in (torch.bool, torch.uint8):
                log.note(WAIT, place())


def note_copy(name: str, args: tuple, kwargs: dict) -> None:
    """A copy within the GPU needs nothing more; one to the processor waits."""
    if name == "_to_copy":
        source = args[0]
        beside = kwargs.get("non_blocking", False)
    else:
        source = args[1]
        beside = len(args) > 2 and args[2]
        if not isinstance(args[0], PretendTensor):
            log.note(WAIT, place())
            return
    if isinstance(source, PretendTensor):
        return
    if not beside:
        log.note(BLOCKING, place())
    elif log.is_pinned(source):
        log.note(COPY, place())
    else:
        log.note(UNPINNED, place())


def check_layout(maps: torch.Tensor, result: Any) -> None:
    output = result[0] if isinstance(result, tuple) else result
    for tensor in (maps, output):
        if tensor.ndim != 4 or tensor.shape[1] == 1 or tensor.shape[2:].numel() == 1:
            continue
        if not tensor.is_contiguous(memory_format=torch.channels_last):
            log.note(OTHER_LAYOUT, place())


# ------------------------------------------------------------------ what torch says of a GPU


@contextmanager
def pretending(free: int = 60 << 30) -> Iterator[Log]:
    """Inside, torch has one GPU with `free` bytes of memory; the log of what is asked of it."""
    log.clear()
    log.pinned = {}
    forget_copies()
    lifted = torch._C._only_lift_cpu_tensors()
    old = torch.__future__.get_overwrite_module_params_on_conversion()
    with pytest.MonkeyPatch.context() as patch, PretendMode():
        patch_cuda(patch, free)
        patch_grouping(patch)
        patch_autocast(patch)
        patch_devices(patch)
        patch_pinning(patch)
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=) in two steps
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        try:
            yield log
        finally:
            torch._C._set_only_lift_cpu_tensors(lifted)
            torch.__future__.set_overwrite_module_params_on_conversion(old)
            forget_copies()


def forget_copies() -> None:
    """Empty the kit's caches: what was copied to one kind of GPU is not for the other."""
    for name, module in list(sys.modules.items()):
        if name.startswith("facekit."):
            for value in list(vars(module).values()):
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


def patch_cuda(patch: pytest.MonkeyPatch, free: int) -> None:
    answers = {
        "_lazy_init": None,
        "manual_seed": None,
        "get_rng_state": None,
        "set_rng_state": None,
        "empty_cache": None,
        "mem_get_info": (free, free),
        "get_device_capability": (9, 0),
        "get_device_name": "pretended",
        "device": nullcontext(),
    }
    for name, answer in answers.items():
        patch.setattr(torch.cuda, name, lambda *_, answer=answer: answer)
    patch.setattr(torch.cuda, "synchronize", log.synchronize)
    no = "torch.cuda.amp.common.amp_definitely_not_available"
    patch.setattr(no, lambda: False)  # or the scaler would switch itself off


def patch_grouping(patch: pytest.MonkeyPatch) -> None:
    """Optimisers group tensors by their device in torch's own code, which sees the processor."""
    group = torch._C._group_tensors_by_device_and_dtype

    def by_device(lists: list[list], with_indices: bool = False) -> dict:
        device = lists[0][0].device
        groups = group(lists, with_indices)
        return {(device, dtype): found for (_, dtype), found in groups.items()}

    patch.setattr(torch._C, "_group_tensors_by_device_and_dtype", by_device)
    kinds = [torch.Tensor, PretendTensor]
    patch.setattr(torch.utils._foreach_utils, "_foreach_supported_types", kinds)


def patch_autocast(patch: pytest.MonkeyPatch) -> None:
    """The processor's in place of the GPU's: it sees the processor's tensors within."""
    real = torch.autocast
    enabled = torch.is_autocast_enabled

    class Autocast(real):
        def __init__(self, device_type: str, *args: Any, **keys: Any) -> None:
            super().__init__("cpu" if device_type == "cuda" else device_type, *args, **keys)

    patch.setattr(torch, "autocast", Autocast)
    patch.setattr(torch.amp, "autocast", Autocast)
    patch.setattr(torch, "is_autocast_enabled", lambda *_: enabled("cpu"))


def numbered(value: Any) -> Any:
    """A GPU without a number is the first, for which torch's own code would ask the driver."""
    if isinstance(value, str | torch.device) and torch.device(value) == torch.device("cuda"):
        return GPU
    return value


def patch_devices(patch: pytest.MonkeyPatch) -> None:
    """What takes a device and looks at it before any mode does."""
    make = torch.tensor
    make_as = torch.as_tensor
    to = torch.Tensor.to

    def tensor(data: Any, *, device: Any = None, **keys: Any) -> torch.Tensor:
        return make(data, device=numbered(device), **keys)

    def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> torch.Tensor:
        made = data if isinstance(data, torch.Tensor) else make_as(data, dtype=dtype)
        return made.to(device=device, dtype=dtype)

    def numbered_to(self: torch.Tensor, *args: Any, **keys: Any) -> torch.Tensor:
        if args and isinstance(args[0], torch.Tensor):
            args = (args[0].device, args[0].dtype)
        keys = {name: numbered(value) for name, value in keys.items()}
        return to(self, *map(numbered, args), **keys)

    patch.setattr(torch, "tensor", tensor)
    patch.setattr(torch, "as_tensor", as_tensor)
    patch.setattr(torch.Tensor, "to", numbered_to)


def patch_pinning(patch: pytest.MonkeyPatch) -> None:
    """In all threads: background threads pin, and no mode is on there."""
    empty = torch.empty

    def pretend_empty(*args: Any, pin_memory: bool = False, **keys: Any) -> torch.Tensor:
        made = empty(*args, **keys)
        return log.pin(made) if pin_memory else made

    patch.setattr(torch, "empty", pretend_empty)
    patch.setattr(torch.Tensor, "pin_memory", lambda tensor: log.pin(tensor.clone()))
