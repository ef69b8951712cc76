"""Counts what a network moves through memory, on meta tensors: they have shapes and no numbers.

Element-wise work is everything but matrix products, convolutions and attention. What it reads and writes is
counted per operator, each tensor by the numbers that lie in memory: an expanded dimension costs nothing, nor
does a view, and an operator that writes into one of its inputs reads it too, unless it only fills or copies.

Count inside of `torch.inference_mode()`: there an RMS norm is the one kernel that a GPU has for it.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

__all__ = ["Traffic"]

_PRODUCTS = ("mm", "bmm", "addmm", "baddbmm", "_addmm_activation", "linear", "matmul")
_CONVOLUTIONS = ("conv2d", "conv3d", "convolution")
_ATTENTION = "scaled_dot_product"
_ONLY_WRITES = ("copy_", "fill_", "zero_", "normal_", "uniform_")
_MAKES_ROOM = ("empty", "new_empty", "empty_like", "empty_strided", "new_empty_strided")


class Traffic(TorchDispatchMode):
    """Bytes moved by element-wise work, and by inputs and outputs of convolutions; kernels by name; and the
    most that was alive of what was made while counting.
    """

    def __init__(self) -> None:
        super().__init__()
        self.element_wise = self.convolutions = self.peak = self._now = 0
        self.kernels: Counter[str] = Counter()
        self.by_kernel: Counter[str] = Counter()
        self._sizes: dict[int, int] = {}

    @property
    def kernel_count(self) -> int:
        return self.kernels.total()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        made = func(*args, **kwargs)
        if _ATTENTION in func._schema.name and isinstance(made, Tensor):
            made = torch.empty_like(
                args[0]
            )  # kernels answer in the layout of the query, the meta form does not
        self._count(func, args, kwargs, made)
        self._watch(args, kwargs, made)
        return made

    def _count(self, func: Any, args: Any, kwargs: Any, made: Any) -> None:
        name = func._schema.name.partition("::")[2]
        schema = func._schema
        written = [
            given
            for argument, given in _named(schema, args, kwargs)
            if argument.alias_info is not None and argument.alias_info.is_write and isinstance(given, Tensor)
        ]
        only_filled = [tensor for tensor in written if name in _ONLY_WRITES]
        only_filled += [
            given
            for argument, given in _named(schema, args, kwargs)
            if argument.is_out and isinstance(given, Tensor)
        ]
        inputs = [item for item in tree_flatten((args, kwargs))[0] if isinstance(item, Tensor)]
        outputs = [item for item in tree_flatten(made)[0] if isinstance(item, Tensor)]
        fresh = [item for item in outputs if _place(item) not in {_place(given) for given in inputs}]
        if name in _MAKES_ROOM or not (fresh or written):
            return
        read = [item for item in inputs if not any(item is filled for filled in only_filled)]
        moved = sum(_stored(item) for item in (*read, *fresh, *written))
        self.kernels[name] += 1
        if name.startswith(_CONVOLUTIONS):
            self.convolutions += sum(_stored(item) for item in (inputs[0], *fresh))
        elif _ATTENTION not in name and name not in _PRODUCTS:
            self.element_wise += moved
            self.by_kernel[name] += moved

    def _watch(self, args: Any, kwargs: Any, made: Any) -> None:
        given = {_place(item) for item in tree_flatten((args, kwargs))[0] if isinstance(item, Tensor)}
        for item in tree_flatten(made)[0]:
            if isinstance(item, Tensor) and _place(item) not in given and _place(item) not in self._sizes:
                storage = item.untyped_storage()
                self._sizes[_place(item)] = storage.nbytes()
                self._now += storage.nbytes()
                self.peak = max(self.peak, self._now)
                weakref.finalize(storage, self._died, _place(item))

    def _died(self, place: int) -> None:
        self._now -= self._sizes.pop(place)


def _named(schema: Any, args: Any, kwargs: Any) -> Iterator[tuple[Any, Any]]:
    for index, argument in enumerate(schema.arguments):
        if index < len(args):
            yield argument, args[index]
        elif argument.name in kwargs:
            yield argument, kwargs[argument.name]


def _stored(tensor: Tensor) -> int:
    """Bytes of the numbers a tensor shows, each once."""
    count = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        count *= size if stride else 1
    return count * tensor.element_size()


def _place(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
