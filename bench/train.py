#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How a training step scales: `hone bench train` over lengths, batches, ranks, model sizes, full
fine-tuning, and one thread beside all of them.

    HONE_BINARY=build/release/hone bench/run train [--seconds 2] [--only length,batch]
        [--threads 2] [--out table.md]

Models have random weights, stored as Q4_1. Prints a Markdown table a section, row by row, and
writes them to --out. What needs more memory than is free is named and skipped. All sections take
about an hour on two cores; each case but the longest under a minute.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys

USUAL = {"shape": "135M", "method": "lora", "rank": 16, "batch": 4, "length": 256}
SIZES = ("15M", "60M", "135M", "360M")


def cases(name, values, **fixed):
    return [{**USUAL, **fixed, name: value} for value in values]


ONE_BILLION = {**USUAL, "shape": "1B", "batch": 1, "length": 128}
SECTIONS = {
    "length": cases("length", (128, 256, 512, 1024, 2048, 4096, 8192), batch=1),
    "batch": cases("batch", (1, 2, 4, 8, 16)),
    "rank": cases("rank", (4, 16, 64, 128)),
    "size": cases("shape", SIZES) + [ONE_BILLION],
    "full": cases("shape", SIZES, method="full") + [{**ONE_BILLION, "method": "full"}],
}
THREADS = [*cases("shape", ("15M", "135M")), *cases("shape", ("15M", "60M"), method="full"),
           *cases("length", (32, 1024), batch=1)]
HEADS = {
    "scaling": ["model", "trained", "tokens a step", "tokens/s", "s a step", "useful GF/s",
                "of the peak", "forward", "head, loss", "backward", "update", "peak MiB"],
    "threads": ["model", "trained", "tokens a step", "s on one thread", "s on {threads}",
                "times as fast"],
}


def train(arguments, case, threads):
    """The figures of a case, or why there are none."""
    command = [os.environ["HONE_BINARY"], "bench", "train", "--json", "--seconds",
               str(arguments.seconds), "--threads", str(threads)]
    for name, value in case.items():
        if name != "rank" or case["method"] == "lora":
            command += [f"--{name}", str(value)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode == 0:
        return json.loads(done.stdout), ""
    if " MiB free" in done.stderr:
        return None, "skipped: " + done.stderr.strip().removeprefix("hone bench: ")
    raise SystemExit(f"{' '.join(command)}: status {done.returncode}\n{done.stderr}")


def named(case):
    trained = f"rank {case['rank']}" if case["method"] == "lora" else "every weight"
    return [case["shape"], trained, f"{case['batch']} × {case['length']}"]


def scaling_row(arguments, case):
    figures, why = train(arguments, case, arguments.threads)
    if not figures:
        return named(case) + [why]
    phases = [f"{figures[name + '_seconds'] / figures['step_seconds']:.0%}".replace("%", " %")
              for name in ("forward", "head", "backward", "update")]
    return named(case) + [f"{figures['tokens_per_s']:.1f}", f"{figures['step_seconds']:.3g}",
                          f"{figures['gflops']:.1f}", f"{figures['share']:.2f}", *phases,
                          f"{figures['rss_bytes'] / 2**20:.0f}"]


def threads_row(arguments, case):
    seconds = {1: [], arguments.threads: []}
    for _ in range(2):
        for threads, times in seconds.items():
            figures, why = train(arguments, case, threads)
            if not figures:
                return named(case) + [why]
            times.append(figures["step_seconds"])
    one, all_of_them = (statistics.median(times) for times in seconds.values())
    return named(case) + [f"{one:.3g}", f"{all_of_them:.3g}", f"{one / all_of_them:.2f}"]


def main():
    known = [*SECTIONS, "threads"]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", default=",".join(known), help=f"sections: {', '.join(known)}")
    parser.add_argument("--out", help="write the tables to this file too")
    arguments = parser.parse_args()
    wanted = arguments.only.split(",")
    if not os.path.isfile(os.environ.get("HONE_BINARY", "")):
        parser.error("$HONE_BINARY is not set to a file")
    for section in wanted:
        if section not in known:
            parser.error(f"--only: no section \"{section}\", there are {', '.join(known)}")
    if arguments.threads == 1 and "threads" in wanted:
        wanted.remove("threads")
        print("threads: skipped, there is one", file=sys.stderr)
    out = open(arguments.out, "w", encoding="utf8") if arguments.out else None

    def say(text):
        for file in filter(None, (sys.stdout, out)):
            print(text, file=file, flush=True)

    for section in wanted:
        heads = HEADS["threads" if section == "threads" else "scaling"]
        heads = [head.format(threads=arguments.threads) for head in heads]
        say(f"\n{section}\n\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
        row = threads_row if section == "threads" else scaling_row
        for case in THREADS if section == "threads" else SECTIONS[section]:
            cells = row(arguments, case)
            say(f"| {' | '.join(cells + [''] * (len(heads) - len(cells)))} |")


if __name__ == "__main__":
    sys.exit(main())
