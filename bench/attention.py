#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Attention beside PyTorch's on the same machine: `hone bench attention` and
torch.nn.functional.scaled_dot_product_attention by turns (A B A B), on the same threads.

    HONE_BINARY=build/release/hone "$(scripts/interop-env)" bench/attention.py [--threads 2]
        [--rounds 3] [--seconds 1] [--only WORD]

Useful GF/s: 4·pairs·d forward, 10·pairs·d backward, pairs that see each other. The median of the
rounds, each the median of its runs. Prints a table, then one line of JSON.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

import torch

CASES = [  # name, (B, H, K, Nq, Nk, D), options of hone bench
    ("full 512", (1, 8, 8, 512, 512, 64), []),
    ("full 1024", (1, 8, 8, 1024, 1024, 64), []),
    ("full 1024, d 128", (1, 8, 8, 1024, 1024, 128), []),
    ("causal 512", (1, 8, 8, 512, 512, 64), ["--causal"]),
    ("causal 1024", (1, 8, 8, 1024, 1024, 64), ["--causal"]),
    ("causal 1024, d 128", (1, 8, 8, 1024, 1024, 128), ["--causal"]),
    ("causal 4096", (1, 4, 4, 4096, 4096, 64), ["--causal"]),
    ("grouped 9:3 causal 1024", (1, 9, 3, 1024, 1024, 64), ["--causal"]),
    ("window 512 in 4096", (1, 4, 4, 4096, 4096, 64), ["--causal", "--window", "512"]),
    ("gradient of the bias 1024", (1, 8, 8, 1024, 1024, 64), ["--mask", "gradient"]),
    ("dropout 1024", (1, 8, 8, 1024, 1024, 64), ["--dropout", "0.1"]),
    ("16 x 8 heads of 64 x 64", (16, 8, 8, 64, 64, 64), []),
    ("32 heads of 10 x 10", (32, 1, 1, 10, 10, 64), []),
]


def pairs(shape, options):
    batch, heads, _, queries, keys, _ = shape
    window = int(options[options.index("--window") + 1]) if "--window" in options else keys
    seen = queries * keys
    if "--causal" in options:
        seen = sum(min(i + 1 + keys - queries, window) for i in range(queries))
    return batch * heads * seen


def bench(arguments, what, *options):
    done = subprocess.run(
        [os.environ["HONE_BINARY"], "bench", what, "--threads", str(arguments.threads),
         "--seconds", str(arguments.seconds), "--json", *options],
        capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def run_hone(arguments, shape, options):
    result = bench(arguments, "attention", "--shape", ",".join(map(str, shape)), *options)
    return result["fwd_gflops"], result["bwd_gflops"], result["peak_gflops"]


def inputs(shape, options):
    batch, heads, kv_heads, queries, keys, size = shape
    make = lambda h, n: torch.randn(batch, h, n, size, requires_grad=True)
    more = {"is_causal": "--causal" in options, "enable_gqa": heads != kv_heads}
    if "--window" in options:
        window = int(options[options.index("--window") + 1])
        i, j = torch.arange(queries)[:, None], torch.arange(keys)[None]
        more.update(is_causal=False, attn_mask=(j <= i) & (j > i - window))
    if "--mask" in options:
        more["attn_mask"] = torch.zeros(1, heads, queries, keys, requires_grad=True)
    if "--dropout" in options:
        more["dropout_p"] = float(options[options.index("--dropout") + 1])
    return [make(heads, queries), make(kv_heads, keys), make(kv_heads, keys)], more


def run_torch(arguments, shape, options):
    tensors, more = inputs(shape, options)
    gradient = torch.randn_like(tensors[0])
    forward, backward, end = [], [], time.perf_counter() + arguments.seconds
    while len(forward) < 6 or time.perf_counter() < end:
        start = time.perf_counter()
        output = torch.nn.functional.scaled_dot_product_attention(*tensors, **more)
        middle = time.perf_counter()
        output.backward(gradient)
        forward.append(middle - start)
        backward.append(time.perf_counter() - middle)
        for tensor in (*tensors, more.get("attn_mask")):
            if tensor is not None:
                tensor.grad = None
    work = 2e-9 * pairs(shape, options) * shape[-1]
    return 2 * work / statistics.median(forward[1:]), 5 * work / statistics.median(backward[1:])


def torch_layer(arguments):
    """The one-head layer on (32, 10, 64): microseconds forward, and forward and backward to the
    three weights, each the best of five means as tensorflow's peer run has it."""
    x = torch.randn(32, 10, 64)
    weights = [torch.randn(64, 64, requires_grad=True) for _ in range(3)]

    def forward():
        q, k, v = (x @ w for w in weights)
        return torch.softmax(q @ k.transpose(1, 2) / 8, -1) @ v

    def both():
        torch.autograd.grad(forward().sum(), weights)

    def microseconds(run, count=200):
        for _ in range(20):
            run()
        best = float("inf")
        for _ in range(5):
            start = time.perf_counter()
            for _ in range(count):
                run()
            best = min(best, (time.perf_counter() - start) / count)
        return best * 1e6

    return microseconds(forward), microseconds(both)


def compare_layer(arguments):
    ours, theirs = [], []
    for _ in range(arguments.rounds):
        result = bench(arguments, "layer")
        forward = result["fwd_seconds"] * 1e6
        ours.append((forward, forward + result["bwd_seconds"] * 1e6))
        theirs.append(torch_layer(arguments))
    (forward, both), (torch_forward, torch_both) = (
        [statistics.median(column) for column in zip(*runs)] for runs in (ours, theirs))
    print(f"one-head layer (32, 10, 64): forward {forward:.0f} us, torch {torch_forward:.0f}; "
          f"forward and backward {both:.0f} us, torch {torch_both:.0f}")
    return {"case": "layer", "forward_us": forward, "both_us": both,
            "torch_forward_us": torch_forward, "torch_both_us": torch_both}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    if not os.path.isfile(os.environ.get("HONE_BINARY", "")):
        parser.error("$HONE_BINARY is not set to a file")
    torch.set_num_threads(arguments.threads)
    rows = []
    print(f"{'':26}{'peak':>7}{'forward':>9}{'share':>7}{'torch':>7}{'times':>7}"
          f"{'backward':>10}{'share':>7}{'torch':>7}{'times':>7}")
    for name, shape, options in CASES:
        if arguments.only not in name:
            continue
        ours, theirs = [], []
        for _ in range(arguments.rounds):
            ours.append(run_hone(arguments, shape, options))
            theirs.append(run_torch(arguments, shape, options))
        forward, backward, peak = (statistics.median(x) for x in zip(*ours))
        torch_forward, torch_backward = (statistics.median(x) for x in zip(*theirs))
        rows.append({"case": name, "peak": peak, "forward": forward, "backward": backward,
                     "torch_forward": round(torch_forward, 2),
                     "torch_backward": round(torch_backward, 2)})
        print(f"{name:26}{peak:7.1f}{forward:9.1f}{forward / peak:7.2f}{torch_forward:7.1f}"
              f"{forward / torch_forward:7.2f}{backward:10.1f}{backward / peak:7.2f}"
              f"{torch_backward:7.1f}{backward / torch_backward:7.2f}", flush=True)
    if arguments.only in "layer":
        rows.append(compare_layer(arguments))
    print(json.dumps({"threads": arguments.threads, "rounds": arguments.rounds, "cases": rows}))


if __name__ == "__main__":
    sys.exit(main())
