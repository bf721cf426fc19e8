# SPDX-License-Identifier: Apache-2.0
"""What the tests of faults share: a short run with everything in it, and how its files compare.

Each test_*.py here is run by ctest as: python3 test_X.py PATH-OF-HONE PATH-OF-HONE_FAULTS
It tries some of the places where a fault can come; HONE_TRUST=long tries all (make trust).
"""
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "cli"))
from support import CHAT, HONE, TEXTS, TINY, Case, main  # noqa: E402,F401  (main is for those who import)

if os.path.isdir("/dev/shm"):
    tempfile.tempdir = "/dev/shm"  # thousands of syncs
FAULTS = os.path.abspath(sys.argv.pop(2))
LONG = os.environ.get("HONE_TRUST") == "long"
KINDS = ("lora", "dpo", "orpo", "distill", "llama", "gpt2", "transformer")
TIMING = ("tokens_per_s", "seconds", "rss_bytes", "rss_anon_bytes", "rss_mapped_bytes")
RECORDED = ("state", "lengths", "sources", "first_example", "held_out")
OPTIONS = ["--steps", 5, "--checkpoint-every", 1, "--eval-split", 2, "--eval-every", 2, "--batch", 4,
           "--accumulate", 2, "--lr", "0.01", "--checkpoint-layers", 1,
           "--keep", "best", "--patience", 9, "--skip-spikes", 9, "--threads", 2]
DROPOUT = ["--dropout", "0.1"]


def some(count, most, long=1000):
    """Of 0 … count-1 some, `most` at most, the first and the last ones too; `long` in the long form."""
    most = long if LONG else most
    if count <= most:
        return range(count)
    drawn = random.Random(count).sample(range(count), most - 4)
    return sorted({0, 1, count - 2, count - 1, *drawn})


def contents(folder):
    """Every file of a run's folder; what metrics.jsonl and run.json say of time and memory left out,
    and the page that is made of them."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            continue
        name, held = str(path.relative_to(folder)), path.read_bytes()
        if name == "metrics.jsonl":
            held = [{key: value for key, value in json.loads(line).items() if key not in TIMING}
                    for line in held.splitlines()]
        if name == "run.json":
            held = {key: value for key, value in json.loads(held).items() if key in RECORDED}
        files[name] = b"" if name == "report.html" else held
    return files


WORDS = ("one", "in", "the end", "on", "a", "of it", "same", "1 2")
PAIRS = [{"prompt": f"{word}? ", "chosen": "yes, the " + word, "rejected": "no"} for word in WORDS]
TRANSLATIONS = [{"source": text["text"], "target": text["text"][::-1]} for text in TEXTS]
NEW = ["--layers", 2, "--channels", 16, "--heads", 2, "--vocabulary", 270, "--eval-split", 2, "--steps",
       5, "--checkpoint-every", 1, "--eval-every", 2, "--threads", 2, "--json"]


class Faulty(Case):
    kind = "lora"

    def setUp(self):
        super().setUp()
        self.data = self.write("data.jsonl", CHAT)
        self.command = self.command_of(self.kind)

    def command_of(self, kind):
        """A run of some kind, without its --out; each with what it alone has."""
        def tune(data, *more):
            return ["finetune", "--model", TINY, "--data", data, *OPTIONS, *more, "--json"]

        if kind == "lora":
            return tune(self.data, *DROPOUT)
        if kind in ("dpo", "orpo"):
            return tune(self.write("pairs.jsonl", PAIRS), *DROPOUT, "--loss", kind, "--method",
                        "dora" if kind == "dpo" else "lora")
        if kind == "distill":
            return tune(self.data, "--loss", "distill", "--teacher", TINY, "--method", "full",
                        "--optimizer", "adamw8bit")
        if kind == "transformer":
            data = self.write("pairs.jsonl", TRANSLATIONS)
            return ["train", "--data", data, "--architecture", "transformer", "--context", 24, "--batch", 3,
                    "--dropout", 0.1, "--label-smoothing", 0.1, "--schedule", "inverse-sqrt",
                    "--accumulate", 2, "--checkpoint-layers", 1, *NEW]
        data = self.write("corpus.txt", "to be or not to be, that is the question\n" * 40)
        if kind == "gpt2":
            return ["train", "--data", data, "--architecture", "gpt2", "--context", 16, "--batch", 4,
                    "--optimizer", "adafactor", "--accumulate", 2, "--keep", "best", "--patience", 9, *NEW]
        assert kind == "llama"
        return ["train", "--data", data, "--context", 16, "--batch", 2, "--optimizer", "muon",
                "--gradient-penalty", 0.1, *NEW]

    def fault(self, fault, *arguments, counts=None):
        """Run the command with a fault; counts: a file for the number of calls."""
        setting = {"HONE_FAULT": fault, "HONE_FAULT_COUNTS": str(counts or "")}
        environment = {**os.environ, **{key: value for key, value in setting.items() if value}}
        return subprocess.run([FAULTS, *map(str, arguments)], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=120,
                              universal_newlines=True, env=environment)

    def counts(self, *arguments):
        file = self.folder / "counts"
        done = self.fault("", *arguments, counts=file)
        self.assertEqual(done.returncode, 0, done.stderr)
        return {name: int(count) for name, count in map(str.split, file.read_text().splitlines())}

    def one_line(self, done):
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertTrue(done.stderr.startswith(f"hone {self.command[0]}: "), done.stderr)

    def steps_of(self, done):
        """The numbers of its step events, and the step of the last checkpoint it told of; 0: none."""
        steps, saved = [], 0
        for line in done.stdout.splitlines():
            try:
                event = json.loads(line)
            except ValueError:  # killed in the middle of a line
                continue
            if event["event"] == "step":
                steps.append(event["step"])
            elif event["event"] == "checkpoint":
                saved = int(event["text"].rsplit("-", 1)[1].split(".")[0])
        return steps, saved

    def continued(self, out):
        """The arguments that resume a run, or begin it again where it has saved nothing."""
        held = list(out.glob("checkpoint/step-*.safetensors")) if out.exists() else []
        if held and (out / "config.yaml").exists():
            return [self.command[0], "--resume", out, "--json"]
        return [*self.command, "--out", out]

    def go_on(self, out, saved=0):
        """The files of a run that ended before its end, once it was continued."""
        arguments = self.continued(out)
        if saved:
            self.assertEqual(arguments[1], "--resume", "the checkpoint that was told of is not there")
        done = self.hone(*arguments)
        self.assertEqual(done.returncode, 0, done.stderr)
        steps, _ = self.steps_of(done)
        if saved and steps:
            self.assertGreater(steps[0], saved, "steps that had been saved were made again")
        return contents(out)

    def same_files(self, got, wanted):
        self.assertEqual(sorted(got), sorted(wanted))
        for name in wanted:
            if name == "metrics.jsonl":
                self.assertEqual(got[name], wanted[name])
            self.assertTrue(got[name] == wanted[name], f"{name} is another")
