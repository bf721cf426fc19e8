# SPDX-License-Identifier: Apache-2.0
"""What a run makes of its own numbers: what is not finite is named, spikes are skipped, the best is kept."""
import json
import struct

from support import CHAT, TEXTS, TINY, Case, Gguf, main

WORK, USAGE, F32 = 1, 2, 0


class Numbers(Case):
    def setUp(self):
        super().setUp()
        self.data = self.write("data.jsonl", CHAT)
        self.out = self.folder / "run"

    def finetune(self, *options, model=TINY):
        return ["finetune", "--model", model, "--data", self.data, "--out", self.out, "--json", *options]

    def run_to(self, *options, **place):
        events, _ = self.events(*self.finetune(*options, **place))
        return events

    def lines(self, kind):
        lines = map(json.loads, (self.out / "metrics.jsonl").read_text().splitlines())
        return [line for line in lines if line["event"] == kind]


class NotFinite(Numbers):
    def model(self, name, values):
        """The tiny model, with these values at the beginning of rows of a tensor: {(row, columns): value}."""
        file = Gguf()
        self.assertEqual(struct.unpack_from("<i", file.bytes, file.types[name])[0], F32)
        begin = (file.header + 31) // 32 * 32
        begin += struct.unpack_from("<Q", file.bytes, file.offsets[name])[0]
        for at, value in values.items():
            file.put(begin + 4 * at, "<f", value)
        return self.write("model.gguf", bytes(file.bytes))

    def test_in_the_weights(self):
        """Before the first step, by the loss of the held-out examples or of the step itself."""
        for value, says in ((float("nan"), "nan"), (float("-inf"), "inf")):
            model = self.model("blk.1.ffn_norm.weight", {5: value})
            self.refused(WORK, ["held-out loss after step 0", "blk.1.ffn_norm.weight of", model,
                                says, "in row 0"], *self.finetune("--eval-split", "2", model=model))
            self.assertFalse((self.out / "checkpoint").exists())
            line = self.refused(WORK, ["step 1: ", "blk.1.ffn_norm.weight of", "as they were before"],
                                *self.finetune("--eval-split", "0", model=model))
            self.assertNotIn("layer", line)

    def test_in_a_layer(self):
        """Made of weights that are all finite."""
        for name, layer in (("blk.0.attn_norm.weight", 0), ("blk.1.ffn_norm.weight", 1)):
            model = self.model(name, {at: 3e38 for at in range(8)})
            for options in ((), ("--checkpoint-layers", "all"), ("--accumulate", 4)):
                self.refused(WORK, ["step 1: ", f"the output of layer {layer} (blk.{layer}) is not"],
                             *self.finetune("--eval-split", "0", *options, model=model))
            self.refused(WORK, [f"the output of layer {layer} "], *self.finetune(model=model))

    def test_in_an_adapter(self):
        self.run_to("--steps", 1, "--eval-split", "0")
        file = self.out / "adapter_model.safetensors"
        held = bytearray(file.read_bytes())
        held[-4:] = struct.pack("<f", float("nan"))
        file.write_bytes(held)
        adapter = self.out.rename(self.folder / "adapter")
        self.refused(USAGE, [adapter, "lora_B.weight: value 127 is nan"],
                     *self.finetune("--eval-split", "0", "--adapter", adapter))

    def test_while_it_learns(self):
        """The checkpoint of the last step that was fine is what is left, and goes on to the same failure."""
        options = self.finetune("--method", "full", "--lr", "100", "--steps", 60, "--optimizer", "sgd",
                                "--clip", "0", "--eval-split", "0", "--checkpoint-every", 1)
        done = self.hone(*options)
        self.assertEqual(done.returncode, WORK, done.stderr)
        self.assertRegex(done.stderr, r"^hone finetune: step \d+: the loss is [^;]*; [^;]+; the param")
        last = len(self.lines("step"))
        self.assertIn(f"step {last + 1}: ", done.stderr)
        if last:
            again = self.hone("finetune", "--resume", self.out)
            self.assertEqual((again.returncode, again.stderr.splitlines()[-1]),
                             (WORK, done.stderr.splitlines()[-1]))


