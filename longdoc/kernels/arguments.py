"""What kernels are called with, and what each takes its tensors to be.

Every structure mirrors that of its name in ``native/kernels.cpp``.
"""

import ctypes
import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor


def _fields(numbers: str, pointers: str) -> list[tuple[str, type]]:
    counts = [(name, ctypes.c_int64) for name in numbers.split()]
    return [*counts, *((name, ctypes.c_void_p) for name in pointers.split())]


class Arguments(ctypes.Structure):
    """What a kernel is called with, and what it takes the tensors to be, which :func:`fill` checks.

    Attributes:
        halves: Tensors that are bfloat16 where the field ``half`` is not 0; others are float32.
        indices: Tensors of int64.
        strided: Tensors whose rows may lie apart, by a field that says how far.
        elements: Fields whose product is the number of elements, for each tensor that has no other
            check.
    """

    halves: ClassVar[frozenset[str]] = frozenset()
    indices: ClassVar[frozenset[str]] = frozenset()
    strided: ClassVar[frozenset[str]] = frozenset()
    elements: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def kind(self, name: str) -> torch.dtype:
        """Give the type that the kernel takes a tensor to be of."""
        if name in self.indices:
            return torch.int64
        return torch.bfloat16 if name in self.halves and self.half else torch.float32


def _names(names: str) -> frozenset[str]:
    return frozenset(names.split())


class ScanArguments(Arguments):
    """What the scan is called with."""

    halves = _names("u delta z out dout du ddelta dz")
    indices = _names("starts span_starts")
    strided = _names("u delta z dout dz")
    _fields_ = _fields(
        "documents d n groups ranges range softplus half u_t delta_t z_t dout_t dz_t",
        "starts span_starts u delta z A B C D bias initial out last states dout dlast "
        "du ddelta dz dA dB dC dD dbias dinitial",
    )


class ConvArguments(Arguments):
    """What the convolution is called with."""

    halves = _names("x out dout dx")
    indices = _names("starts tile_starts tile_documents")
    strided = _names("x dout dx")
    _fields_ = _fields(
        "d k tiles silu half x_t dout_t dx_t",
        "starts tile_starts tile_documents x weight bias initial out dout dx dweight dinitial",
    )


class NormArguments(Arguments):
    """What the normalisation is called with."""

    halves = _names("out dout")
    elements: ClassVar = {
        **dict.fromkeys(("x", "out", "dout", "through", "dx"), ("tokens", "d")),
        "weight": ("d",), "scale": ("tokens",),
    }  # fmt: skip
    _fields_ = (
        *_fields("tokens d half", ""),
        ("eps", ctypes.c_double),
        *_fields("", "x weight out scale dout through dx dweight"),
    )


class DropoutArguments(Arguments):
    """What dropout is called with."""

    halves = _names("x out")
    elements: ClassVar = dict.fromkeys(("x", "out"), ("count",))
    _fields_ = (
        *_fields("count half seed add", ""),
        ("rate", ctypes.c_double),
        *_fields("", "x out"),
    )


class MergeArguments(Arguments):
    """What a low-rank update is merged into a weight with."""

    halves = _names("out")
    elements: ClassVar = {
        **dict.fromkeys(("weight", "out"), ("rows", "columns")),
        "a": ("rank", "columns"), "b": ("rows", "rank"),
    }  # fmt: skip
    _fields_ = (
        *_fields("rows columns rank half transposed", ""),
        ("scaling", ctypes.c_double),
        *_fields("", "weight a b out"),
    )


class AddArguments(Arguments):
    """What two tensors are added with."""

    halves = _names("y")
    elements: ClassVar = dict.fromkeys(("x", "y", "out"), ("count",))
    _fields_ = _fields("count half", "x y out")


class LowRankArguments(Arguments):
    """What the gradients of a low-rank update are made with."""

    halves = _names("x dy")
    strided = _names("x dy")
    elements: ClassVar = {
        "x": ("tokens", "inputs"), "dy": ("tokens", "outputs"), "a": ("rank", "inputs"),
        "b": ("rank", "outputs"), "down": ("tokens", "rank"),
    }  # fmt: skip
    _fields_ = _fields(
        "tokens inputs outputs rank part half x_t dy_t",
        "x dy a b da db down",
    )


class ProductArguments(Arguments):
    """What two matrices of bfloat16 are multiplied with."""

    strided = _names("a b")
    elements: ClassVar = {"a": ("m", "k"), "b": ("k", "n"), "bias": ("n",), "out": ("m", "n")}
    _fields_ = (
        *_fields("m n k narrow add parts a_m a_k b_k b_n", ""),
        ("scaling", ctypes.c_double),
        *_fields("", "a b bias out packed"),
    )

    def kind(self, name: str) -> torch.dtype:
        """Give the type of a tensor; the result may be of either."""
        half = name in ("a", "b") or (name == "out" and self.narrow)
        return torch.bfloat16 if half else torch.float32


class AttentionArguments(Arguments):
    """What attention is called with."""

    halves = _names("q k v out dout dq dk dv")
    strided = _names("mask")
    elements: ClassVar = dict.fromkeys(
        ("q", "k", "v", "out", "dout", "dq", "dk", "dv"), ("documents", "tokens", "heads", "width")
    )
    _fields_ = (
        *_fields("documents heads tokens width half seed mask_b mask_t window", ""),
        *((name, ctypes.c_double) for name in ("scale", "rate")),
        *_fields("", "q k v mask out kept dout dq dk dv"),
    )


class GeluArguments(Arguments):
    """What GELU is called with."""

    halves = _names("x dout out")
    elements: ClassVar = dict.fromkeys(("x", "dout", "out"), ("count",))
    _fields_ = _fields("count half tanh", "x dout out")


class AddNormArguments(Arguments):
    """What a sum is normalised with."""

    halves = _names("x dx")
    elements: ClassVar = {
        **dict.fromkeys(
            ("x", "residual", "sum", "out", "dout", "dx", "dresidual"), ("tokens", "d")
        ),
        "weight": ("d",), "bias": ("d",),
    }  # fmt: skip
    _fields_ = (
        *_fields("tokens d half seed", ""),
        *((name, ctypes.c_double) for name in ("eps", "rate")),
        *_fields("", "x residual weight bias sum kept out dout dx dresidual dweight dbias"),
    )


def check(arguments: Arguments, name: str, part: Tensor) -> None:
    """Refuse what a kernel would read, or write, as something else or beyond.

    Raises:
        ValueError: Type, strides or number of elements are others.
        RuntimeError: The tensor has no memory of its own.
    """
    kind, laid = arguments.kind(name), name in arguments.strided or part.is_contiguous()
    if part.dtype != kind or not laid:
        given = f"{part.dtype} with strides {part.stride()}"
        message = f"{name} must be {kind}{'' if laid else ' and contiguous'}; got {given}"
        raise ValueError(message)
    fields = arguments.elements.get(name)
    if fields is not None:
        count = math.prod(getattr(arguments, field) for field in fields)
        if part.numel() != count:
            message = (
                f"{name} must have {' times '.join(fields)} = {count} elements; "
                f"got shape {tuple(part.shape)}"
            )
            raise ValueError(message)
    if not part.data_ptr() and part.numel():
        message = f"{name}, a {type(part).__name__}, holds no numbers itself; give a plain tensor"
        raise RuntimeError(message)
