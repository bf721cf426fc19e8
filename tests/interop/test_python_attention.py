# SPDX-License-Identifier: Apache-2.0
"""hone.attention of the Python package beside torch's scaled_dot_product_attention in double
precision, and on NumPy's arrays."""
import sys

import pytest

torch = pytest.importorskip("torch")
np = pytest.importorskip("numpy")
F = torch.nn.functional


@pytest.fixture(scope="module")
def attend(package):
    sys.path.insert(0, str(package))
    import hone
    return hone.attention


def leaves(shapes, kind=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator).to(kind).requires_grad_() for shape in shapes]


def double(tensors):
    return [None if one is None else one.detach().double().requires_grad_() for one in tensors]


def hidden(queries, keys, how, window=0):
    """The mask, True where a query sees a key."""
    shift = keys - queries if how == "bottom-right" else 0
    at = torch.arange(queries)[:, None] + shift
    key = torch.arange(keys)[None, :]
    seen = torch.ones(queries, keys, dtype=torch.bool)
    if how:
        seen &= key <= at
    if window:
        seen &= (key > at - window) & (key < at + window)
    return seen


def agree(ours, theirs, tolerance=1e-5):
    for one, other in zip(ours, theirs):
        scale = other.abs().max().clamp(min=1)
        assert (one.double() - other).abs().max() <= tolerance * scale