class Spikes(Numbers):
    def setUp(self):
        super().setUp()
        records = [{"text": TEXTS[i % 2]["text"]} for i in range(80)]
        records[60] = records[71] = {"text": "qZ#7 }{ ~~ %% XJ 0x9f || ^^ QQ"}
        self.data = self.write("data.jsonl", [{"text": record["text"]} for record in records])
        self.options = ["--batch", 1, "--shuffle", "off", "--eval-split", "0", "--lr", "0.01",
                        "--schedule", "constant"]

    def skipped(self):
        return [line["step"] for line in self.lines("step") if line.get("skipped")]

    def test_what_stands_out_is_skipped_and_counted(self):
        events = self.run_to(*self.options, "--skip-spikes", "3", "--checkpoint-every", 5)
        self.assertEqual(self.skipped(), [61, 72])
        self.assertEqual(events[-1]["skipped"], 2)
        [note] = [event["text"] for event in events if event["event"] == "note"]
        self.assertIn("2 steps stood out", note)
        whole = (self.out / "adapter.gguf").read_bytes()
        (self.out / "checkpoint" / "step-000080.safetensors").unlink()
        self.events("finetune", "--resume", self.out)
        self.assertEqual((self.out / "adapter.gguf").read_bytes(), whole)
        self.out = self.folder / "between"  # the two
        self.run_to(*self.options, "--skip-spikes", "3", "--checkpoint-every", 65)
        (self.out / "checkpoint" / "step-000080.safetensors").unlink()
        self.events("finetune", "--resume", self.out)
        self.assertEqual((self.out / "adapter.gguf").read_bytes(), whole)
        self.assertEqual(self.skipped(), [61, 72])

    def test_nothing_is_skipped_unless_asked(self):
        events = self.run_to(*self.options)
        self.assertEqual((self.skipped(), events[-1]["skipped"]), ([], 0))
        self.refused(USAGE, ["--skip-spikes"], *self.finetune("--skip-spikes", "-1"))

    def test_a_new_level_is_no_spike(self):
        records = [{"text": TEXTS[0]["text"]}] * 40 + [{"text": "qZ#7 }{ ~~ %% XJ 0x9f || ^^"}] * 30
        self.data = self.write("data.jsonl", records)
        self.run_to(*self.options, "--skip-spikes", "3")
        self.assertEqual(self.skipped(), [41, 42, 43, 44, 45])


class Best(Numbers):
    """Held-out examples that training makes worse for a while: the lowest loss is early, where the
    levels of kernels still agree about it (after step 20 they are on ways of their own)."""

    def setUp(self):
        super().setUp()
        held_out = self.write("held.jsonl", [{"text": "no no no no yes yes (((((("}])
        self.data = self.write("data.jsonl", TEXTS)
        self.options = ["--eval-data", held_out, "--eval-every", 2, "--steps", 18, "--lr", "0.03",
                        "--schedule", "constant", "--checkpoint-every", 3]

    def loss_of(self, folder):
        [result], _ = self.events("eval", "--model", TINY, "--data", self.folder / "held.jsonl",
                                  "--adapter", folder)
        return result["loss"]

    def best(self):
        evals = [line for line in self.lines("eval") if line["step"] > 0]
        return min(evals, key=lambda line: line["loss"])

    def test_the_best_is_kept(self):
        events = self.run_to(*self.options, "--keep", "best")
        best, done = self.best(), events[-1]
        self.assertLess(best["step"], 18)
        self.assertEqual(done["best_step"], best["step"])
        self.assertAlmostEqual(done["loss_after"], best["loss"], places=6)
        self.assertAlmostEqual(self.loss_of(self.out), best["loss"], places=4)
        self.assertIn(f"after step {best['step']}", [event["text"] for event in events
                                                     if event["event"] == "note"][-1])
        self.assertEqual([path.name for path in (self.out / "checkpoint").glob("best*")],
                         [f"best-{best['step']:06}.safetensors"])
        last = self.folder / "last"
        self.events("finetune", "--model", TINY, "--data", self.data, *self.options, "--out", last)
        self.assertGreater(self.loss_of(last), best["loss"] + 0.01)
        self.assertEqual(list((last / "checkpoint").glob("best*")), [])

    def test_patience(self):
        events = self.run_to(*self.options, "--patience", 3)
        evals = [line for line in self.lines("eval") if line["step"] > 0]
        self.assertEqual(len(evals) - 1 - evals.index(self.best()), 3)
        self.assertEqual((events[-1]["steps"], events[-1]["interrupted"]), (evals[-1]["step"], False))
        self.assertAlmostEqual(events[-1]["loss_after"], evals[-1]["loss"], places=6)
        self.assertIn("--patience", [event["text"] for event in events if event["event"] == "note"][0])
        timed = ("run.json", "report.html")  # they say when and how long

        def held():
            return {path: path.read_bytes() for path in self.out.rglob("*")
                    if path.is_file() and path.name not in timed}

        before = held()
        again, _ = self.events("finetune", "--resume", self.out)  # it is at its end
        self.assertEqual([event for event in again if event["event"] == "step"], [])
        self.assertEqual(held(), before)
        self.events("finetune", "--resume", self.out, "--resume-changed", "--patience", 4)
        self.assertGreater(len(self.lines("eval")), len(evals) + 1)

    def test_both_need_held_out_examples(self):
        for option, value in (("--keep", "best"), ("--patience", "2")):
            self.refused(USAGE, [option, "--eval-data"], *self.finetune("--eval-split", "0", option, value))
        self.refused(USAGE, ["keep", "first", "last or best"], *self.finetune("--keep", "first"))


if __name__ == "__main__":
    main()
