#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Speed and memory of the main job beside PyTorch on the same machine: `hone finetune` and
bench/torch_train.py by turns (A B A B), the same model, tokens, order, rank, optimiser and threads.

    HONE_BINARY=build/release/hone HONE_MODEL=SmolLM2.gguf bench/run main_job \\
        [--steps 8] [--rounds 2] [--batch 4] [--length 256] [--rank 16] [--method lora|full]
        [--precision f32|bf16] [--data EXAMPLES.jsonl] [--alone] [--also "OPTIONS"]

The text is this project's own sources, all of it learnt; or --data's first examples, whatever they
teach, of at most --length tokens: then PyTorch pads every batch to its longest, as trainers do, and
examples/s are what counts. --method full trains every weight, beside transformers with
torch.optim.AdamW. --precision bf16 is Hone's alone, where the processor has it: its peak is then that
of bf16 operands. --alone leaves the peer out, where it would not fit or takes too long. --also gives
hone finetune more options, such as "--checkpoint-layers all", whose memory or time is to be seen.

Tokens/s, of tokens read, are of all steps but the first, each at its median over the runs. The share
of the peak is useful work beside multiply-adds on registers, the most of these that was measured
before and after Hone's runs: a neighbour can only take from it. Memory is the highest resident set
of the process as the kernel counted it, mapped pages included.
Prints a table, then one line of JSON.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (("steps", 8), ("rounds", 2), ("batch", 4), ("length", 256), ("rank", 16)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--method", choices=("lora", "full"), default="lora")
    parser.add_argument("--precision", choices=("f32", "bf16"), default="f32")
    parser.add_argument("--data", help="examples of any kind that hone finetune reads")
    parser.add_argument("--alone", action="store_true", help="Hone without its peer")
    parser.add_argument("--also", default="", help="more options of hone finetune")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    for name in ("HONE_BINARY", "HONE_MODEL"):
        if not os.path.isfile(os.environ.get(name, "")):
            parser.error(f"${name} is not set to a file")
    if options.steps < 2:
        parser.error("--steps: the first step of a run does not count, so at least 2")
    return options


def measured(command, path=""):
    """Run a command; (its standard output, seconds, highest resident set in MiB)."""
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as messages:
        process = subprocess.Popen([str(part) for part in command], stdout=output, stderr=messages,
                                   env={**os.environ, "PYTHONPATH": str(path)})
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - start
        if process.returncode != 0:
            messages.seek(0)
            raise SystemExit(f"{command[0]}: status {process.returncode}\n"
                             f"{messages.read()[-2000:]}")
        output.seek(0)
        return output.read(), seconds, usage.ru_maxrss / 1024


def write_examples(options, folder):
    """Every example has exactly --length tokens; the tokens as Hone reads them, for the peer."""
    text = "".join(path.read_text("utf8") for path in sorted((ROOT / "src").rglob("*.[ch]")))
    wanted, size = options.steps * options.batch, 8 * options.length
    if len(text) < wanted * size:
        raise SystemExit(f"the sources give {len(text) // size} examples, {wanted} are wanted")
    data = folder / "data.jsonl"
    with open(data, "w") as file:
        for i in range(wanted):
            file.write(json.dumps({"text": text[i * size:(i + 1) * size]}) + "\n")
    examples = tokenised(options, data, ["--no-eos", "--loss-on", "all"])
    assert [len(example["tokens"]) for example in examples] == [options.length] * wanted
    return data, examples


def tokenised(options, data, more=()):
    lines, _, _ = measured([os.environ["HONE_BINARY"], "template", "--model",
                            os.environ["HONE_MODEL"], "--data", data, "--max-length",
                            options.length, *more, "--json"])
    examples = [json.loads(line) for line in lines.splitlines()]
    return [{"tokens": example["tokens"], "mask": example["mask"]} for example in examples]


def first_examples(options, folder):
    """The first examples of --data, as many as the steps take."""
    wanted = options.steps * options.batch
    with open(options.data) as file:
        lines = [line for line in file if line.strip()][:wanted]
    if len(lines) < wanted:
        raise SystemExit(f"{options.data}: {len(lines)} examples, {wanted} are wanted")
    data = folder / "data.jsonl"
    data.write_text("".join(lines))
    return data, tokenised(options, data)


def method(options):
    """What both programs are told of the method: their options have the same names."""
    if options.method == "full":
        return ["--method", "full", "--lr", 2e-5]
    return ["--rank", options.rank, "--alpha", 2 * options.rank, "--lr", 2e-4]


def finetune(options, model, folder, data, more):
    """A run in the data's own order at a constant rate: its steps and what they took."""
    out, wall, memory = measured([
        os.environ["HONE_BINARY"], "finetune", "--model", model, "--data", data, "--out",
        folder / "run", "--batch", options.batch, "--eval-split", 0, "--shuffle", "off",
        "--schedule", "constant", "--warmup", 0, "--threads", options.threads, *more, "--json"])
    events = [json.loads(line) for line in out.splitlines()]
    steps = [event for event in events if event["event"] == "step"]
    return {"loss": [step["loss"] for step in steps], "wall": wall, "memory": memory,
            "seconds": [step["seconds"] for step in steps],
            "operations": events[0]["operations"]}


def run_hone(options, folder, data):
    plain = [] if options.data else ["--no-eos", "--loss-on", "all"]
    return finetune(options, os.environ["HONE_MODEL"], folder, data,
                    [*method(options), "--max-length", options.length, "--precision",
                     options.precision, *plain, *options.also.split()])


def run_torch(options, hf, tokens):
    out, wall, memory = measured([
        sys.executable, ROOT / "bench" / "torch_train.py", "--hf", hf, "--examples", tokens,
        "--batch", options.batch, *method(options), "--threads", options.threads])
    return {**json.loads(out.splitlines()[-1]), "wall": wall, "memory": memory}


def peak(options):
    """GF/s of multiply-adds on registers, on as many threads."""
    out, _, _ = measured([os.environ["HONE_BINARY"], "bench", "attention", "--dtype",
                          options.precision, "--threads", options.threads, "--seconds", 0.3,
                          "--json"])
    return json.loads(out.splitlines()[0])["peak_gflops"]


def summary(runs, batch, tokens):
    """Every step but the first, at its median over the runs; `tokens` read in each of them."""
    steps = [statistics.median(run["seconds"][i] for run in runs) for i in range(1, len(tokens))]
    result = {"tokens_per_s": round(sum(tokens[1:]) / sum(steps), 1),
              "examples_per_s": round(batch * len(steps) / sum(steps), 3),
              "step_seconds": round(sum(steps) / len(steps), 4),
              "peak_rss_mib": round(statistics.median(run["memory"] for run in runs), 1),
              "wall_seconds": round(statistics.median(run["wall"] for run in runs), 2),
              "loss_first": round(runs[0]["loss"][0], 5),
              "loss_last": round(runs[0]["loss"][-1], 5)}
    if "operations" in runs[0]:
        work = runs[0]["operations"] / len(tokens) * len(steps)
        result["useful_gflops"] = round(work / sum(steps) / 1e9, 1)
        result["peak_gflops"] = round(max(run["peak"] for run in runs), 1)
        result["peak_share"] = round(result["useful_gflops"] / result["peak_gflops"], 3)
    return result


def processor():
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return "unknown processor"


def converted(model):
    """The model as a folder for the peer, made in a process of its own: the kernel counts what this
    one has held as its children's."""
    out, _, _ = measured([sys.executable, "-c", "import gguf_to_hf, sys; "
                          "print(gguf_to_hf.converted(sys.argv[1]))", model],
                         path=ROOT / "tests" / "interop")
    return out.splitlines()[-1]


def compare(options, peer):
    """Runs by turns; (the runs of each, tokens that each step reads)."""
    runs = {"hone": []} if options.alone else {"hone": [], peer: []}
    hf = None if options.alone else converted(os.environ["HONE_MODEL"])
    with tempfile.TemporaryDirectory(prefix="hone-bench-") as name:
        folder = pathlib.Path(name)
        data, examples = (first_examples if options.data else write_examples)(options, folder)
        tokens = folder / "tokens.json"
        tokens.write_text(json.dumps(examples))
        for turn in range(options.rounds):
            print(f"round {turn + 1} of {options.rounds}", file=sys.stderr, flush=True)
            before = peak(options)
            run = run_hone(options, folder, data)
            runs["hone"].append({**run, "peak": max(before, peak(options))})
            if not options.alone:
                runs[peer].append(run_torch(options, hf, tokens))
    return runs, [sum(len(example["tokens"]) for example in examples[i:i + options.batch])
                  for i in range(0, len(examples), options.batch)]


def say(results):
    """A table, and Hone's share of the peak."""
    print(f"{'':12}{'tokens/s':>10}{'examples/s':>12}{'s a step':>10}{'peak MiB':>10}"
          f"{'whole run s':>13}")
    for name, result in results.items():
        print(f"{name:12}{result['tokens_per_s']:10.1f}{result['examples_per_s']:12.2f}"
              f"{result['step_seconds']:10.3f}{result['peak_rss_mib']:10.0f}"
              f"{result['wall_seconds']:13.1f}")
    hone = results["hone"]
    print(f"Hone: {hone['useful_gflops']} GF/s of useful work, {hone['peak_share']:.2f} of "
          f"{hone['peak_gflops']} on registers")


def main():
    options = arguments()
    peer = "peft" if options.method == "lora" else "transformers"
    runs, tokens = compare(options, peer)
    results = {name: summary(of, options.batch, tokens) for name, of in runs.items()}
    # Both start as the model is (B = 0): unless the first losses agree, the work was not the same.
    first = [result["loss_first"] for result in results.values()]
    if max(first) - min(first) > 2e-3:
        raise SystemExit(f"the first losses differ: {first}")
    work = f"LoRA rank {options.rank}" if options.method == "lora" else "every weight"
    size = "ragged examples" if options.data else f"x {options.length} tokens"
    print(f"{work}, {options.batch} {size} a step, {options.threads} threads, {processor()}")
    say(results)
    hone = results["hone"]
    summed = {**results, "steps": options.steps, "rounds": options.rounds,
              "threads": options.threads}
    if not options.alone:
        summed["ratio"] = round(hone["examples_per_s"] / results[peer]["examples_per_s"], 3)
        print(f"Hone has {summed['ratio']:.2f} times the speed of {peer}")
    print(json.dumps(summed))


if __name__ == "__main__":
    main()
