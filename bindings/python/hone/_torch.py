# SPDX-License-Identifier: Apache-2.0
"""Attention as PyTorch differentiates it. Imported when a tensor is first given."""
from __future__ import annotations

import dataclasses
from typing import Any

import torch

from ._attention import _backward, _forward, _Options


class Attend(torch.autograd.Function):
    """q, k, v, a float mask and sinks have gradients; the log-sum-exp is kept for them."""

    @staticmethod
    def forward(ctx: Any, options: _Options, seed: int, q: Any, k: Any, v: Any, mask: Any,
                sinks: Any) -> Any:
        o, lse = _forward(options, seed, q=q, k=k, v=v, mask=mask, sinks=sinks)
        ctx.options, ctx.seed = options, seed
        ctx.save_for_backward(q, k, v, mask, sinks, o, lse)
        return o

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_o: Any) -> Any:
        q, k, v, mask, sinks, o, lse = ctx.saved_tensors
        if d_o.stride(-1) != 1 or d_o.dtype != o.dtype:  # as of a sum, whose gradient is one number
            d_o = d_o.to(o.dtype).contiguous()
        made = _backward(ctx.options, ctx.seed, q=q, k=k, v=v, mask=mask, sinks=sinks, o=o, lse=lse,
                         d_o=d_o)
        given = [made["dq"].to(q.dtype), made["dk"].to(k.dtype), made["dv"].to(v.dtype),
                 made.get("d_mask"), made.get("d_sinks")]
        return (None, None, *(gradient if wanted else None for gradient, wanted in
                              zip(given, ctx.needs_input_grad[2:])))


def attend(options: _Options, seed: int, q: Any, k: Any, v: Any, mask: Any, sinks: Any) -> Any:
    needed = torch.is_grad_enabled() and any(
        array is not None and array.requires_grad for array in (q, k, v, mask, sinks))
    if not needed:
        return _forward(dataclasses.replace(options, forward_only=True), seed, q=q.detach(),
                        k=k.detach(), v=v.detach(), mask=mask, sinks=sinks)[0]
    if mask is not None and mask.requires_grad:
        # Its gradient lies in an array of its shape: as contiguous as that.
        mask = mask.contiguous()
        kind, _, elements = options.mask  # type: ignore[misc]
        steps = [0 if size == 1 else stride for size, stride in zip(mask.shape, mask.stride())]
        steps = [0] * (4 - len(steps)) + steps
        options = dataclasses.replace(options, mask=(kind, tuple(steps), mask.numel()),
                                      mask_gradient=True)
    return Attend.apply(options, seed, q, k, v, mask, sinks)  # type: ignore[no-untyped-call]
