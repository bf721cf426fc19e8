# SPDX-License-Identifier: Apache-2.0
"""Hone's attention beside PyTorch's (scaled_dot_product_attention, MultiheadAttention, FlexAttention)
and Keras's layers, all of them in f64 from the same f32 inputs.

    HONE_BINARY=build/release/hone "$(scripts/interop-env)" -m pytest tests/interop/test_attention.py
"""
import math
import os
import subprocess

import pytest

os.environ["KERAS_BACKEND"] = "torch"
torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
from safetensors.torch import load_file, save_file
from torch.nn import functional

# Of the largest value: what f32 attention may be off by, outputs and gradients; a layer's products
# add to it. bf16's outputs round to 8 bits, and its backward reads such an output.
OUTPUT, GRADIENT, LAYER, BF16 = 2e-6, 5e-6, 1e-5, 1.2e-2


@pytest.fixture
def tool(built, tmp_path):
    """tool("attend", {"q": …}, causal=1): the arrays that Hone gives."""
    program = built("tests/interop/attention_tool")

    def run(operation, arrays, **options):
        arrays = {name: array.detach().contiguous() for name, array in arrays.items()}
        arrays = {name: array.float() if array.dtype == torch.float64 else array
                  for name, array in arrays.items()}
        save_file(arrays, tmp_path / "in.safetensors")
        done = subprocess.run(
            [program, operation, tmp_path / "in.safetensors", tmp_path / "out.safetensors",
             *(f"{key}={float(value)!r}" for key, value in options.items())],
            capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return load_file(tmp_path / "out.safetensors")

    return run


def random(*shape, seed=0, kind=torch.float32):
    """f64 numbers that `kind` holds, and that want a gradient."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(*shape, generator=generator).to(kind)
    return values.double().requires_grad_()


def close(got, want, relative, name=""):
    got, want = got.double(), want.detach().double()
    assert got.shape == want.shape, name
    error = (got - want).abs().max().item() if want.numel() else 0
    bound = relative * want.abs().max().item() + relative / 2
    assert error <= bound, f"{name} is off by {error:.3g}, at most {bound:.3g} is allowed"


def problem(batch=2, queries=33, keys=33, heads=4, kv_heads=4, head_size=16, value_size=None,
            kind=torch.float32):
    value_size = value_size or head_size
    return {"q": random(batch, queries, heads, head_size, seed=1, kind=kind),
            "k": random(batch, keys, kv_heads, head_size, seed=2, kind=kind),
            "v": random(batch, keys, kv_heads, value_size, seed=3, kind=kind),
            "d_o": random(batch, queries, heads, value_size, seed=4, kind=kind).detach()}


def by_heads(arrays):
    """q, k, v as torch wants them: (batch, heads, rows, size)."""
    return [arrays[name].transpose(1, 2) for name in "qkv"]


def compare(found, arrays, output, bound=OUTPUT, extra=()):
    """Hone's o and gradients with those of torch's output (batch, rows, heads, size)."""
    close(found["o"], output, bound, "o")
    output.backward(arrays["d_o"])
    for name in (*"qkv", *extra):
        close(found["d_" + name if name in extra else "d" + name], arrays[name].grad,
              max(bound, GRADIENT), f"the gradient of {name}")


def as_sent(arrays, kind=torch.float32):
    return {name: array if array.dtype == torch.bool else
            array.to(kind if name in ("q", "k", "v", "d_o") else torch.float32)
            for name, array in arrays.items()}


# ---- scaled_dot_product_attention --------------------------------------------------------------

SHAPES = {
    "plain": {}, "one query": {"queries": 1}, "cross": {"queries": 20, "keys": 70},
    "grouped": {"heads": 6, "kv_heads": 2}, "multi-query": {"heads": 5, "kv_heads": 1},
    "sizes differ": {"head_size": 24, "value_size": 10}, "odd": {"head_size": 7, "queries": 130},
    "long": {"batch": 1, "queries": 300, "keys": 300, "heads": 2, "kv_heads": 2},
}


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_sdpa(tool, shape, causal):
    arrays = problem(**SHAPES[shape])
    output = functional.scaled_dot_product_attention(*by_heads(arrays), is_causal=causal,
                                                     enable_gqa=True)
    found = tool("attend", as_sent(arrays), causal=causal)
    compare(found, arrays, output.transpose(1, 2))


@pytest.mark.parametrize("scale", [1.0, -0.2, 0.01])
def test_sdpa_scale(tool, scale):
    arrays = problem()
    output = functional.scaled_dot_product_attention(*by_heads(arrays), scale=scale)
    compare(tool("attend", as_sent(arrays), scale=scale), arrays, output.transpose(1, 2))


@pytest.mark.parametrize("queries, keys", [(20, 50), (50, 20)])
def test_sdpa_bottom_right(tool, queries, keys):
    from torch.nn.attention.bias import causal_lower_right

    arrays = problem(queries=queries, keys=keys)
    mask = torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)
    # torch gives NaN to a query that sees nothing, where ours is 0.
    output = functional.scaled_dot_product_attention(*by_heads(arrays), attn_mask=mask)
    output = torch.where(mask.any(-1)[:, None], output, 0.0).transpose(1, 2)
    found = tool("attend", as_sent(arrays), causal=2)
    blind = int((~mask.any(-1)).sum())
    assert (found["o"][:, :blind] == 0).all() and (found["dq"][:, :blind] == 0).all()
    close(found["o"], output, OUTPUT, "o")
    if not blind:
        bias = causal_lower_right(queries, keys)
        q, k, v = (array.detach() for array in by_heads(arrays))
        close(found["o"], functional.scaled_dot_product_attention(
            q, k, v, attn_mask=bias).transpose(1, 2), OUTPUT, "causal_lower_right")
        compare(found, arrays, output)


@pytest.mark.parametrize("window", [1, 5, 100])
@pytest.mark.parametrize("causal", [False, True])
def test_sdpa_window(tool, window, causal):
    arrays = problem()
    distance = torch.arange(33)[:, None] - torch.arange(33)
    mask = distance.abs() < window
    if causal:
        mask &= distance >= 0
    output = functional.scaled_dot_product_attention(*by_heads(arrays), attn_mask=mask)
    found = tool("attend", as_sent(arrays), causal=causal, window=window)
    compare(found, arrays, output.transpose(1, 2))


MASKS = {"(1, 1, Q, K)": (1, 1, 33, 33), "(B, 1, 1, K)": (2, 1, 1, 33), "(1, H, Q, K)": (1, 4, 33, 33),
         "(B, H, Q, K)": (2, 4, 33, 33), "(B, 1, Q, 1)": (2, 1, 33, 1)}


@pytest.mark.parametrize("shape", MASKS)
def test_sdpa_boolean_mask(tool, shape):
    arrays = problem()
    mask = torch.rand(MASKS[shape], generator=torch.Generator().manual_seed(5)) < 0.7
    if MASKS[shape][3] > 1:
        mask[..., 3] = True  # every query sees something: torch has no answer otherwise
    else:
        mask[:] = True
    output = functional.scaled_dot_product_attention(*by_heads(arrays), attn_mask=mask)
    found = tool("attend", as_sent(arrays) | {"mask": mask})
    compare(found, arrays, output.transpose(1, 2))


@pytest.mark.parametrize("shape", MASKS)
def test_sdpa_float_mask_and_its_gradient(tool, shape):
    arrays = problem() | {"mask": random(*MASKS[shape], seed=6)}
    output = functional.scaled_dot_product_attention(*by_heads(arrays), attn_mask=arrays["mask"])
    found = tool("attend", as_sent(arrays), mask_gradient=1)
    compare(found, arrays, output.transpose(1, 2), extra=["mask"])


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("head_size", [64, 20])
def test_sdpa_bf16(tool, head_size, causal):
    arrays = problem(head_size=head_size, kind=torch.bfloat16)
    output = functional.scaled_dot_product_attention(*by_heads(arrays), is_causal=causal)
    found = tool("attend", as_sent(arrays, torch.bfloat16), causal=causal)
    compare(found, arrays, output.transpose(1, 2), bound=BF16)


def test_lse_and_weights(tool):
    arrays = problem()
    q, k, _ = by_heads(arrays)
    scores = q @ k.transpose(-1, -2) / math.sqrt(16)
    found = tool("attend", as_sent(arrays), weights=1)
    close(found["lse"], scores.logsumexp(-1), OUTPUT, "lse")
    close(found["weights"], scores.softmax(-1), OUTPUT, "weights")


def test_sinks(tool):
    """A sink is the logit of a key without a value."""
    arrays = problem() | {"sinks": random(4, seed=7)}
    q, k, v = by_heads(arrays)
    scores = q @ k.transpose(-1, -2) / math.sqrt(16)
    sinks = arrays["sinks"][None, :, None, None].expand(2, 4, 33, 1)
    output = torch.cat([scores, sinks], -1).softmax(-1)[..., :-1] @ v
    compare(tool("attend", as_sent(arrays)), arrays, output.transpose(1, 2), extra=["sinks"])


def test_dropout(tool):
    """Which pairs are dropped is Hone's own; how many, and what is left, is torch's rule."""
    arrays = problem(queries=64, keys=64)
    arrays["v"] = torch.eye(64, dtype=torch.float64)[None, :, None].repeat(2, 1, 4, 1)
    arrays["d_o"] = torch.zeros(2, 64, 4, 64, dtype=torch.float64)
    q, k, _ = by_heads(arrays)
    weights = (q @ k.transpose(-1, -2) / math.sqrt(16)).softmax(-1)
    kept = []
    for seed in (1, 2):
        factor = tool("attend", as_sent(arrays), dropout=0.25, seed=seed)["o"].transpose(1, 2)
        factor = factor / weights.detach()
        kept.append(factor > 0.5)
        assert ((factor.abs() < 1e-3) | ((factor - 4 / 3).abs() < 1e-3)).all()
    deviation = math.sqrt(0.25 * 0.75 / kept[0].numel())
    for each in kept:
        assert abs(each.double().mean().item() - 0.75) < 5 * deviation
    # Independent from seed to seed, head to head, query to query, key to key.
    pairs = [(kept[0], kept[1])] + [(kept[0], kept[0].roll(1, axis)) for axis in range(4)]
    for a, b in pairs:
        assert abs((a == b).double().mean().item() - 0.625) < 0.02
    # And backward replays it.
    arrays = problem(queries=64, keys=64)
    q, k, v = by_heads(arrays)
    weights = (q @ k.transpose(-1, -2) / math.sqrt(16)).softmax(-1)
    output = (weights * kept[0] * (4 / 3)) @ v
    found = tool("attend", as_sent(arrays), dropout=0.25, seed=1)
    compare(found, arrays, output.transpose(1, 2))


# ---- FlexAttention, forward --------------------------------------------------------------------

FLEX = {
    "window": ({"window": 6, "causal": 1}, None,
               lambda b, h, q, k: (q >= k) & (q - k < 6)),
    "soft-cap": ({"softcap": 2.0}, lambda s, b, h, q, k: 2 * torch.tanh(s / 2), None),
    "soft-cap, window": ({"softcap": 2.0, "window": 9}, lambda s, b, h, q, k: 2 * torch.tanh(s / 2),
                         lambda b, h, q, k: (q - k).abs() < 9),
    "ALiBi": ({"causal": 1}, lambda s, b, h, q, k: s - 2.0 ** (-2.0 * (h + 1)) * (q - k).abs(),
              lambda b, h, q, k: q >= k),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", FLEX)
def test_flex_attention(tool, case):
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    options, score, mask = FLEX[case]
    arrays = problem(queries=64, keys=64)
    block = create_block_mask(mask, None, None, 64, 64, device="cpu") if mask else None
    inputs = [array.detach() for array in by_heads(arrays)]
    try:
        output = flex_attention(*inputs, score_mod=score, block_mask=block)
    except (NotImplementedError, RuntimeError) as error:
        pytest.skip(f"flex_attention does not run uncompiled here: {error}")
    sent = as_sent(arrays)
    if case == "ALiBi":
        sent["slopes"] = 2.0 ** (-2.0 * torch.arange(1, 5))
    close(tool("attend", sent, **options)["o"], output.transpose(1, 2), OUTPUT, "o")


# ---- one head ----------------------------------------------------------------------------------

ONE_HEAD = {  # batch, length, channels, units, biases
    "(32, 10, 64)": (32, 10, 64, 64, False), "odd": (3, 21, 13, 30, True),
    "long": (2, 200, 24, 32, False),
}


def one_head_problem(shape):
    batch, length, channels, units, biased = shape
    arrays = {"x": random(batch, length, channels, seed=100)}
    for number, name in enumerate(("query", "key", "value")):
        # As large as Glorot's initial weights: scores of unit scale.
        weight = random(units, channels, seed=101 + number).detach()
        arrays[name + "_weight"] = (weight / math.sqrt(channels)).float().double().requires_grad_()
        if biased:
            arrays[name + "_bias"] = random(units, seed=104 + number)
    arrays["dy"] = random(batch, length, units, seed=107).detach()
    return arrays


def compare_one_head(found, arrays, output, gradient):
    """gradient("query_weight"): what it must be. The biases' together, as torch has them in one
    array: the gradient of the keys' is a sum that is 0, of which Hone leaves the roundings."""
    close(found["y"], output, LAYER, "y")
    output.backward(arrays["dy"])
    close(found["dx"], arrays["x"].grad, LAYER, "dx")
    names = ("query", "key", "value")
    for name in names:
        close(found[f"gradient.{name}_weight"], gradient(name + "_weight"), LAYER, name)
    if "query_bias" in arrays:
        close(torch.cat([found[f"gradient.{name}_bias"] for name in names]),
              torch.cat([gradient(name + "_bias") for name in names]), LAYER, "biases")


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("unscaled", [False, True])
@pytest.mark.parametrize("shape", ONE_HEAD)
def test_one_head(tool, shape, unscaled, causal):
    arrays = one_head_problem(ONE_HEAD[shape])
    q, k, v = (functional.linear(arrays["x"], arrays[name + "_weight"], arrays.get(name + "_bias"))
               for name in ("query", "key", "value"))
    output = functional.scaled_dot_product_attention(q, k, v, is_causal=causal,
                                                     scale=1.0 if unscaled else None)
    found = tool("one_head", arrays, unscaled=unscaled, causal=causal)
    compare_one_head(found, arrays, output, lambda name: arrays[name].grad)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", ONE_HEAD)
def test_one_head_of_keras(tool, shape, causal):
    """keras.layers.Attention on three Dense layers: its scores are unscaled."""
    keras = pytest.importorskip("keras")
    arrays = one_head_problem(ONE_HEAD[shape])
    channels, units, biased = ONE_HEAD[shape][2:]
    projections = {}
    for name in ("query", "value", "key"):
        layer = keras.layers.Dense(units, use_bias=biased, dtype="float64")
        layer.build((None, None, channels))
        layer.kernel.assign(arrays[name + "_weight"].detach().T)
        if biased:
            layer.bias.assign(arrays[name + "_bias"].detach())
        projections[name] = layer
    output = keras.layers.Attention(dtype="float64")(
        [layer(arrays["x"]) for layer in projections.values()], use_causal_mask=causal)
    found = tool("one_head", arrays, unscaled=1, causal=causal)
    compare_one_head(found, arrays, output, lambda name: (
        projections[name[:-7]].kernel.value.grad.T if name.endswith("weight")
        else projections[name[:-5]].bias.value.grad))


# ---- torch.nn.MultiheadAttention ---------------------------------------------------------------


def check_layer(tool, operation, inputs, weights, output, mask=None, **options):
    """A layer's output, the gradients of inputs and weights, and the weights as they come back.

    weights: name → (array, the variable that has its gradient)."""
    d_output = random(*output.shape, seed=8).detach()
    arrays = inputs | {name: array for name, (array, _) in weights.items()}
    arrays["d_output"] = d_output
    if mask is not None:
        arrays["mask"] = mask
    found = tool(operation, arrays, **options)
    close(found["output"], output, LAYER, "output")
    output.backward(d_output)
    for name, array in inputs.items():
        close(found["d_" + name], array.grad, LAYER, f"the gradient of {name}")
    for name, (array, variable) in weights.items():
        close(found["gradient." + name], variable.grad, LAYER, f"the gradient of {name}")
        assert torch.equal(found["weight." + name], array.float()), name


TORCH = {
    "self": {}, "no bias": {"bias": False}, "cross": {"inputs": "query key"},
    "separate": {"inputs": "query key value"}, "kdim, vdim": {"inputs": "query key value",
                                                              "kdim": 20, "vdim": 12},
}


@pytest.mark.parametrize("masked", ["", "causal", "padded"])
@pytest.mark.parametrize("case", TORCH)
def test_torch_multihead_attention(tool, case, masked):
    made = dict(TORCH[case])
    names = made.pop("inputs", "query").split()
    layer = torch.nn.MultiheadAttention(32, 4, batch_first=True, dtype=torch.float64, **made)
    with torch.no_grad():
        for number, parameter in enumerate(layer.parameters()):
            parameter.copy_(random(*parameter.shape, seed=20 + number).detach() / 4)
    lengths = {"query": 11, "key": 11 if len(names) == 1 else 14}
    sizes = {"query": 32, "key": made.get("kdim", 32), "value": made.get("vdim", 32)}
    inputs = {name: random(3, lengths.get(name, lengths["key"]), sizes[name], seed=30 + number)
              for number, name in enumerate(names)}
    query = inputs["query"]
    key = inputs.get("key", query)
    value = inputs.get("value", key)
    options, mask, hidden = {"heads": 4, "head_size": 8}, None, {}
    if masked == "causal":  # True is hidden there
        hidden["attn_mask"] = torch.ones(11, lengths["key"], dtype=torch.bool).triu(1)
        options["causal"] = 1
    if masked == "padded":
        hidden["key_padding_mask"] = torch.arange(lengths["key"]) >= torch.tensor([[3], [14], [1]])
        mask = ~hidden["key_padding_mask"][:, None, None]
    output, _ = layer(query, key, value, need_weights=False, **hidden)
    weights = {name: (parameter.detach(), parameter) for name, parameter in
               layer.named_parameters()}
    check_layer(tool, "torch", inputs, weights, output, mask, **options)


# ---- Keras -------------------------------------------------------------------------------------


def keras_weights(layer):
    """"query/kernel" → (array, variable), of a built layer."""
    found = {}
    for variable in layer.trainable_variables:
        name = "/".join(variable.path.split("/")[-2:])
        found[name] = (variable.value.detach().double().clone(), variable.value)
    return found


KERAS = {
    "self": {}, "no bias": {"use_bias": False}, "value_dim": {"value_dim": 5},
    "output_shape": {"output_shape": 9, "value_dim": 3}, "cross": {"inputs": "query key"},
    "separate": {"inputs": "query key value"}, "sliding window": {"sliding_window": 4},
    "causal": {"causal": 1}, "masked": {"masked": True},
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", KERAS)
def test_keras_multi_head_attention(tool, case):
    keras = pytest.importorskip("keras")
    made = dict(KERAS[case])
    names = made.pop("inputs", "query").split()
    causal, masked = made.pop("causal", 0), made.pop("masked", False)
    layer = keras.layers.MultiHeadAttention(4, 6, dtype="float64", seed=3, **made)
    widths = {"query": 10, "key": 10 if len(names) == 1 else 13, "value": 7}
    inputs = {name: random(3, 11 if name == "query" or len(names) == 1 else 15, widths[name],
                           seed=40 + number) for number, name in enumerate(names)}
    query = inputs["query"]
    key = inputs.get("key", query)
    value = inputs.get("value", key)
    mask = None
    if masked:
        mask = torch.rand(3, 11, 11, generator=torch.Generator().manual_seed(9)) < 0.6
        mask[..., 2] = True
    layer.build(query.shape, value.shape, key.shape)
    for number, variable in enumerate(layer.trainable_variables):
        variable.assign(random(*variable.shape, seed=50 + number).detach() / 3)
    output = layer(query, value, key, attention_mask=mask, use_causal_mask=bool(causal))
    options = {"heads": 4, "head_size": 6, "value_size": made.get("value_dim", 0),
               "causal": causal, "window": made.get("sliding_window", 0)}
    check_layer(tool, "keras", inputs, keras_weights(layer), output,
                mask[:, None] if masked else None, **options)


@pytest.mark.filterwarnings("ignore")
def test_keras_group_query_attention(tool):
    keras = pytest.importorskip("keras")
    layer = keras.layers.GroupQueryAttention(6, 4, 2, dtype="float64")
    query = random(2, 9, 10, seed=60)
    layer.build(query.shape, query.shape, query.shape)
    for number, variable in enumerate(layer.trainable_variables):
        variable.assign(random(*variable.shape, seed=70 + number).detach() / 3)
    output = layer(query, query, query)
    check_layer(tool, "keras", {"query": query}, keras_weights(layer), output, heads=4, kv_heads=2,
                head_size=6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
def test_keras_additive_attention(tool, scaled, causal):
    keras = pytest.importorskip("keras")
    q, v, k = (random(3, rows, size, seed=80 + rows) for rows, size in ((9, 6), (9, 4), (9, 6)))
    seen = torch.rand(3, 9, generator=torch.Generator().manual_seed(9)) < 0.6
    seen[:, 0] = True
    layer = keras.layers.AdditiveAttention(use_scale=scaled, dtype="float64")
    layer.build([q.shape, v.shape, k.shape])
    arrays = {"q": q, "k": k, "v": v, "mask": seen[:, None, None]}
    if scaled:
        layer.scale.assign(random(6, seed=90).detach())
        arrays["scale"] = layer.scale.value
    output = layer([q, v, k], mask=[None, seen], use_causal_mask=causal)
    arrays["d_o"] = random(*output.shape, seed=91).detach()
    found = tool("additive", arrays, causal=causal)
    close(found["o"], output, OUTPUT, "o")
    output.backward(arrays["d_o"])
    for name, array in (("dq", q), ("dk", k), ("dv", v)):
        close(found[name], array.grad, GRADIENT, name)
    if scaled:
        close(found["d_scale"], layer.scale.value.grad, GRADIENT, "d_scale")


def test_additive_dropout(tool):
    """keras.layers.AdditiveAttention's rule with Hone's own pairs: how many, what is left of the
    others, independent in every direction, and the same in backward."""
    q, k = random(3, 64, 6, seed=92), random(3, 64, 6, seed=93)
    weights = torch.tanh(q[:, :, None] + k[:, None]).sum(-1).softmax(-1)
    arrays = {"q": q, "k": k, "v": torch.eye(64, dtype=torch.float64).repeat(3, 1, 1)}
    arrays["d_o"] = torch.zeros(3, 64, 64, dtype=torch.float64)
    kept = []
    for seed in (1, 2):
        factor = tool("additive", arrays, dropout=0.25, seed=seed)["o"] / weights.detach()
        kept.append(factor > 0.5)
        assert ((factor == 0) | ((factor - 4 / 3).abs() < 1e-4)).all()
    deviation = math.sqrt(0.25 * 0.75 / kept[0].numel())
    for each in kept:
        assert abs(each.double().mean().item() - 0.75) < 5 * deviation
    pairs = [(kept[0], kept[1])] + [(kept[0], kept[0].roll(1, axis)) for axis in range(3)]
    for a, b in pairs:
        assert abs((a == b).double().mean().item() - 0.625) < 0.02
    v = random(3, 64, 5, seed=94)
    output = (weights * kept[0] * (4 / 3)) @ v
    arrays["v"], arrays["d_o"] = v, random(*output.shape, seed=95).detach()
    found = tool("additive", arrays, dropout=0.25, seed=1)
    close(found["o"], output, OUTPUT, "o")
    output.backward(arrays["d_o"])
    for name, array in (("dq", q), ("dk", k), ("dv", v)):
        close(found[name], array.grad, GRADIENT, name)
