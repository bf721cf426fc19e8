# SPDX-License-Identifier: Apache-2.0
"""hone train: resumed and on any number of threads the same bytes; what it refuses."""
import gzip
import json
import os
import subprocess

import support

SMALL = ["--layers", 2, "--channels", 16, "--heads", 2, "--context", 16, "--vocabulary", 270,
         "--batch", 2, "--eval-split", 2]
PLACES = ["model.gguf", "tokenizer.json", "metrics.jsonl"]


class Train(support.Case):
    def corpus(self):
        """Two shards and a text in a folder of a folder."""
        (self.folder / "corpus" / "more").mkdir(parents=True)
        self.write("corpus/a.jsonl", support.TEXTS[:4])
        self.write("corpus/more/b.txt", "to be or not to be\n" * 4)
        self.write("corpus/c.jsonl", support.TEXTS[4:])
        self.write("corpus/ignored.py", "not this")
        self.write("corpus/.hidden.txt", "nor this")
        return self.folder / "corpus"

    def train(self, name, *options):
        return self.events("train", "--data", self.corpus_path, "--out", self.folder / name, *SMALL,
                           *options)

    def bytes_of(self, name):
        def steps(line):
            record = json.loads(line)
            return [record.get(key) for key in ("event", "step", "loss", "lr", "grad_norm")]
        folder = self.folder / name
        lines = [steps(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        return [(folder / "model.gguf").read_bytes(), (folder / "tokenizer.json").read_bytes(), lines]

    def setUp(self):
        super().setUp()
        self.corpus_path = self.corpus()

    def test_threads_and_resumption_change_no_byte(self):
        options = ["--steps", 8, "--optimizer", "muon", "--gradient-penalty", 0.1, "--z-loss", 1e-3,
                   "--schedule", "wsd", "--log-norms", 2]
        self.train("one", *options, "--threads", 1)
        self.train("two", *options, "--threads", 2)
        self.assertEqual(self.bytes_of("one"), self.bytes_of("two"))
        self.train("again", *options, "--checkpoint-every", 3)
        (self.folder / "again" / "checkpoint" / "step-000008.safetensors").unlink()
        self.events("train", "--resume", self.folder / "again")
        self.assertEqual(self.bytes_of("one"), self.bytes_of("again"))

    def test_inspect_names_the_command(self):
        self.train("one", "--steps", 2)
        [told], _ = self.events("inspect", self.folder / "one")
        self.assertIn("hone train --resume goes on with it; hone train --config", told["can"])

    def test_config_repeats_the_run(self):
        self.train("one", "--steps", 5, "--architecture", "gpt2")
        self.events("train", "--config", self.folder / "one" / "config.yaml", "--out",
                    self.folder / "two")
        self.assertEqual(self.bytes_of("one"), self.bytes_of("two"))

    def test_the_command_to_try_next_works_as_it_is_printed(self):
        """Of a model without a chat template, in a folder whose name a shell would cut."""
        def try_it(stderr):
            command = stderr.split("try it:\n  hone ")[1].split("\n")[0]
            subprocess.run(f"{support.HONE} {command} --max-tokens 2", shell=True, check=True,
                           stdout=subprocess.DEVNULL)
        out = self.folder / "it's new"
        done = self.hone("train", "--data", self.corpus_path, "--out", out, *SMALL, "--steps", 2)
        self.assertEqual(done.returncode, 0, done.stderr)
        try_it(done.stderr)
        for method in ("lora", "dora"):
            data = self.write("data.jsonl", support.TEXTS)
            done = self.hone("finetune", "--model", out / "model.gguf", "--data", data, "--steps", 1,
                             "--method", method, "--eval-split", 2, "--out", out / method)
            self.assertEqual(done.returncode, 0, done.stderr)
            try_it(done.stderr)

    def test_every_form_of_a_corpus(self):
        """The same documents as lines, a list, a table, packed or not, in a folder or not: one plan."""
        texts = [record["text"] for record in support.TEXTS]
        lines = self.write("d.jsonl", support.TEXTS)
        table = "id,text\n" + "".join(f'{i},"{text}"\n' for i, text in enumerate(texts))
        def plan(path):
            events, _ = self.events("train", "--data", path, *SMALL, "--dry-run")
            return [events[0][key] for key in ("examples", "tokens", "targets", "trainable")]
        wanted = plan(lines)
        (self.folder / "more").mkdir()
        for name, content in (("d.json", json.dumps(support.TEXTS, indent=1)), ("d.csv", table),
                              ("d.tsv", table.replace(",", "\t", 1).replace(',"', '\t"')),
                              ("more/d.csv", table)):
            self.assertEqual(plan(self.write(name, content)), wanted, name)
            path = self.write(name + ".gz", gzip.compress(content.encode()))
            done = self.hone("train", "--data", path, *SMALL, "--dry-run", "--json")
            if "was built without" not in done.stderr:
                self.assertEqual(plan(path), wanted, path)
                path.unlink()
        self.assertEqual(plan(self.folder / "more"), wanted)
        text = self.write("d.txt", "\n".join(texts))
        wanted = plan(text)
        packed = self.write("e.txt.gz", gzip.compress(text.read_bytes()))
        done = self.hone("train", "--data", packed, *SMALL, "--dry-run", "--json")
        if "was built without" not in done.stderr:
            self.assertEqual(plan(packed), wanted)

    def test_what_is_not_read_of_a_folder_is_told(self):
        def plan_and_notes(*data):
            events, _ = self.events("train", *data, *SMALL, "--dry-run")
            return events[0]["examples"], [event["text"] for event in events if event["event"] == "note"]
        corpus = ["--data", self.corpus_path]
        examples, [note] = plan_and_notes(*corpus)
        for words in ("corpus: 1 of its files is not read", "ignored.py", ".md", "--data FILE"):
            self.assertIn(words, note)
        self.assertNotIn("hidden", note)
        self.write("corpus/more/ignored.json", "{}")
        [note] = plan_and_notes(*corpus)[1]
        self.assertIn("2 of its files are not read", note)
        self.write("corpus/more/notes.md", "# Notes")
        self.assertEqual(plan_and_notes(*corpus)[0], examples + 1)
        self.assertEqual(plan_and_notes("--data", self.folder / "corpus" / "ignored.py", "--data",
                                        self.folder / "corpus" / "a.jsonl")[1], [])

    def test_no_run_writes_into_its_corpus(self):
        corpus, here = self.corpus_path, os.getcwd()
        for out in (corpus, corpus / "run", corpus / "more" / "deep" / "run", f"{corpus}/../corpus/run"):
            self.refused(2, [out, "lies in the corpus", corpus], "train", "--data", corpus, "--out", out,
                         *SMALL)
        (self.folder / "link").symlink_to(corpus)
        self.refused(2, ["lies in the corpus"], "train", "--data", corpus, "--out",
                     self.folder / "link" / "run", *SMALL)
        os.chdir(corpus)
        self.addCleanup(os.chdir, here)
        for data, out in ((".", "run"), ("..", "run"), ("../corpus", "./run")):
            self.refused(2, [out, "lies in the corpus"], "train", "--data", data, "--out", out, *SMALL)
        os.chdir(here)
        self.assertEqual(sorted(path.name for path in corpus.iterdir()),
                         [".hidden.txt", "a.jsonl", "c.jsonl", "ignored.py", "more"])
        self.train("corpus-run", "--steps", 1)  # a name that begins like the corpus's

    def test_windows_leave_out_no_token(self):
        events, _ = self.train("out", "--dry-run", "--eval-split", 0)
        plan = events[0]
        short, _ = self.train("out", "--dry-run", "--eval-split", 0, "--max-length", 5)
        self.assertEqual(plan["targets"], short[0]["targets"])
        self.assertGreater(short[0]["examples"], plan["examples"])
        self.assertFalse((self.folder / "out").exists())
        self.assertEqual(list(self.folder.glob(".hone*")), [])

    def test_generates(self):
        self.train("out", "--steps", 4)
        events, _ = self.events("generate", "--model", self.folder / "out" / "model.gguf",
                                "--prompt", "the", "--raw", "--max-tokens", 4)
        self.assertTrue(events)

    def test_what_is_refused(self):
        data, out = self.corpus_path, self.folder / "out"

        def refused(status, says, *options):
            self.refused(status, says, "train", "--out", out, *options)
            self.assertFalse(out.exists())

        refused(2, ["--data"])
        refused(2, ["--gradient-penalty", "bf16"], "--data", data, "--gradient-penalty", 1,
                "--precision", "bf16")
        refused(2, ["--z-loss is -1"], "--data", data, "--z-loss", -1)
        refused(2, ["--optimizer", "muon"], "--data", data, "--optimizer", "moon")
        refused(2, ["architecture", "bloom", "gpt2"], "--data", data, "--architecture", "bloom")
        refused(2, ["channels is 384", "7 heads"], "--data", data, "--heads", 7)
        refused(2, ["kv-heads is 9", "6"], "--data", data, "--kv-heads", 9)
        refused(2, ["vocabulary of 100", "257"], "--data", data, "--vocabulary", 100)
        refused(2, ["none.gguf"], "--data", data, "--tokenizer", self.folder / "none.gguf")
        refused(2, ["--max-length", "512"], "--data", data, "--max-length", 1000)
        refused(2, ["nothing"], "--data", self.folder / "nothing")
        (self.folder / "empty").mkdir()
        refused(2, ["empty", "no document"], "--data", self.folder / "empty")
        refused(2, ["bad.jsonl:2", "\"text\""], "--data",
                self.write("bad.jsonl", '{"text": "a b"}\n{"txt": "c"}\n'))
        refused(2, ["bad.jsonl:1", "not JSON"], "--data", self.write("bad.jsonl", "no text\n"))
        refused(2, ["bad.jsonl:1", "empty"], "--data", self.write("bad.jsonl", '{"text": ""}\n'))
        refused(2, ["bad.csv:2", "\"text\""], "--data", self.write("bad.csv", "id,words\n1,a\n"))
        refused(2, ["bad.csv:3", "cells"], "--data", self.write("bad.csv", "text,id\nab,1\ncd\n"))
        refused(2, ["bad.json:2", "not JSON"], "--data", self.write("bad.json", '[{"text": "ab"},\nx]'))
        refused(2, ["bad.txt", "byte 3 is zero"], "--data", self.write("bad.txt", b"abc\0d"))
        refused(2, ["xz"], "--data", self.write("x.txt.xz", b"\xfd7zXZ\0"))
        refused(2, ["bzip2"], "--data", self.write("x.txt.bz2", b"BZh91AY"))
        refused(2, [".parquet"], "--data", self.write("x.parquet", "a"))
        vocabulary = self.write("tokenizer.json", '{"model": {"type": "BPE", "vocab": {}}}')
        refused(2, ["tokenizer.json", "no tokens"], "--data", data, "--tokenizer", vocabulary)


if __name__ == "__main__":
    support.main()
