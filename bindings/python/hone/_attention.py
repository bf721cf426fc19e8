# SPDX-License-Identifier: Apache-2.0
"""Scaled dot-product attention on NumPy arrays and PyTorch tensors where they lie, forward and backward."""
from __future__ import annotations

import collections
import dataclasses
import threading
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple

from ._library import ArgumentError, Context, ffi, lib

if TYPE_CHECKING:
    from typing import Union

    import numpy
    import torch

    Array = Union["numpy.ndarray[Any, Any]", "torch.Tensor"]

_CAUSAL = {False: "HONE_CAUSAL_NONE", True: "HONE_CAUSAL_TOP_LEFT", "none": "HONE_CAUSAL_NONE",
           "top-left": "HONE_CAUSAL_TOP_LEFT", "bottom-right": "HONE_CAUSAL_BOTTOM_RIGHT"}
_AXES = {"bhnd": (0, 2, 1), "bnhd": (0, 1, 2)}  # where batch, row and head are
KEPT_PLANS = 16


# ---- arrays ------------------------------------------------------------------------------------

def _is_torch(array: Any) -> bool:
    return type(array).__module__.partition(".")[0] == "torch" or hasattr(array, "untyped_storage")


@dataclasses.dataclass(frozen=True)
class _Seen:
    """An array as the library sees it: strides in elements."""

    address: int
    shape: Tuple[int, ...]
    strides: Tuple[int, ...]
    kind: str  # "float32", "bfloat16", …


