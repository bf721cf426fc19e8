# SPDX-License-Identifier: Apache-2.0
"""hone train --architecture transformer: the same bytes resumed, on any number of threads and with
layers made again; tables; what it refuses."""
import json

import support

SMALL = ["--architecture", "transformer", "--layers", 2, "--channels", 16, "--heads", 2, "--context",
         24, "--vocabulary", 270, "--batch", 3, "--eval-split", 2, "--dropout", 0.1,
         "--label-smoothing", 0.1, "--schedule", "inverse-sqrt"]
PAIRS = [{"source": text["text"], "target": text["text"][::-1]} for text in support.TEXTS]


class Transformer(support.Case):
    def setUp(self):
        super().setUp()
        self.data = self.write("pairs.jsonl", PAIRS)

    def train(self, name, *options):
        return self.events("train", "--data", self.data, "--out", self.folder / name, *SMALL, *options)

    def bytes_of(self, name):
        def step(line):
            record = json.loads(line)
            return [record.get(key) for key in ("event", "step", "loss", "lr", "grad_norm")]
        folder = self.folder / name
        lines = [step(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        return [(folder / "model.gguf").read_bytes(), (folder / "tokenizer.json").read_bytes(), lines]

    def test_threads_resumption_and_checkpoints_change_no_byte(self):
        self.train("one", "--steps", 7, "--threads", 1)
        self.train("two", "--steps", 7, "--threads", 3, "--checkpoint-layers", "all")
        self.assertEqual(self.bytes_of("one"), self.bytes_of("two"))
        self.train("again", "--steps", 7, "--checkpoint-every", 3)
        (self.folder / "again" / "checkpoint" / "step-000007.safetensors").unlink()
        self.events("train", "--resume", self.folder / "again")
        self.assertEqual(self.bytes_of("one"), self.bytes_of("again"))
        self.events("train", "--config", self.folder / "one" / "config.yaml", "--out",
                    self.folder / "configured")
        self.assertEqual(self.bytes_of("one"), self.bytes_of("configured"))

    def test_micro_batches(self):
        def losses(name, *options):
            events, _ = self.train(name, "--steps", 4, *options)
            return [event["loss"] for event in events if event["event"] == "step"]
        for one, cut in zip(losses("one"), losses("cut", "--accumulate", 3)):
            self.assertAlmostEqual(one, cut, delta=1e-5)

    def test_a_table_is_the_same_records(self):
        self.train("lines", "--steps", 2)
        rows = "".join(f"{pair['source']}\t{pair['target']}\n" for pair in PAIRS)
        self.data = self.write("pairs.tsv", "source\ttarget\n" + rows)
        self.train("table", "--steps", 2)
        self.assertEqual(self.bytes_of("lines"), self.bytes_of("table"))

    def test_evaluation_is_the_held_out_loss(self):
        events, _ = self.train("out", "--steps", 3, "--eval-data", self.data, "--type", "f32")
        loss = [event for event in events if event["event"] == "eval"][-1]["loss"]
        lines, _ = self.events("eval", "--model", self.folder / "out" / "model.gguf", "--data",
                               self.data)
        self.assertAlmostEqual(lines[-1]["loss"], loss, places=5)

    def test_plan(self):
        events, _ = self.train("out", "--dry-run", "--eval-split", 0)
        self.assertEqual(events[0]["examples"], len(PAIRS))
        short, _ = self.train("out", "--dry-run", "--eval-split", 0, "--max-length", 5)
        self.assertLess(short[0]["targets"], events[0]["targets"])
        self.assertGreater(short[0]["cut"], 0)

    def test_what_is_refused(self):
        out = self.folder / "out"

        def refused(status, says, *options, command="train"):
            self.refused(status, says, command, "--out", out, *options)
            self.assertFalse(out.exists())

        def bad(text, says, name="bad.jsonl"):
            refused(2, says, "--data", self.write(name, text), *SMALL)

        good = json.dumps(PAIRS[0]) + "\n"
        bad(good + '{"source": "a"}\n', ["bad.jsonl:2", "'source'", "target"])
        bad(good + '{"text": "a"}\n', ["bad.jsonl:2", "'text'", "target"])
        bad(good + '{"source": "a", "target": 3}\n', ["bad.jsonl:2", "'target'", "number"])
        bad(good + '{"source": "", "target": "b"}\n', ["bad.jsonl:2", "source", "empty"])
        bad(good + '{"source": "a", "target": ""}\n', ["bad.jsonl:2", "target", "empty"])
        bad("source\ttarget\na\tb\tc\n", ["bad.tsv:2", "3 cells"], "bad.tsv")
        bad("a text\n", ["bad.txt", "source and target"], "bad.txt")
        bad("", ["bad.jsonl"])
        more = ["--data", self.data, *SMALL]
        refused(2, ["norm", "middle", "pre"], *more, "--norm", "middle")
        refused(2, ["encoder-layers"], *more, "--encoder-layers", 5000)
        refused(2, ["--label-smoothing is 1"], *more, "--label-smoothing", 1)
        refused(2, ["--dropout is 1"], *more, "--dropout", 1)
        refused(2, ["--sample"], *more, "--sample", "x")
        texts = self.write("texts.jsonl", support.TEXTS)
        refused(2, ["llama", "drops nothing"], "--data", texts, "--dropout", 0.1)
        refused(2, ["norm", "llama"], "--data", texts, "--norm", "pre")
        self.train("model", "--steps", 1)
        model = self.folder / "model" / "model.gguf"
        refused(2, ["--method full"], "--model", model, "--data", self.data, command="finetune")
        refused(2, ["pairs"], "--model", model, "--data", self.data, "--method", "full", "--loss",
                "orpo", command="finetune")
        self.refused(2, ["encoder-decoder"], "generate", "--model", model, "--raw", "--prompt", "a")
        self.refused(2, ["transformer"], "convert", model, "--to", "hf", "--out", out)


if __name__ == "__main__":
    support.main()
