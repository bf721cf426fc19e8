# SPDX-License-Identifier: Apache-2.0
"""hone init: what it asks, what it chooses, and that the run takes what it writes."""
import json
import os
import pathlib
import re
import shutil
import subprocess
import unittest

from support import CHAT, HONE, TINY, Case, main

USAGE, FAILED = 2, 1
APART = {"config", "dry-run", "resume", "resume-changed", "json", "help"}
SHELVES = [{"prompt": f"The shelf of book {n} is", "completion": f" number 10{n}."}
           for n in range(1, 41)]


# A sanitizer's own memory is more than what a bound of three quarters takes away.
SANITIZED = b"__asan_init" in pathlib.Path(HONE).read_bytes()


class Init(Case):
    def setUp(self):
        super().setUp()
        shutil.copy(TINY, self.folder / "tiny.gguf")
        self.write("shelves.jsonl", SHELVES)

    def init(self, *arguments, answers="", status=0):
        done = subprocess.run([HONE, "init", *map(str, arguments)], cwd=self.folder, input=answers,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=120)
        self.assertEqual(done.returncode, status, done.stderr)
        return done

    def chosen(self, *arguments, **options):
        done = self.init("--json", *arguments, **options)
        return {name: entry["value"] for name, entry in json.loads(done.stdout)["chosen"].items()}

    def config(self, name="finetune.yaml"):
        return (self.folder / name).read_text()

    def test_what_it_writes_is_what_the_run_takes(self):
        self.init("--yes")
        done = self.hone("finetune", "--config", "finetune.yaml", "--json", cwd=self.folder)
        self.assertEqual(done.returncode, 0, done.stderr)
        events = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual(events[-1]["event"], "done")
        [plan] = [event for event in events if event["event"] == "plan"]
        self.assertEqual(plan["examples"] + plan["eval_examples"], 40)
        self.assertEqual(plan["eval_examples"], 4)
        self.assertAlmostEqual(plan["epochs"], 4, 1)
        self.assertIn(f"The plan on this machine: {plan['steps']} steps", self.config())
        self.assertTrue((self.folder / "my-adapter" / "adapter.gguf").exists())

    def test_every_option_is_there_once_with_its_help(self):
        self.init("--yes")
        schema = json.loads(self.hone("finetune", "--help=schema").stdout)["properties"]
        words = re.sub(r"\n#     ", " ", self.config())
        for name, entry in schema.items():
            lines = re.findall(rf"^#?{name}:", self.config(), re.MULTILINE)
            self.assertEqual(len(lines), 0 if name in APART else 1, name)
            if name not in APART:
                self.assertIn(entry["description"], words)
        for line in self.config().splitlines():
            self.assertLessEqual(len(line), 100, line)

    def test_a_line_can_be_uncommented(self):
        self.init("--yes", "--for", "try")
        text = re.sub(r"^#(dropout): X", r"\1: 0.25", self.config(), flags=re.MULTILINE)
        text = re.sub(r"^#(rslora|schedule): (on|cosine)\S*", r"\1: \2", text, flags=re.MULTILINE)
        (self.folder / "finetune.yaml").write_text(text)
        done = self.hone("finetune", "--config", "finetune.yaml", cwd=self.folder)
        self.assertEqual(done.returncode, 0, done.stderr)
        used = (self.folder / "my-adapter" / "config.yaml").read_text()
        self.assertIn("dropout: 0.25\n", used)
        self.assertIn('rslora: "on"', used)

    def test_four_questions(self):
        answers = "tiny.gguf\nshelves.jsonl\nnew folder\nbest\n"
        done = self.init("mine.yaml", answers=answers)
        self.assertEqual([number for number in re.findall(r"(\d)\. W", done.stderr)],
                         ["1", "2", "3", "4"])
        self.assertIn('out: "new folder"\n', self.config("mine.yaml"))
        self.assertIn("patience: 3\n", self.config("mine.yaml"))
        self.assertIn("hone finetune --config mine.yaml", done.stdout)

    def test_what_does_not_fit_is_asked_again_and_an_end_of_answers_takes_what_is_likely(self):
        done = self.init(answers="no.gguf\n\nno.jsonl\nshelves.jsonl\ntiny.gguf\n  out  \nsoon\n")
        for says in ("no.gguf is not there", "no.jsonl is not there", "tiny.gguf is a file",
                     '"soon" is none of try, good, best, nor a number of minutes'):
            self.assertIn(says, done.stderr)
        self.assertIn('out: "out"\n', self.config())
        self.assertIn("epochs: 4\n", self.config())

    def test_an_option_is_not_asked_for(self):
        done = self.init("--model", "tiny.gguf", "--data", "shelves.jsonl:2", "--data",
                         self.write("chat.jsonl", CHAT), "--for", "good", answers="\n")
        self.assertEqual(re.findall(r"(\d)\. W", done.stderr), ["3"])
        self.assertIn('data:\n  - "shelves.jsonl:2"\n  - "', self.config())

    def test_a_home_is_no_name_of_a_folder(self):
        done = subprocess.run([HONE, "init"], cwd=self.folder, input="~/tiny.gguf\n\n\n\n",
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              env={**os.environ, "HOME": str(self.folder)}, timeout=120)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(f'model: "{self.folder}/tiny.gguf"', self.config())

    def test_nothing_is_written_over(self):
        (self.folder / "finetune.yaml").write_text("mine\n")
        done = self.init("--yes", status=USAGE)
        self.assertIn("finetune.yaml is there already", done.stderr)
        self.assertEqual(self.config(), "mine\n")
        (self.folder / "link.yaml").symlink_to("nowhere")
        self.init("link.yaml", "--yes", status=USAGE)

    def test_what_cannot_be_written_is_said(self):
        done = self.init("no/such/folder.yaml", "--yes", status=FAILED)
        self.assertIn("no/such/folder.yaml: cannot be written", done.stderr)

    def test_several_files_are_not_chosen_from(self):
        self.write("more.csv", "prompt,completion\na,b\n")
        done = self.init("--yes", status=USAGE)
        self.assertIn("--data says", done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1)
        (self.folder / "tiny.gguf").unlink()
        self.assertIn("--model says", self.init(status=USAGE).stderr)

    def test_bad_input_is_named_and_nothing_written(self):
        self.write("bad.jsonl", '{"prompt": "a", "completion": "b"}\n{"prompt": 1}\n')
        done = self.init("--yes", "--data", "bad.jsonl", status=USAGE)
        self.assertIn("bad.jsonl:2", done.stderr)
        done = self.init("--yes", "--model", "shelves.jsonl", "--data", "shelves.jsonl",
                         status=USAGE)
        self.assertIn("shelves.jsonl", done.stderr)
        self.assertFalse((self.folder / "finetune.yaml").exists())

    def test_pairs_are_learnt_as_pairs(self):
        pairs = [{"prompt": "a", "chosen": str(n), "rejected": "c"} for n in range(12)]
        self.assertEqual(self.chosen("--yes", "--data", self.write("pairs.jsonl", pairs))["loss"],
                         "dpo")

    def test_few_and_many_examples(self):
        few = self.chosen("few.yaml", "--yes", "--data", self.write("few.jsonl", CHAT))
        self.assertEqual((few["eval-split"], few["epochs"]), ("0", "4"))
        self.assertNotIn("keep", few)
        many = self.chosen("many.yaml", "--yes", "--for", "best", "--data",
                           self.write("many.jsonl", SHELVES * 30))
        self.assertEqual((many["eval-split"], many["epochs"]), ("0.05", "4"))
        self.assertEqual((many["rank"], many["alpha"], many["keep"]), ("16", "32", "best"))

    def test_minutes(self):
        """A thousandth of one is less than an epoch takes; a thousand is more than is of use."""
        short = self.chosen("short.yaml", "--yes", "--for", "0.000001")
        self.assertEqual(short["steps"], "1")
        self.assertNotIn("epochs", short)
        self.assertEqual(self.chosen("long.yaml", "--yes", "--for", "1000")["epochs"], "8")
        self.assertIn("soon", self.init("--yes", "--for", "soon", status=USAGE).stderr)

    def test_long_examples(self):
        long = [{"text": "and then the rest of it " * 40}] * 20
        data = self.write("long.jsonl", long)
        self.assertEqual(self.chosen("--yes", "--data", data)["max-length"], "256")
        self.assertIn("18 of the 18 that are trained on are longer", self.config())

    def test_memory_that_is_too_small(self):
        done = self.init("--yes", "--memory", "1M", status=FAILED)
        enough = re.search(r"--memory (\d+)M would do", done.stderr)[1]
        self.init("--yes", "--memory", f"{enough}M")

    @unittest.skipUnless(os.environ.get("HONE_MODEL"), "HONE_MODEL is not set")
    @unittest.skipIf(SANITIZED, "built with AddressSanitizer")
    def test_a_bound_on_memory(self):
        """What would take more than is given is planned within that."""
        real = ("--yes", "--json", "--model", os.environ["HONE_MODEL"], "--data", "shelves.jsonl")
        free = json.loads(self.init("free.yaml", *real).stdout)
        self.assertNotIn("memory", free["chosen"])
        bound = free["memory_bytes"] * 3 // 4
        kept = json.loads(self.init("kept.yaml", *real, "--memory", bound).stdout)
        self.assertEqual(kept["chosen"]["memory"]["value"], f"{bound // 2**20}M")
        self.assertLessEqual(kept["memory_bytes"], bound)
        self.assertIn("and that was given", kept["chosen"]["memory"]["why"])


if __name__ == "__main__":
    main()
