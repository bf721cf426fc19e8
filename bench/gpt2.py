#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""GPT-2 124M, every weight in f32, beside PyTorch and llm.c on the same machine: `hone finetune
--method full`, bench/torch_gpt2.py and llm.c's steps by turns (A B C A B C), the same random
weights, tokens, order, rate and threads.

    HONE_BINARY=build/release/hone HONE_MODEL=SmolLM2.gguf bench/run gpt2 [--llmc FOLDER]
        [--steps 6] [--rounds 2] [--batch 4] [--length 64] [--threads 2] [--alone]

FOLDER is a checkout of https://github.com/karpathy/llm.c, built here with the flags of its
Makefile; without one PyTorch is the only peer. The text is this project's own sources, in the tokens of $HONE_MODEL (a file with at most
50257 of them); the model's sizes are GPT-2's. Figures as bench/main_job.py has them. All run AdamW
without decay and clip nothing, so that the losses of all steps must agree.
"""
import argparse
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile

import gguf
import main_job
import numpy as np

LAYERS, WIDTH, HEADS, CONTEXT, VOCABULARY, PADDED = 12, 768, 12, 1024, 50257, 50304
RATE = 1e-4
LLMC_FLAGS = ["-Ofast", "-fno-finite-math-only", "-march=native", "-fopenmp", "-DOMP",
              "-Wno-unused-result"]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (("steps", 6), ("rounds", 2), ("batch", 4), ("length", 64)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--llmc", help="a checkout of llm.c")
    parser.add_argument("--alone", action="store_true", help="Hone without its peers")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    options.precision = "f32"  # as main_job.peak reads it
    for name in ("HONE_BINARY", "HONE_MODEL"):
        if not os.path.isfile(os.environ.get(name, "")):
            parser.error(f"${name} is not set to a file")
    if options.llmc and not os.path.isfile(f"{options.llmc}/train_gpt2.c"):
        parser.error("--llmc: a folder with train_gpt2.c is wanted")
    if options.steps < 2:
        parser.error("--steps: the first step of a run does not count, so at least 2")
    return options


def tensors():
    """(llm.c's order and GGUF's name, values): a layer's tensors stand together over all layers."""
    rng = np.random.default_rng(0)

    def normal(*shape, scale=0.02):
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    def ones():
        return np.ones(WIDTH, np.float32)

    def zeros(size):
        return np.zeros(size, np.float32)

    last = 0.02 / math.sqrt(2 * LAYERS)  # of what is added to the residual
    parts = [("attn_norm.weight", ones), ("attn_norm.bias", lambda: zeros(WIDTH)),
             ("attn_qkv.weight", lambda: normal(3 * WIDTH, WIDTH)),
             ("attn_qkv.bias", lambda: zeros(3 * WIDTH)),
             ("attn_output.weight", lambda: normal(WIDTH, WIDTH, scale=last)),
             ("attn_output.bias", lambda: zeros(WIDTH)),
             ("ffn_norm.weight", ones), ("ffn_norm.bias", lambda: zeros(WIDTH)),
             ("ffn_up.weight", lambda: normal(4 * WIDTH, WIDTH)),
             ("ffn_up.bias", lambda: zeros(4 * WIDTH)),
             ("ffn_down.weight", lambda: normal(WIDTH, 4 * WIDTH, scale=last)),
             ("ffn_down.bias", lambda: zeros(WIDTH))]
    return ([("token_embd.weight", normal(VOCABULARY, WIDTH)),
             ("position_embd.weight", normal(CONTEXT, WIDTH))]
            + [(f"blk.{layer}.{name}", make()) for name, make in parts for layer in range(LAYERS)]
            + [("output_norm.weight", ones()), ("output_norm.bias", zeros(WIDTH))])


def write_gguf(path, values):
    source = gguf.GGUFReader(os.environ["HONE_MODEL"])

    def field(name):
        return source.fields[f"tokenizer.ggml.{name}"].contents()

    names = field("tokens")
    if len(names) > VOCABULARY:
        raise SystemExit(f"$HONE_MODEL has {len(names)} tokens, GPT-2 {VOCABULARY}")
    more = VOCABULARY - len(names)
    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_block_count(LAYERS)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(4 * WIDTH)
    writer.add_head_count(HEADS)
    writer.add_layer_norm_eps(1e-5)
    writer.add_file_type(0)
    writer.add_tokenizer_model(field("model"))
    writer.add_tokenizer_pre(field("pre"))
    writer.add_token_list(names + [f"<unused{i}>" for i in range(more)])
    writer.add_token_types(field("token_type") + [int(gguf.TokenType.UNUSED)] * more)
    writer.add_token_merges(field("merges"))
    for name in ("bos", "eos"):
        getattr(writer, f"add_{name}_token_id")(field(f"{name}_token_id"))
    for name, tensor in values:
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_bin(path, values):
    header = np.zeros(256, np.int32)
    header[:8] = 20240326, 3, CONTEXT, VOCABULARY, LAYERS, HEADS, WIDTH, PADDED
    with open(path, "wb") as file:
        file.write(header.tobytes())
        for name, tensor in values:
            file.write(tensor.tobytes())
            if name == "token_embd.weight":
                file.write(np.zeros((PADDED - VOCABULARY, WIDTH), np.float32).tobytes())


def write_npz(path, values):
    """transformers' names; its matrices are llm.c's transposed."""
    names = {"token_embd": "wte", "position_embd": "wpe", "output_norm": "ln_f",
             "attn_norm": "ln_1", "attn_qkv": "attn.c_attn", "attn_output": "attn.c_proj",
             "ffn_norm": "ln_2", "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"}

    def named(name):
        *layer, name, kind = name.split(".")
        return ".".join([*(["h", layer[1]] if layer else []), names[name], kind])

    np.savez(path, **{named(name): tensor.T if ".blk" in f".{name}" else tensor
                      for name, tensor in values})


def build_llmc(options, folder):
    driver = pathlib.Path(__file__).resolve().with_name("llmc_train.c")
    subprocess.run(["cc", *LLMC_FLAGS, f"-I{options.llmc}", str(driver), "-lm", "-o",
                    str(folder / "llmc_train")], check=True)


def run_hone(options, folder, data):
    return main_job.finetune(options, folder / "gpt2.gguf", folder, data, [
        "--method", "full", "--lr", RATE, "--max-length", options.length + 1, "--no-eos",
        "--loss-on", "all", "--weight-decay", 0, "--clip", 0])


def run_peer(options, folder, peer):
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    rest = [folder / "tokens.bin", options.batch, options.length, RATE]
    command = ([folder / "llmc_train", folder / "gpt2.bin", *rest] if peer == "llm.c" else
               [sys.executable, pathlib.Path(__file__).resolve().with_name("torch_gpt2.py"),
                folder / "gpt2.npz", *rest, options.threads])
    out, wall, memory = main_job.measured(command)
    steps = [line.split()[1:] for line in out.splitlines() if line.startswith("step ")]
    return {"loss": [float(loss) for loss, _ in steps], "wall": wall, "memory": memory,
            "seconds": [float(seconds) for _, seconds in steps]}


def prepare(options, folder, peers):
    """The models and the tokens that each step reads; the data."""
    values = tensors()
    write_gguf(folder / "gpt2.gguf", values)
    if "pytorch" in peers:
        write_npz(folder / "gpt2.npz", values)
    if "llm.c" in peers:
        write_bin(folder / "gpt2.bin", values)
        build_llmc(options, folder)
    options.length += 1  # the last token is only a target
    data, examples = main_job.write_examples(options, folder)
    options.length -= 1
    np.array([example["tokens"] for example in examples], np.int32).tofile(folder / "tokens.bin")
    return data


def agree(runs):
    """The losses of all steps, of every program."""
    for peer in list(runs)[1:]:
        apart = max(abs(a - b) for a, b in zip(runs["hone"][0]["loss"], runs[peer][0]["loss"],
                                               strict=True))
        if apart > 1e-3:
            raise SystemExit(f"losses differ from {peer}'s by {apart}: the work was not the same")
        print(f"losses of all steps: at most {apart:.1e} from {peer}'s")


def main():
    options = arguments()
    peers = [] if options.alone else ["pytorch", *(["llm.c"] if options.llmc else [])]
    runs = {"hone": [], **{peer: [] for peer in peers}}
    with tempfile.TemporaryDirectory(prefix="hone-bench-") as name:
        folder = pathlib.Path(name)
        data = prepare(options, folder, peers)
        for turn in range(options.rounds):
            print(f"round {turn + 1} of {options.rounds}", file=sys.stderr, flush=True)
            before = main_job.peak(options)
            run = run_hone(options, folder, data)
            runs["hone"].append({**run, "peak": max(before, main_job.peak(options))})
            for peer in peers:
                runs[peer].append(run_peer(options, folder, peer))
    tokens = [options.batch * options.length] * options.steps
    results = {name: main_job.summary(of, options.batch, tokens) for name, of in runs.items()}
    agree(runs)
    print(f"GPT-2 124M, every weight, {options.batch} x {options.length} tokens a step, "
          f"{options.threads} threads, {main_job.processor()}")
    main_job.say(results)
    ratios = {peer: round(results["hone"]["tokens_per_s"] / results[peer]["tokens_per_s"], 3)
              for peer in peers}
    for peer, ratio in ratios.items():
        print(f"Hone has {ratio:.2f} times the speed of {peer}")
    print(json.dumps({**results, "steps": options.steps, "rounds": options.rounds,
                      "threads": options.threads, "ratio": ratios}))


if __name__ == "__main__":
    main()
