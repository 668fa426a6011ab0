"""A device that is not the CPU, on a machine without one: its tensors say `meta` and compute on the CPU.

Owns: what would fail on CUDA and passes on a CPU. An operation that meets a tensor of this device and one of the CPU
raises, as CUDA's do (a CPU tensor without dimensions is a number to both, and may be an index); `.numpy()` on one
raises; what is made on the device stays there until it is moved.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("meta")
"""`meta` is the one device that every build of torch can name and autograd can pass through."""

MOVES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
"""Operations that CUDA lets go between devices."""

INDEXED = (torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default, torch.ops.aten._index_put_impl_.default)
"""Operations whose indices may lie on the CPU."""


WAITS: list[str] = []
"""Every time the host asked the device for values, or for a size that depends on them: for a test to count."""

ASKING = ("aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::is_nonzero", "aten::masked_select")


class Elsewhere(torch.Tensor):
    """A tensor of the fake device around the CPU tensor that computes for it."""

    @staticmethod
    def __new__(cls, inner: torch.Tensor):
        return torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device=DEVICE,
        )  # fmt: skip

    def __init__(self, inner: torch.Tensor):
        self.inner: torch.Tensor = inner

    # What follows torch does for CUDA and not for a subclass, or not with the values.
    __torch_function__: Any = torch._C._disabled_torch_function_impl

    def tolist(self) -> Any:
        WAITS.append("tolist")
        return self.inner.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError("can't convert a tensor of the device to numpy: use Tensor.cpu() first")

    def __getitem__(self, index: Any) -> torch.Tensor:
        return super().__getitem__(_index(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(_index(index), value)

    def __repr__(self, **_: Any) -> str:
        return f"Elsewhere({self.inner})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):  # pyright: ignore[reportIncompatibleMethodOverride]
        kwargs = dict(kwargs or {})
        device = kwargs.get("device")
        leaves_fake = device is not None and torch.device(device) != DEVICE
        if device is not None:
            kwargs["device"] = torch.device("cpu")
        if leaves_fake or func._schema.name in ASKING:
            WAITS.append(func._schema.name)
        if func not in MOVES:
            _refuse_mixed(func, args, kwargs)
        output = func(*tree_map(_inner, args), **tree_map(_inner, kwargs))
        if func._schema.name.endswith("_") and isinstance(args[0], torch.Tensor):
            return args[0]
        return output if leaves_fake else tree_map(_wrapped, output)


class _Factories(TorchDispatchMode):
    """What is asked for on the device, or moved to it, is made there."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if kwargs.get("device") == DEVICE and not any(isinstance(leaf, Elsewhere) for leaf in tree_leaves(args)):
            return tree_map(_wrapped, func(*args, **kwargs | {"device": torch.device("cpu")}))
        return func(*args, **kwargs)


@contextmanager
def fake_device() -> Iterator[None]:
    """While it is entered, the device can be asked for like any other."""
    make = torch.tensor

    def tensor(data: Any, *, device: Any = None, **kwargs: Any) -> torch.Tensor:
        """torch takes no values to `meta`: they are made on the CPU and moved."""
        made = make(data, device="cpu" if device == DEVICE else device, **kwargs)
        return made.to(DEVICE) if device == DEVICE else made

    with _Factories(), patch.object(torch, "tensor", tensor):
        yield


def to_fake_device(model: torch.nn.Module) -> torch.nn.Module:
    """Move a model's parameters and buffers there, in place; tied ones stay tied."""
    moved: dict[int, torch.Tensor] = {}
    for module in model.modules():
        groups: Any = (module._parameters, module._buffers)
        for group in groups:
            for name, tensor in group.items():
                if tensor is not None:
                    fresh = Elsewhere(tensor.detach())
                    if isinstance(tensor, torch.nn.Parameter):
                        fresh = torch.nn.Parameter(fresh, requires_grad=False)
                    group[name] = moved.setdefault(id(tensor), fresh)
    return model


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, Elsewhere) else value


def _index(index: Any) -> Any:
    """A list among the indices as a tensor, which may lie on the CPU."""
    if isinstance(index, tuple):
        return tuple(_index(part) for part in index)
    return torch.tensor(index, dtype=torch.long) if isinstance(index, list) else index


def _wrapped(value: Any) -> Any:
    return Elsewhere(value) if isinstance(value, torch.Tensor) and not isinstance(value, Elsewhere) else value


def _refuse_mixed(func: Any, args: Any, kwargs: Any) -> None:
    checked = args[0] if func in INDEXED else (args, kwargs)
    for leaf in tree_leaves(checked):
        if isinstance(leaf, torch.Tensor) and not isinstance(leaf, Elsewhere) and leaf.dim() > 0:
            raise RuntimeError(f"{func}: tensors on the device and on the CPU, {tuple(leaf.shape)}")
