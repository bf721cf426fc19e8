#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Generation beside llama.cpp on the same machine: `hone generate` and llama-cpp-python by turns
(A B A B), the same file, prompt, threads and number of greedy tokens.

    HONE_BINARY=build/release/hone HONE_MODEL=SmolLM2.gguf bench/run generate
        [--prompt 256] [--decode 64] [--rounds 3] [--threads 2]

Tokens/s of the prompt in one batch, and of what is decoded after it token by token; medians of the
rounds. llama.cpp rounds activations to 8 bits to multiply quantised weights, Hone computes in f32.
Prints a table, then one line of JSON.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

from llama_cpp import Llama

PATTERN = " one two three four"  # a token each; what continues it does not end


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (("prompt", 256), ("decode", 64), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    for name in ("HONE_BINARY", "HONE_MODEL"):
        if not os.path.isfile(os.environ.get(name, "")):
            parser.error(f"${name} is not set to a file")
    if options.prompt < 1 or options.decode < 2 or options.rounds < 1:
        parser.error("want --prompt and --rounds of 1 or more and --decode of 2 or more")
    return options


def prompt_of(count):
    words = PATTERN.split(" ")[1:]
    return "".join(f" {words[i % len(words)]}" for i in range(count))


def rates(options, prompt_seconds, seconds):
    """The first token comes out of the prompt's logits, so decoding computes one less."""
    return options.prompt / prompt_seconds, (options.decode - 1) / seconds


def run_hone(options, text):
    done = subprocess.run(
        [os.environ["HONE_BINARY"], "generate", "--model", os.environ["HONE_MODEL"], "--raw",
         "--prompt", text, "--max-tokens", str(options.decode), "--temperature", "0", "--threads",
         str(options.threads), "--json"], stdout=subprocess.PIPE, text=True, check=True)
    result = json.loads(done.stdout)
    counts = result["prompt_tokens"], len(result["tokens"])
    if counts != (options.prompt, options.decode):
        raise SystemExit(f"Hone read and wrote {counts} tokens, not what was asked for")
    return result["tokens"], rates(options, result["prompt_seconds"], result["seconds"])


def run_llama(options, text):
    model = Llama(os.environ["HONE_MODEL"], n_ctx=options.prompt + options.decode,
                  n_batch=options.prompt, n_ubatch=options.prompt, n_threads=options.threads,
                  n_threads_batch=options.threads, verbose=False)
    prompt = model.tokenize(text.encode(), add_bos=False, special=True)
    if len(prompt) != options.prompt:
        raise SystemExit(f"llama.cpp reads the prompt as {len(prompt)} tokens")
    start = time.perf_counter()
    model.eval(prompt)
    middle = time.perf_counter()
    tokens = []
    while len(tokens) < options.decode:
        if tokens:
            model.eval(tokens[-1:])
        tokens.append(model.sample(temp=0))
    return tokens, rates(options, middle - start, time.perf_counter() - middle)


def main():
    options = arguments()
    text = prompt_of(options.prompt)
    runs = {"hone": [], "llama.cpp": []}
    for _ in range(options.rounds):
        ours, speed = run_hone(options, text)
        runs["hone"].append(speed)
        theirs, speed = run_llama(options, text)
        runs["llama.cpp"].append(speed)
    results = {name: [round(statistics.median(column), 1) for column in zip(*of)]
               for name, of in runs.items()}
    same = sum(a == b for a, b in zip(ours, theirs))
    print(f"prompt of {options.prompt} tokens, {options.decode} decoded ({same} the same in both), "
          f"{options.threads} threads")
    print(f"{'':12}{'prompt tokens/s':>17}{'decoded tokens/s':>18}")
    for name, (prompt, decoded) in results.items():
        print(f"{name:12}{prompt:17.1f}{decoded:18.1f}")
    print(json.dumps({**results, "same_tokens": same, "threads": options.threads,
                      "rounds": options.rounds}))


if __name__ == "__main__":
    sys.exit(main())