def _see(name: str, array: Any, rank: int) -> _Seen:
    if _is_torch(array):
        if array.device.type != "cpu" or array.layout.__repr__() != "torch.strided":
            raise ArgumentError(f"{name} is on {array.device} ({array.layout}), want a strided tensor in "
                                "the processor's memory")
        seen = _Seen(array.data_ptr(), tuple(array.shape), tuple(array.stride()),
                     str(array.dtype).split(".")[-1])
    elif hasattr(array, "__array_interface__"):
        size = array.dtype.itemsize
        if any(stride % size for stride in array.strides):
            raise ArgumentError(f"{name} has strides of {array.strides} bytes, want whole elements of "
                                f"{size}")
        if not array.dtype.isnative:
            raise ArgumentError(f"{name} is {array.dtype!r}, want the processor's byte order")
        seen = _Seen(array.__array_interface__["data"][0], array.shape,
                     tuple(stride // size for stride in array.strides), array.dtype.name)
    else:
        raise ArgumentError(f"{name} is a {type(array).__name__}, want a NumPy array or a torch.Tensor")
    if len(seen.shape) != rank:
        raise ArgumentError(f"{name} has shape {seen.shape}, want {rank} axes")
    return seen


def _kind(name: str, seen: _Seen, *wanted: str) -> None:
    if seen.kind not in wanted:
        raise ArgumentError(f"{name} is {seen.kind}, want {' or '.join(wanted)}")


def _view(name: str, seen: _Seen, layout: str) -> "Tuple[Any, ...]":
    """(data, batch, row, head) of HoneView."""
    if seen.shape[3] > 1 and seen.strides[3] != 1:
        raise ArgumentError(f"{name} has stride {seen.strides[3]} along its last axis, want 1: make it "
                            "contiguous there")
    batch, row, head = (seen.strides[axis] if seen.shape[axis] > 1 else 0 for axis in _AXES[layout])
    return ffi.cast("void *", seen.address), batch, row, head


def _span(seen: _Seen) -> int:
    """Elements from the first to behind the last."""
    return 1 + sum((size - 1) * abs(stride) for size, stride in zip(seen.shape, seen.strides))


def _empty(like: Any, shape: Sequence[int], kind: str) -> Any:
    if _is_torch(like):
        import torch
        return torch.empty(shape, dtype=getattr(torch, kind))
    import numpy
    return numpy.empty(shape, dtype=kind)


def _zeros(like: Any, shape: Sequence[int]) -> Any:
    array = _empty(like, shape, "float32")
    array[...] = 0
    return array


# ---- plans -------------------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class _Options:
    """What a plan is made of; hashable, so that plans are kept."""

    sizes: Tuple[int, int, int, int, int, int, int]  # batch, queries, keys, heads, K, D, value size
    element: str
    layout: str
    causal: Any
    window: int
    scale: float
    softcap: float
    slopes: Optional[Tuple[float, ...]]
    sinks: bool
    dropout: float
    mask: Optional[Tuple[str, Tuple[int, int, int, int], int]]  # type, strides, elements
    mask_gradient: bool
    forward_only: bool


class _Plans:
    """The plans that were used last, on one context: its lock is held while one runs."""

    def __init__(self) -> None:
        self.context: Optional[Context] = None
        self.made: "collections.OrderedDict[_Options, Any]" = collections.OrderedDict()
        self.lock = threading.RLock()
        self.threads = 0

    def get(self, options: _Options) -> Any:
        if self.context is None:
            self.context = Context(self.threads)
        if options not in self.made:
            plan = ffi.new("HoneAttention **")
            kept: List[Any] = []
            self.context.check(lib.hone_attention_create(self.context.handle, _struct(options, kept),
                                                         plan))
            self.made[options] = ffi.gc(plan[0], lib.hone_attention_free)
        self.made.move_to_end(options)
        while len(self.made) > KEPT_PLANS:
            ffi.release(self.made.popitem(last=False)[1])
        return self.made[options]

    def forget(self) -> None:
        with self.lock:
            while self.made:
                ffi.release(self.made.popitem()[1])
            if self.context is not None:
                self.context.close()
            self.context = None


_plans = _Plans()


def set_threads(threads: int) -> None:
    """How many threads attention uses from now on; 0: the physical cores this process may use. Results do
    not depend on it. Memory that was kept for further calls is freed."""
    _plans.forget()
    _plans.threads = threads


def _struct(options: _Options, kept: List[Any]) -> Any:
    made = ffi.new("HoneAttentionOptions *")
    (made.batch, made.queries, made.keys, made.heads, made.kv_heads, made.head_size,
     made.value_size) = options.sizes
    made.element = (lib.HONE_ELEMENT_BF16 if options.element == "bfloat16" else lib.HONE_ELEMENT_F32)
    made.causal = getattr(lib, _CAUSAL[options.causal])
    made.window, made.scale, made.softcap = options.window, options.scale, options.softcap
    made.sinks, made.dropout = options.sinks, options.dropout
    made.forward_only = options.forward_only
    if options.slopes is not None:
        kept.append(ffi.new("float[]", options.slopes))
        made.slopes = kept[-1]
    if options.mask is not None:
        kind, strides, elements = options.mask
        made.mask.type = lib.HONE_MASK_BOOLEAN if kind == "bool" else lib.HONE_MASK_FLOAT
        made.mask.batch, made.mask.head, made.mask.query, made.mask.key = strides
        made.mask.elements, made.mask.gradient = elements, options.mask_gradient
    return made


def _mask(mask: Any, sizes: Tuple[int, ...]) -> "Tuple[str, Tuple[int, int, int, int], int]":
    batch, queries, keys, heads = sizes[:4]
    seen = _see("mask", mask, len(mask.shape))
    _kind("mask", seen, "bool", "float32")
    whole = (batch, heads, queries, keys)
    shape = (1,) * (4 - len(seen.shape)) + seen.shape
    strides = (0,) * (4 - len(seen.strides)) + seen.strides
    if len(shape) != 4 or any(one not in (1, all_) for one, all_ in zip(shape, whole)):
        raise ArgumentError(f"mask has shape {seen.shape}, want one that broadcasts to {whole}: batch, "
                            "heads, queries, keys")
    steps = tuple(0 if one == 1 else stride for one, stride in zip(shape, strides))
    return seen.kind, steps, 0 if 0 in seen.shape else _span(seen)  # type: ignore[return-value]


def _options(q: Any, k: Any, v: Any, mask: Any, sinks: Any, layout: str, causal: Any, window: int,
             scale: Optional[float], softcap: float, slopes: Optional[Sequence[float]],
             dropout: float) -> _Options:
    if layout not in _AXES:
        raise ArgumentError(f"layout is {layout!r}, want 'bhnd' or 'bnhd'")
    if causal not in _CAUSAL:
        raise ArgumentError(f"causal is {causal!r}, want a bool, 'top-left' or 'bottom-right'")
    seen = {name: _see(name, array, 4) for name, array in (("q", q), ("k", k), ("v", v))}
    for name, one in seen.items():
        _kind(name, one, *(("float32", "bfloat16") if _is_torch(q) else ("float32",)))
        if one.kind != seen["q"].kind:
            raise ArgumentError(f"{name} is {one.kind} and q is {seen['q'].kind}")
    (batch, queries, heads), (k_batch, keys, kv_heads), v_sizes = (
        tuple(one.shape[axis] for axis in _AXES[layout]) for one in seen.values())
    shapes = ", ".join(f"{name} is {one.shape}" for name, one in seen.items())
    if k_batch != batch or v_sizes != (k_batch, keys, kv_heads):
        raise ArgumentError(f"{shapes} ({layout}): batches must agree, and the keys and heads of k and v")
    size, value_size = seen["q"].shape[3], seen["v"].shape[3]
    if seen["k"].shape[3] != size:
        raise ArgumentError(f"{shapes}: q and k must have the same head size")
    if scale is not None and scale == 0:
        raise ArgumentError("scale is 0, want another number")
    if slopes is not None and len(slopes) != heads:
        raise ArgumentError(f"{len(slopes)} slopes for {heads} heads")
    if sinks is not None:
        _kind("sinks", _see("sinks", sinks, 1), "float32")
        if tuple(sinks.shape) != (heads,) or _see("sinks", sinks, 1).strides != (1,):
            raise ArgumentError(f"sinks has shape {tuple(sinks.shape)}, want ({heads},), contiguous")
    # 0 is the library's word for "the default": sizes of 0 are refused by it under their names.
    sizes = (batch, queries, keys, heads, kv_heads, size, value_size)
    if 0 in (heads, kv_heads, size, value_size):
        raise ArgumentError(f"{shapes}: heads and head sizes are 1 or more")
    return _Options(sizes, seen["q"].kind, layout, causal, window, scale or 0.0, softcap,
                    tuple(map(float, slopes)) if slopes is not None else None, sinks is not None,
                    dropout, None if mask is None else _mask(mask, sizes), False, False)


# ---- calls -------------------------------------------------------------------------------------

def _tensors(options: _Options, arrays: Dict[str, Any], seed: int) -> Any:
    made = ffi.new("HoneAttentionTensors *")
    for name, array in arrays.items():
        if array is None:
            continue
        rank = len(array.shape)
        if name in ("q", "k", "v", "o", "d_o", "dq", "dk", "dv"):
            view = getattr(made, name)
            view.data, view.batch, view.row, view.head = _view(name, _see(name, array, 4),
                                                               options.layout)
        else:
            of = ffi.typeof("HoneAttentionTensors").fields
            kind = {field: entry.type for field, entry in of}[name]
            setattr(made, name, ffi.cast(kind, _see(name, array, rank).address))
    made.seed = seed
    return made


def _shape(options: _Options, rows: int, heads: int, size: int) -> Tuple[int, ...]:
    batch = options.sizes[0]
    return (batch, heads, rows, size) if options.layout == "bhnd" else (batch, rows, heads, size)


def _forward(options: _Options, seed: int, **inputs: Any) -> Tuple[Any, Any]:
    batch, queries, _, heads, _, _, value_size = options.sizes
    o = _empty(inputs["q"], _shape(options, queries, heads, value_size), options.element)
    lse = _empty(inputs["q"], (batch, heads, queries), "float32")
    with _plans.lock:
        plan = _plans.get(options)
        status = lib.hone_attend(plan, _tensors(options, {**inputs, "o": o, "lse": lse}, seed))
        _plans.context.check(status)  # type: ignore[union-attr]
    return o, lse


def _backward(options: _Options, seed: int, **arrays: Any) -> Dict[str, Any]:
    _, queries, keys, heads, kv_heads, size, value_size = options.sizes
    q = arrays["q"]
    gradients = {"dq": _zeros(q, _shape(options, queries, heads, size)),
                 "dk": _zeros(q, _shape(options, keys, kv_heads, size)),
                 "dv": _zeros(q, _shape(options, keys, kv_heads, value_size))}
    if options.mask_gradient:
        gradients["d_mask"] = _zeros(q, arrays["mask"].shape)
    if options.sinks:
        gradients["d_sinks"] = _zeros(q, (heads,))
    with _plans.lock:
        plan = _plans.get(options)
        status = lib.hone_attend_backward(plan, _tensors(options, {**arrays, **gradients}, seed))
        _plans.context.check(status)  # type: ignore[union-attr]
    return gradients


def attention(q: "Array", k: "Array", v: "Array", mask: "Optional[Array]" = None, *,
              causal: "bool | str" = False, window: int = 0, scale: Optional[float] = None,
              softcap: float = 0.0, slopes: Optional[Sequence[float]] = None,
              sinks: "Optional[Array]" = None, dropout: float = 0.0, seed: int = 0,
              layout: str = "bhnd") -> "Array":
    """softmax(scale·q·kᵀ + mask)·v, exact, with memory linear in the length, on arrays where they lie.

    q: (batch, heads, queries, head size), k and v: (batch, kv heads, keys, …), as
    torch.nn.functional.scaled_dot_product_attention has them; with layout="bnhd" heads stand behind rows.
    float32, or bfloat16 for tensors. kv heads divide heads: each serves several. Any strides will do but
    along the last axis, where it is 1. Returns a new array of q's kind.

    mask: bool (False hides the key) or float32, added to scores; what broadcasts to (batch, heads, queries,
    keys). causal: query i sees the keys 0 … i; "bottom-right": the last query sees all keys. window: a
    query sees so many keys to each side of it, itself among them. scale: 1/√head size. softcap: scores
    become softcap·tanh(score/softcap). slopes: of ALiBi, one a head. sinks: (heads), in each softmax's
    denominator. dropout: share of the probabilities that is dropped, by seed and place alone.

    Of tensors it is differentiable, with respect to q, k, v, a float mask and sinks; gradients have the
    same bits on any number of threads. Raises ArgumentError (a ValueError)."""
    options = _options(q, k, v, mask, sinks, layout, causal, window, scale, softcap, slopes, dropout)
    if not _is_torch(q):
        forward_only = dataclasses.replace(options, forward_only=True)
        made: Array = _forward(forward_only, seed, q=q, k=k, v=v, mask=mask, sinks=sinks)[0]
        return made
    from ._torch import attend
    made = attend(options, seed, q, k, v, mask, sinks)
    return made


def attention_with_lse(q: "Array", k: "Array", v: "Array", mask: "Optional[Array]" = None, *,
                       sinks: "Optional[Array]" = None, seed: int = 0, layout: str = "bhnd",
                       causal: "bool | str" = False, window: int = 0, scale: Optional[float] = None,
                       softcap: float = 0.0, slopes: Optional[Sequence[float]] = None,
                       dropout: float = 0.0) -> "Tuple[Array, Array]":
    """As attention(), without a gradient: o, and ln of each softmax's denominator (batch, heads, queries),
    which attention_gradients() needs."""
    options = _options(q, k, v, mask, sinks, layout, causal, window, scale, softcap, slopes, dropout)
    return _forward(options, seed, q=q, k=k, v=v, mask=mask, sinks=sinks)


def attention_gradients(d_o: "Array", q: "Array", k: "Array", v: "Array", o: "Array", lse: "Array",
                        mask: "Optional[Array]" = None, *, sinks: "Optional[Array]" = None,
                        seed: int = 0, layout: str = "bhnd", causal: "bool | str" = False,
                        window: int = 0, scale: Optional[float] = None, softcap: float = 0.0,
                        slopes: Optional[Sequence[float]] = None,
                        dropout: float = 0.0) -> "Dict[str, Array]":
    """Gradients for d_o, that of o: a dict of float32 arrays "dq", "dk", "dv", and "d_sinks" with sinks. o
    and lse are attention_with_lse()'s of the same arguments."""
    options = _options(q, k, v, mask, sinks, layout, causal, window, scale, softcap, slopes, dropout)
    _same("o", o, "d_o", d_o)
    for name, array, shape in (("d_o", d_o, tuple(_shape(options, options.sizes[1], options.sizes[3],
                                                         options.sizes[6]))),
                               ("lse", lse, (options.sizes[0], options.sizes[3], options.sizes[1]))):
        seen = _see(name, array, len(shape))
        _kind(name, seen, options.element if name == "d_o" else "float32")
        if seen.shape != shape:
            raise ArgumentError(f"{name} has shape {seen.shape}, want {shape}")
    return _backward(options, seed, q=q, k=k, v=v, mask=mask, sinks=sinks, o=o, lse=lse, d_o=d_o)


def _same(a_name: str, a: Any, b_name: str, b: Any) -> None:
    first, second = _see(a_name, a, 4), _see(b_name, b, 4)
    if (first.shape, first.kind) != (second.shape, second.kind):
        raise ArgumentError(f"{a_name} is {first.kind} {first.shape}, {b_name} {second.kind} "
                            f"{second.shape}")