CASES = {
    "plain": {}, "causal": {"causal": True}, "bottom-right": {"causal": "bottom-right"},
    "window": {"causal": "bottom-right", "window": 5}, "scale": {"scale": 0.3},
    "keys": {"keys": 31}, "heads": {"kv": 2}, "value": {"value": 24}, "all": {
        "keys": 40, "kv": 1, "value": 8, "causal": "bottom-right", "window": 9, "scale": 0.2}}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_output_and_gradients(attend, case):
    case = dict(case)
    keys, kv, value = case.pop("keys", 23), case.pop("kv", 4), case.pop("value", 16)
    q, k, v = leaves([(2, 4, 23, 16), (2, kv, keys, 16), (2, kv, keys, value)])
    o = attend(q, k, v, **case)
    q2, k2, v2 = double([q, k, v])
    want = F.scaled_dot_product_attention(
        q2, k2.repeat_interleave(4 // kv, 1), v2.repeat_interleave(4 // kv, 1),
        hidden(23, keys, case.get("causal"), case.get("window", 0)), scale=case.get("scale"))
    weights = torch.randn(o.shape, generator=torch.Generator().manual_seed(1))
    (o * weights).sum().backward()
    (want * weights.double()).sum().backward()
    agree([o, q.grad, k.grad, v.grad], [want, q2.grad, k2.grad, v2.grad])


@pytest.mark.parametrize("shape", [(2, 4, 9, 11), (4, 9, 11), (1, 1, 9, 11), (2, 1, 1, 11), (9, 11),
                                   (9, 1)])
@pytest.mark.parametrize("kind", [torch.bool, torch.float32])
def test_masks(attend, shape, kind):
    q, k, v = leaves([(2, 4, 9, 8), (2, 4, 11, 8), (2, 4, 11, 8)])
    if kind is torch.bool:
        mask = torch.rand(shape, generator=torch.Generator().manual_seed(2)) < 0.8
        if shape[-1] > 1:
            mask[..., 0] = True  # torch gives NaN where nothing is seen
        else:
            mask[...] = True
    else:
        [mask] = leaves([shape], seed=3)
    q2, k2, v2, mask2 = double([q, k, v, mask])
    if kind is torch.bool:
        mask2 = mask
    o = attend(q, k, v, mask)
    want = F.scaled_dot_product_attention(q2, k2, v2, mask2)
    o.square().sum().backward()
    want.square().sum().backward()
    agree([o, q.grad, k.grad, v.grad], [want, q2.grad, k2.grad, v2.grad])
    if kind is torch.float32:
        agree([mask.grad], [mask2.grad])


def test_a_float_mask_of_any_strides(attend):
    q, k, v = leaves([(2, 3, 7, 8), (2, 3, 5, 8), (2, 3, 5, 8)])
    [mask] = leaves([(5, 7)])
    q2, k2, v2, mask2 = double([q, k, v, mask])
    attend(q, k, v, mask.T).square().sum().backward()
    F.scaled_dot_product_attention(q2, k2, v2, mask2.T).square().sum().backward()
    agree([q.grad, mask.grad], [q2.grad, mask2.grad])


def test_softcap_slopes_and_sinks(attend):
    """Against their formulas."""
    q, k, v, sinks = leaves([(1, 4, 9, 8), (1, 4, 9, 8), (1, 4, 9, 8), (4,)])
    slopes = [0.5, 0.25, 0.125, 0.0625]
    o = attend(q, k, v, causal=True, softcap=2.0, slopes=slopes, sinks=sinks)
    q2, k2, v2, sinks2 = double([q, k, v, sinks])
    score = 2 * torch.tanh(q2 @ k2.transpose(-1, -2) / 8**0.5 / 2)
    far = (torch.arange(9)[:, None] - torch.arange(9)[None, :]).abs()
    score = score - torch.tensor(slopes).double()[:, None, None] * far
    score = score.masked_fill(~hidden(9, 9, True), float("-inf"))
    score = torch.cat([score, sinks2[None, :, None, None].expand(1, 4, 9, 1)], -1)
    want = score.softmax(-1)[..., :-1] @ v2
    o.square().sum().backward()
    want.square().sum().backward()
    agree([o, q.grad, k.grad, v.grad, sinks.grad],
          [want, q2.grad, k2.grad, v2.grad, sinks2.grad])


@pytest.mark.filterwarnings("ignore:Input #")  # single precision is meant
def test_gradcheck(attend):
    """PyTorch's own, by finite differences; in single precision they are no better than this."""
    inputs = leaves([(1, 2, 5, 4), (1, 1, 6, 4), (1, 1, 6, 4), (5, 6), (2,)])

    def call(q, k, v, mask, sinks):
        return attend(q, k, v, mask, sinks=sinks, causal="bottom-right")

    assert torch.autograd.gradcheck(call, inputs, eps=1e-2, atol=3e-3, rtol=1e-2, nondet_tol=0.0)


def test_dropout_is_a_matter_of_the_seed(attend):
    q, k, v = leaves([(1, 2, 16, 8)] * 3)
    once, again, other = (attend(q, k, v, dropout=0.5, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(once, again) and not torch.equal(once, other)
    mean = torch.stack([attend(q, k, v, dropout=0.5, seed=seed).detach()
                        for seed in range(2000)]).mean(0)
    assert (mean - attend(q, k, v)).abs().max() < 0.15
    # The gradient is of what was not dropped: along v the output is linear.
    once.sum().backward()
    assert (v.grad * v).sum().item() == pytest.approx(once.sum().item(), rel=1e-4)


def test_bfloat16(attend):
    q, k, v = leaves([(2, 2, 33, 32)] * 3, torch.bfloat16)
    q2, k2, v2 = double([q, k, v])
    o = attend(q, k, v, causal=True)
    want = F.scaled_dot_product_attention(q2, k2, v2, is_causal=True)
    o.sum().backward()
    want.sum().backward()
    assert o.dtype == q.grad.dtype == torch.bfloat16
    agree([o, q.grad, k.grad, v.grad], [want, q2.grad, k2.grad, v2.grad], 2e-2)


# ---- memory ------------------------------------------------------------------------------------

def test_arrays_are_read_where_they_lie(attend):
    """Parts of one tensor, as a projection makes them, turned and repeated along axes, give what copies
    give, bit by bit; and nothing is allocated for them."""
    packed = torch.randn(2, 13, 3, 4, 8)
    q, k, v = (packed[:, :, i] for i in range(3))
    want = attend(*(one.transpose(1, 2).contiguous() for one in (q, k, v)), causal=True)
    assert torch.equal(attend(*(one.transpose(1, 2) for one in (q, k, v)), causal=True), want)
    assert torch.equal(attend(q, k, v, causal=True, layout="bnhd").transpose(1, 2), want)
    one = torch.randn(1, 1, 13, 8)
    assert torch.equal(attend(q.transpose(1, 2), one.expand(2, 4, 13, 8), one.expand(2, 4, 13, 8)),
                       attend(q.transpose(1, 2), *[one.repeat(2, 4, 1, 1)] * 2))
    large = torch.randn(1, 1, 4096, 64)
    attend(large, large, large, window=8)
    from torch.profiler import ProfilerActivity, profile
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        attend(large.transpose(1, 2), large.transpose(1, 2), large.transpose(1, 2), window=8,
               layout="bnhd")
    taken = sum(max(event.self_cpu_memory_usage, 0) for event in profiled.key_averages())
    assert 4096 * 64 * 4 <= taken <= 4096 * 64 * 4 + 4096 * 4 + 4096  # o and the log-sum-exp


def test_numpy(attend, package):
    import hone
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((2, 4, 9, 8), dtype=np.float32) for _ in range(3))
    tensors = [torch.from_numpy(one).requires_grad_() for one in (q, k, v)]
    o = attend(q, k, v, causal=True)
    want = attend(*tensors, causal=True)
    assert isinstance(o, np.ndarray) and np.array_equal(o, want.detach().numpy())
    mask = rng.random((9, 9)) < 0.7
    assert np.array_equal(attend(q[::-1].copy()[::-1].copy(), k, v, mask),
                          attend(*tensors, torch.from_numpy(mask)).detach().numpy())
    o, lse = hone.attention_with_lse(q, k, v, causal=True)
    d_o = rng.standard_normal(o.shape, dtype=np.float32)
    made = hone.attention_gradients(d_o, q, k, v, o, lse, causal=True)
    want.backward(torch.from_numpy(d_o))
    for name, tensor in zip(("dq", "dk", "dv"), tensors):
        assert np.array_equal(made[name], tensor.grad.numpy()), name


def test_threads_change_nothing(attend, package):
    import hone
    q, k, v = leaves([(2, 4, 130, 32)] * 3)
    results = []
    for threads in (1, 2, 0):
        hone.set_threads(threads)
        for one in (q, k, v):
            one.grad = None
        o = attend(q, k, v, causal=True)
        o.square().sum().backward()
        results.append([o.detach(), q.grad, k.grad, v.grad])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


# ---- what cannot be ----------------------------------------------------------------------------

def ones(*shape, **options):
    return torch.ones(shape, **options)


Q = ones(1, 4, 5, 8)
WRONG = {
    "rank": ((Q[0], Q, Q), {}, r"q has shape \(4, 5, 8\), want 4 axes"),
    "head size": ((Q, ones(1, 4, 5, 9), Q), {}, "same head size"),
    "too large": ((ones(1, 1, 2, 300),) * 3, {}, "300"),
    "keys": ((Q, ones(1, 4, 6, 8), Q), {}, "batches must agree"),
    "heads": ((Q, ones(1, 3, 5, 8), ones(1, 3, 5, 8)), {}, "3"),
    "no head": ((ones(1, 0, 5, 8),) * 3, {}, "1 or more"),
    "double": ((Q.double(),) * 3, {}, "q is float64, want float32 or bfloat16"),
    "mixed": ((Q, Q.bfloat16(), Q), {}, "k is bfloat16 and q is float32"),
    "last axis": ((ones(1, 4, 5, 16)[..., ::2], Q, Q), {}, "stride 2 along its last axis"),
    "meta": ((ones(1, 4, 5, 8, device="meta"), Q, Q), {}, "q is on meta"),
    "list": (([[1.0]], Q, Q), {}, "q is a list"),
    "mask shape": ((Q, Q, Q, ones(5, 6)), {}, r"mask has shape \(5, 6\)"),
    "mask type": ((Q, Q, Q, ones(5, 5).double()), {}, "mask is float64"),
    "causal": ((Q, Q, Q), {"causal": "left"}, "causal is 'left'"),
    "lengths": ((Q, ones(1, 4, 6, 8), ones(1, 4, 6, 8)), {"window": -1}, "window"),
    "layout": ((Q, Q, Q), {"layout": "hnbd"}, "layout is 'hnbd'"),
    "dropout": ((Q, Q, Q), {"dropout": 1.5}, "dropout"),
    "sinks": ((Q, Q, Q), {"sinks": ones(3)}, r"sinks has shape \(3,\)"),
    "slopes": ((Q, Q, Q), {"slopes": [1.0]}, "1 slopes for 4 heads"),
    "scale": ((Q, Q, Q), {"scale": float("nan")}, "scale"),
    "numpy negative": ((np.ones((1, 4, 5, 8), np.float32)[:, :, ::-1],) * 3, {}, "stride|negative"),
    "numpy order": ((np.ones((1, 4, 5, 8), ">f4"),) * 3, {}, "byte order"),
}


@pytest.mark.parametrize("arguments, options, says", WRONG.values(), ids=WRONG)
def test_what_cannot_be_is_said(attend, arguments, options, says):
    with pytest.raises(ValueError, match=says):
        attend(*arguments, **options)


def test_nothing_to_see_gives_nothing(attend):
    """Not NaN, as torch has it."""
    q, k, v = leaves([(1, 2, 3, 8)] * 3)
    o = attend(q, k, v, torch.zeros(3, 3, dtype=torch.bool))
    o.sum().backward()
    assert not o.any() and not q.grad.any() and not v.grad.any()
    empty = attend(q[:, :, :0], k, v)
    assert empty.shape == (1, 2, 0, 8)


def test_nothing_is_left_behind(attend):
    import os
    import pathlib

    def once(n):
        q, k, v = leaves([(1, 2, 40 + n % 40, 16)] * 3)
        attend(q, k, v, causal=True).sum().backward()
        with pytest.raises(ValueError):
            attend(q, k, v, dropout=2.0)

    def resident():
        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    for n in range(80):
        once(n)
    before = resident()
    for n in range(800):
        once(n)
    assert resident() - before < 8 << 20
