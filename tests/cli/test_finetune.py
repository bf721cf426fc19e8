# SPDX-License-Identifier: Apache-2.0
"""`hone finetune` on a tiny model: its files, its events, and its promises about repeating a run."""
import json
import os
import shlex
import shutil
import signal
import subprocess

from support import CHAT, HONE, TEXTS, TINY, Case, main

WORK, USAGE = 1, 2

ADAPTER = ["adapter_model.safetensors", "adapter_config.json", "adapter.gguf"]
INTERRUPTED = 130
# More events than a pipe holds: a run that nobody reads stands still, so a signal finds it there.
LONG = 700


class Finetune(Case):
    def setUp(self):
        super().setUp()
        self.data = self.write("data.jsonl", CHAT)
        self.command = ["finetune", "--model", TINY, "--data", self.data, "--lr", "0.01"]

    def run_to(self, name, *options):
        out = self.folder / name
        events, said = self.events(*self.command, "--out", out, *options)
        return out, events, said

    def losses(self, out):
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        return [line["loss"] for line in lines if line["event"] == "step"]

    def same_adapter(self, a, b):
        for name in ("adapter_model.safetensors", "adapter.gguf"):
            self.assertEqual((a / name).read_bytes(), (b / name).read_bytes(), name)

    # ---- files and events ------------------------------------------------------------------------

    def test_files_and_events(self):
        out, events, _ = self.run_to("run", "--steps", 25, "--eval-split", "2")
        self.assertEqual([event["event"] for event in events[:2]], ["plan", "eval"])
        steps = [event for event in events if event["event"] == "step"]
        evals = [event for event in events if event["event"] == "eval"]
        plan, done = events[0], events[-1]
        self.assertEqual([event["step"] for event in steps], list(range(1, 26)))
        self.assertEqual(evals[0]["step"], 0)
        self.assertEqual(evals[-1]["step"], 25)
        self.assertLess(steps[-1]["loss"], steps[0]["loss"])
        self.assertEqual(plan["examples"], len(CHAT) - 2)
        self.assertEqual(plan["eval_examples"], 2)
        for key in ("trainable", "tokens", "tokens_computed", "steps", "memory_bytes", "minutes"):
            self.assertIn(key, plan)
        for key in ("loss", "lr", "grad_norm", "tokens", "tokens_computed", "tokens_per_s",
                    "seconds", "rss_bytes"):
            self.assertIn(key, steps[0])
        for key in ("loss", "perplexity", "tokens"):
            self.assertIn(key, evals[0])
        self.assertEqual(done["event"], "done")
        for name in ADAPTER + ["metrics.jsonl", "config.yaml"]:
            self.assertIn(str(out / name), done["files"])
        for name in done["files"]:
            self.assertTrue(self.folder.joinpath(name).is_file(), name)
        self.assertTrue(any((out / "checkpoint").iterdir()))
        self.assertEqual(self.losses(out), [event["loss"] for event in steps])
        self.assert_nothing_half_written()

    def test_what_a_person_sees(self):
        done = self.hone(*self.command, "--out", self.folder / "run", "--steps", 3)
        self.assertEqual((done.returncode, done.stdout), (0, ""))
        for words in ("model ", "data ", "memory", "first example", "\u2039", "step 3/3", "written",
                      "adapter.gguf", "hone chat"):
            self.assertIn(words, done.stderr)

    def test_the_command_to_try_is_that_for_what_was_trained(self):
        """And it runs."""
        pairs = [{"prompt": "the 'end'", "completion": " of it"}] * 4
        for name, records, wanted in (("chat", CHAT, "chat"), ("text", TEXTS, "generate"),
                                      ("pairs", pairs, "generate")):
            out = self.folder / f"{name} run"
            done = self.hone("finetune", "--model", TINY, "--data", self.write(name, records),
                             "--out", out, "--steps", "1", "--eval-split", "0")
            words = shlex.split(done.stderr.split("try it:\n  hone ")[1])
            self.assertEqual(words[0], wanted)
            self.assertEqual(words[words.index("--adapter") + 1], str(out))
            if name == "pairs":
                self.assertEqual(words[words.index("--prompt") + 1], "the 'end'")
            done = self.hone(*words, "--max-tokens", "3", "--json")
            self.assertEqual(done.returncode, 0, done.stderr)

    def test_dry_run(self):
        out, events, _ = self.run_to("run", "--dry-run")
        self.assertEqual([event["event"] for event in events], ["plan"])
        self.assertFalse(out.exists())

    def test_adapter_is_used(self):
        out, _, _ = self.run_to("run", "--steps", 60, "--eval-split", "0")
        evaluate = ["eval", "--model", TINY, "--data", self.data]
        [base], _ = self.events(*evaluate)
        [tuned], _ = self.events(*evaluate, "--adapter", out)
        [gguf], _ = self.events(*evaluate, "--adapter", out / "adapter.gguf")
        [nothing], _ = self.events(*evaluate, "--adapter", f"{out}:0")
        self.assertLess(tuned["loss"], 0.7 * base["loss"])
        for key in ("loss", "perplexity", "accuracy"):
            self.assertEqual(gguf[key], tuned[key])
        self.assertEqual(nothing["loss"], base["loss"])
        self.events("merge", "--model", TINY, "--adapter", out, "--out", self.folder / "m.gguf",
                    "--type", "f32")
        [merged], _ = self.events("eval", "--model", self.folder / "m.gguf", "--data", self.data)
        self.assertAlmostEqual(merged["loss"], tuned["loss"], places=4)

    def test_types_of_a_merged_file(self):
        """Of a model whose rows are no multiple of any block."""
        out, _, _ = self.run_to("run", "--steps", 2, "--eval-split", "0")
        merge = ["merge", "--model", TINY, "--adapter", out, "--out"]
        [told], messages = self.events(*merge, self.folder / "auto.gguf")
        self.assertEqual((told["type"], told["fallbacks"], messages), ("f32", 0, ""))
        self.assertLess(0, told["copied"])
        self.assertLessEqual(told["merged"] + told["copied"], told["tensors"])
        [told], _ = self.events(*merge, self.folder / "q6.gguf", "--type", "Q6_K")
        self.assertEqual(told["type"], "q6_k")
        self.assertIn("F16", told["types"])
        text = self.hone(*merge, self.folder / "q6.gguf", "--type", "q6_k").stdout
        self.assertIn(f"{told['fallbacks']} tensors have rows that are no whole blocks", text)

    def test_convert(self):
        out, _, _ = self.run_to("run", "--steps", 2, "--eval-split", "0")
        copy, half = self.folder / "copy.gguf", self.folder / "half.gguf"
        [told], _ = self.events("convert", TINY, "--to", "gguf", "--out", copy)
        self.assertEqual((told["type"], told["merged"]), ("same", 0))
        self.assertEqual(told["copied"], told["tensors"])
        self.assertEqual(copy.read_bytes(), TINY.read_bytes())
        [told], _ = self.events("convert", TINY, "--to", "gguf", "--out", half, "--type", "f16")
        self.assertEqual(told["type"], "f16")
        self.assertLess(half.stat().st_size, copy.stat().st_size)
        for source in (out, out / "adapter.gguf"):
            again, folder = self.folder / "again.gguf", self.folder / f"peft-{source.name}"
            self.events("convert", source, "--model", TINY, "--to", "gguf", "--out", again)
            self.assertEqual(again.read_bytes(), (out / "adapter.gguf").read_bytes())
            self.events("convert", source, "--model", TINY, "--to", "peft", "--out", folder)
            for name in ("adapter_model.safetensors", "adapter_config.json"):
                self.assertEqual((folder / name).read_bytes(), (out / name).read_bytes())

    def test_convert_several(self):
        """Adapters with weights become one; alone and unweighted it stays what it is."""
        out, _, _ = self.run_to("run", "--steps", 2, "--eval-split", "0")
        again, both = self.folder / "again.gguf", self.folder / "both"
        self.events("convert", "--model", TINY, "--adapter", out, "--to", "gguf", "--out", again)
        self.assertEqual(again.read_bytes(), (out / "adapter.gguf").read_bytes())
        several = ["--adapter", f"{out}:0.5", "--adapter", f"{out}:-0.25"]
        self.events("convert", "--model", TINY, *several, "--to", "peft", "--out", both)
        config = json.loads((both / "adapter_config.json").read_text())
        rank = json.loads((out / "adapter_config.json").read_text())["r"]
        self.assertEqual((config["r"], config["lora_alpha"]), (2 * rank, 2 * rank))
        evaluate = ["eval", "--data", self.data, "--model", TINY, "--adapter"]
        [wanted], _ = self.events(*evaluate, f"{out}:0.25")
        [got], _ = self.events(*evaluate, both)
        self.assertAlmostEqual(got["loss"], wanted["loss"], places=5)

    def test_folders(self):
        """A GGUF file as a Hugging Face folder, with and without an adapter, and back."""
        out, _, _ = self.run_to("run", "--steps", 10, "--eval-split", "0")
        folder, merged = self.folder / "hf", self.folder / "merged"
        [told], _ = self.events("convert", TINY, "--to", "hf", "--out", folder)
        self.assertEqual((told["type"], told["merged"]), ("f32", 0))
        self.assertEqual(told["copied"], told["tensors"])
        evaluate = ["eval", "--data", self.data, "--model"]
        [base], _ = self.events(*evaluate, TINY)
        [same], _ = self.events(*evaluate, folder)
        self.assertAlmostEqual(same["loss"], base["loss"], places=5)
        [told, losses], _ = self.events("merge", "--model", TINY, "--adapter", out, "--to", "hf",
                                        "--out", merged, "--eval-data", self.data)
        self.assertEqual(told["type"], "f32")
        self.assertLess(0, told["merged"])
        self.assertAlmostEqual(losses["loss_merged"], losses["loss_adapter"], places=4)
        self.assertLess(losses["loss_merged"], losses["loss_base"])
        [told], _ = self.events("convert", folder, "--to", "hf", "--out", self.folder / "half",
                                "--type", "F16")
        self.assertEqual(told["type"], "f16")
        config = json.loads((self.folder / "half" / "config.json").read_text())
        self.assertEqual(config.pop("torch_dtype"), "float16")
        wanted = json.loads((folder / "config.json").read_text())
        self.assertEqual(wanted.pop("torch_dtype"), "float32")
        self.assertEqual(config, wanted)

    def test_bad_conversions(self):
        out, _, _ = self.run_to("run", "--steps", 1, "--eval-split", "0")
        to = ["--to", "gguf", "--out", self.folder / "x.gguf"]
        self.refused(USAGE, ["which"], "convert", *to)
        self.refused(USAGE, ["--to"], "convert", TINY, "--out", self.folder / "x.gguf")
        hf = ["--to", "hf", "--out", self.folder / "x"]
        self.refused(USAGE, ["f16 or bf16"], "convert", TINY, *hf, "--type", "q4_0")
        self.refused(USAGE, ["run", "holds adapter"], "convert", TINY, "--to", "hf", "--out", out)
        self.refused(USAGE, ["is a file"], "convert", TINY, "--to", "hf", "--out", TINY)
        self.refused(USAGE, ["empty"], "convert", TINY, "--to", "hf", "--out", "")
        self.refused(USAGE, ["--to hf"], "convert", out, "--model", TINY, *hf)
        self.refused(USAGE, ["adapter", "--model"], "convert", out, *hf)
        self.refused(USAGE, ["\"x\"", "gguf or hf"], "merge", "--model", TINY, "--adapter", out,
                     "--out", self.folder / "x", "--to", "x")
        self.refused(USAGE, ["gguf, hf or peft"], "convert", TINY, "--out", self.folder / "x", "--to", "x")
        self.refused(USAGE, ["adapter", "--model"], "convert", out, *to)
        self.refused(USAGE, ["adapter", "--model"], "convert", out / "adapter.gguf", *to)
        self.refused(USAGE, ["--model"], "convert", out, "--to", "peft", "--out", self.folder / "p")
        self.refused(USAGE, ["--type"], "convert", out, "--model", TINY, "--type", "f16", *to)
        self.refused(USAGE, ["q9"], "convert", TINY, "--type", "q9", *to)
        self.refused(USAGE, [TINY], "convert", TINY, "--model", TINY, *to)
        self.refused(USAGE, ["another"], "convert", TINY, "--to", "gguf", "--out", TINY)
        self.refused(USAGE, ["another"], "convert", out, "--model", TINY, "--to", "peft", "--out", out)
        several = ["--adapter", out, "--adapter", out, "--to", "peft"]
        self.refused(USAGE, ["another"], "convert", "--model", TINY, *several, "--out", out)
        self.refused(USAGE, ["--model"], "convert", *several, "--out", self.folder / "p")
        self.refused(USAGE, ["not both"], "convert", out, "--model", TINY, *several, "--out",
                     self.folder / "p")
        self.refused(WORK, ["no/x.gguf"], "convert", TINY, "--to", "gguf", "--out",
                     self.folder / "no" / "x.gguf")
        self.assertFalse((self.folder / "x.gguf").exists())

    def test_full(self):
        out, events, _ = self.run_to("run", "--method", "full", "--steps", 40)
        self.assertIn(str(out / "model.gguf"), events[-1]["files"])
        evaluate = ["eval", "--data", self.data, "--model"]
        [base], _ = self.events(*evaluate, TINY)
        [tuned], _ = self.events(*evaluate, out / "model.gguf")
        self.assertLess(tuned["loss"], 0.7 * base["loss"])

    def test_what_has_no_effect_is_said(self):
        def said(*options, command="finetune"):
            done = self.hone(command, "--model", TINY, "--data", self.data, *options)
            self.assertEqual(done.returncode, 0, done.stderr)
            return done.stderr

        out, _, _ = self.run_to("run", "--steps", 1, "--rank", 4, "--alpha", 6)
        again = ["--out", self.folder / "again", "--steps", 1]
        self.assertIn("--rank has no effect with --method full",
                      said(*again, "--method", "full", "--rank", 4))
        self.assertIn("--type has no effect", said(*again, "--type", "f32"))
        self.assertIn("--eval-split has no effect beside --eval-data",
                      said(*again, "--eval-data", self.data, "--eval-split", "0.5"))
        text = said(*again, "--adapter", out, "--targets", "q", "--rank", 4, "--alpha", 6)
        self.assertIn("--targets has no effect beside --adapter", text)
        self.assertNotIn("--rank", text)
        self.assertIn("--logprobs has no effect without --json", said("--logprobs", command="eval"))
        # A file of options that holds them is no news to anybody.
        text = said("--config", self.folder / "again" / "config.yaml", *again)
        self.assertNotIn("no effect", text)

    def test_a_run_that_is_replaced_is_named(self):
        out, events, _ = self.run_to("run", "--steps", 1)
        self.assertNotIn("note", [event["event"] for event in events])
        _, events, said = self.run_to("run", "--steps", 1)
        [note] = [event for event in events if event["event"] == "note"]
        self.assertIn(str(out), note["text"])
        done = self.hone(*self.command, "--out", out, "--steps", 1)
        self.assertIn(f"note: {out} holds a run already", done.stderr)
        _, events, _ = self.run_to("run", "--steps", 1, "--dry-run")
        self.assertEqual([event["text"] for event in events if event["event"] == "note"],
                         [f"{out} holds a run already, which this one would replace"])
        _, events, _ = self.run_to("run", "--steps", 1, "--resume", out)
        self.assertNotIn("note", [event["event"] for event in events])

    def test_answers_that_do_not_end(self):
        words = self.write("words.jinja", "{% for m in messages %}{{ m.content }} {% endfor %}")
        self.refused(2, ["no end token", "--no-eos", "one? two"], *self.command, "--out",
                     self.folder / "run", "--template", words)
        _, events, _ = self.run_to("run", "--steps", 1, "--eval-split", "0", "--template", words,
                                   "--no-eos")
        self.assertEqual(events[0]["unended"], len(CHAT))
        _, events, _ = self.run_to("run", "--steps", 1, "--eval-split", "0")
        self.assertEqual(events[0]["unended"], 0)
        done = self.hone(*self.command, "--out", self.folder / "run", "--steps", 1, "--template",
                         words, "--no-eos")
        self.assertIn(f"{len(CHAT)} answers have no end token", done.stderr)

    def test_text_ends_with_eos_unless_told(self):
        texts = self.write("texts.jsonl", TEXTS)
        show = ["template", "--model", TINY, "--data", texts]
        [ended, *_], _ = self.events(*show)
        [open_end, *_], _ = self.events(*show, "--no-eos")
        self.assertEqual(ended["tokens"][:-1], open_end["tokens"])
        self.assertEqual(ended["mask"], [0] + [1] * (len(ended["tokens"]) - 1))

    # ---- bad examples ----------------------------------------------------------------------------

    def test_skipped_examples_are_counted(self):
        bad = self.write("bad.jsonl", CHAT[:3] + ["not an object", {"messages": []}] + CHAT[3:])
        command = ["finetune", "--model", TINY, "--data", bad, "--steps", 2, "--eval-split", "0",
                   "--on-bad-example", "skip"]
        events, _ = self.events(*command, "--out", self.folder / "run")
        self.assertEqual((events[0]["skipped"], events[0]["examples"]), (2, len(CHAT)))
        done = self.hone(*command, "--out", self.folder / "again")
        self.assertIn(f"2 bad examples skipped, the first: {bad}:4", done.stderr)
        done = self.hone("eval", "--model", TINY, "--data", bad, "--on-bad-example", "skip")
        self.assertEqual(done.returncode, 0)
        self.assertIn("2 bad examples skipped", done.stderr)

    def test_cut_examples_are_counted(self):
        _, events, _ = self.run_to("run", "--steps", 1, "--max-length", "28")
        self.assertGreater(events[0]["cut"], 0)

    # ---- the same again --------------------------------------------------------------------------

    def test_config_repeats_the_run(self):
        first, _, _ = self.run_to("first", "--steps", 30, "--rank", "3", "--alpha", "5",
                                  "--schedule", "linear", "--warmup", "0.2", "--weight-decay",
                                  "0.01", "--seed", "7", "--targets", "q,v,down", "--batch", "3",
                                  "--accumulate", "2")
        self.events("finetune", "--config", first / "config.yaml", "--out", self.folder / "second")
        self.same_adapter(first, self.folder / "second")
        self.assertEqual((first / "config.yaml").read_text(),
                         (self.folder / "second" / "config.yaml").read_text())

    def test_any_seed_and_either_batch_are_repeated(self):
        first, _, _ = self.run_to("first", "--steps", 3, "--seed", "-1", "--batch", "3")
        config = ["finetune", "--config", first / "config.yaml", "--out"]
        self.events(*config, self.folder / "second")
        self.same_adapter(first, self.folder / "second")
        events, _ = self.events(*config, self.folder / "third", "--batch-tokens", "100")
        self.assertEqual((events[0]["batch"], events[0]["batch_tokens"]), (0, 100))
        events, _ = self.events(*config, self.folder / "fourth", "--epochs", "3")
        self.assertGreater(events[0]["steps"], 3)

    def test_rslora_goes_on_by_its_own_options(self):
        options = ["--rank", 3, "--alpha", 10, "--rslora", "--steps", 2]
        first, _, _ = self.run_to("first", *options)
        self.run_to("second", *options, "--adapter", first)
        self.events("finetune", "--config", first / "config.yaml", "--adapter", first, "--out",
                    self.folder / "third")

    def test_the_other_methods_files_go(self):
        out, _, _ = self.run_to("run", "--steps", 1)
        self.run_to("run", "--steps", 1, "--method", "full")
        self.assertEqual([name for name in ADAPTER if (out / name).exists()], [])
        self.run_to("run", "--steps", 1)
        self.assertFalse((out / "model.gguf").exists())

    def test_command_line_wins_over_config(self):
        first, _, _ = self.run_to("first", "--steps", 3)
        events, _ = self.events("finetune", "--config", first / "config.yaml", "--steps", 5,
                                "--out", self.folder / "second")
        self.assertEqual(events[0]["steps"], 5)

    def test_threads_do_not_matter(self):
        for method, name in (("lora", "adapter.gguf"), ("full", "model.gguf")):
            files = [self.run_to(f"{method}{threads}", "--method", method, "--steps", 20,
                                 "--threads", threads)[0] / name for threads in (1, 2, 5)]
            for file in files[1:]:
                self.assertEqual(file.read_bytes(), files[0].read_bytes(), file)

    def test_seed_matters(self):
        a, b = (self.run_to(f"seed{seed}", "--steps", 5, "--seed", seed)[0] for seed in (1, 2))
        self.assertNotEqual((a / "adapter.gguf").read_bytes(), (b / "adapter.gguf").read_bytes())

    def test_micro_batches_change_memory_only(self):
        _, whole, _ = self.run_to("whole", "--steps", 10, "--batch", 6, "--eval-split", "0")
        _, parts, _ = self.run_to("parts", "--steps", 10, "--batch", 6, "--eval-split", "0",
                                  "--accumulate", 3)
        for a, b in zip(whole, parts):
            if a["event"] == "step":
                self.assertAlmostEqual(a["loss"], b["loss"], delta=1e-5 * a["loss"])

    # ---- dropout ---------------------------------------------------------------------------------

    def test_dropout_depends_on_nothing_but_seed_and_step(self):
        """Threads, micro-batches, layers made again, a resumed run: all drop the same."""
        options = ["--steps", 12, "--batch", 6, "--eval-split", "0", "--dropout", "0.2"]
        whole, events, _ = self.run_to("whole", *options, "--checkpoint-every", 4)
        self.assertIn('"lora_dropout": 0.2,', (whole / "adapter_config.json").read_text())
        self.assertIn("dropout: 0.2", (whole / "config.yaml").read_text())
        adapter, losses = (whole / "adapter.gguf").read_bytes(), self.losses(whole)
        self.assertLess(losses[-1], losses[0])
        for name, same in (("threads", ["--threads", 3]), ("layers", ["--checkpoint-layers", "all"])):
            out, _, _ = self.run_to(name, *options, *same)
            self.assertEqual((out / "adapter.gguf").read_bytes(), adapter, name)
        parts, _, _ = self.run_to("parts", *options, "--accumulate", 6)
        for step, (a, b) in enumerate(zip(losses, self.losses(parts), strict=True)):
            self.assertAlmostEqual(a, b, delta=1e-5 * a, msg=step)
        (whole / "checkpoint" / "step-000012.safetensors").unlink()
        self.events("finetune", "--resume", whole)
        self.assertEqual((whole / "adapter.gguf").read_bytes(), adapter)
        for name, other in (("seed", ["--seed", 1]), ("none", ["--dropout", "0"]),
                            ("more", ["--dropout", "0.3"])):
            out, _, _ = self.run_to(name, *options, *other)
            self.assertNotEqual((out / "adapter.gguf").read_bytes(), adapter, name)

    def test_nothing_is_dropped_in_evaluation(self):
        held_out = ["--eval-data", self.data]
        out, events, _ = self.run_to("run", "--steps", 6, "--dropout", "0.5", *held_out)
        _, again, _ = self.run_to("again", "--steps", 1, "--adapter", out, "--dropout", "0.9",
                                  *held_out)
        self.assertAlmostEqual(again[-1]["loss_before"], events[-1]["loss_after"], delta=1e-6)

    def test_dropout_out_of_range(self):
        for wrong in ("1", "-0.1", "nan", "0.001"):
            self.refused(2, ["--dropout"], *self.command, "--out", self.folder / "run", "--dropout",
                         wrong)

    # ---- precision -------------------------------------------------------------------------------

    def test_bf16_products_are_near_and_not_the_same(self):
        """On the generic level, which computes them in f32 on any processor.

        Only the head is wide enough here, and only with some 50 rows."""
        options = ["--steps", 10, "--eval-split", "0", "--isa", "generic", "--batch", 8,
                   "--data", self.write("texts.jsonl", TEXTS)]
        wide, _, _ = self.run_to("f32", *options)
        narrow, _, _ = self.run_to("bf16", *options, "--precision", "bf16")
        self.assertIn('precision: "bf16"\n', (narrow / "config.yaml").read_text())
        a, b = self.losses(wide), self.losses(narrow)
        self.assertNotEqual(a, b)
        for first, second in zip(a, b, strict=True):
            self.assertAlmostEqual(first, second, delta=0.03 * first)
        threads, _, _ = self.run_to("threads", *options, "--precision", "bf16", "--threads", 3)
        self.same_adapter(narrow, threads)

    def test_precisions_that_cannot_be(self):
        self.refused(2, ["--precision", "fp8", "bf16"], *self.command, "--out",
                     self.folder / "run", "--precision", "fp8")
        done = self.hone(*self.command, "--out", self.folder / "run", "--steps", 1, "--precision",
                         "bf16")
        if done.returncode != 0:  # this processor's best level has no such instructions
            self.assertIn("has no bf16 arithmetic", done.stderr)
            self.assertFalse((self.folder / "run").exists())

    # ---- optimisers ------------------------------------------------------------------------------

    def test_every_optimizer_learns_and_goes_on(self):
        """From the same start to other weights; stopped and resumed, and on other threads, to the same."""
        weights = set()
        for name in ("adamw", "adamw8bit", "adafactor", "sgd"):
            with self.subTest(optimizer=name):
                rate = {"sgd": "0.5"}.get(name, "0.01")
                options = ["--method", "full", "--type", "f32", "--optimizer", name, "--lr", rate,
                           "--steps", 12, "--eval-split", "0"]
                whole, _, _ = self.run_to(name, *options, "--checkpoint-every", 4)
                losses = self.losses(whole)
                self.assertLess(losses[-1], losses[0])
                self.assertIn(f'optimizer: "{name}"\n', (whole / "config.yaml").read_text())
                other, _, _ = self.run_to("threads", *options, "--threads", 3)
                before = (whole / "model.gguf").read_bytes()
                self.assertEqual((other / "model.gguf").read_bytes(), before)
                weights.add(before)
                # As if it had been killed after step 8.
                (whole / "checkpoint" / "step-000012.safetensors").unlink()
                events, _ = self.events("finetune", "--resume", whole)
                self.assertEqual([event["step"] for event in events if event["event"] == "step"],
                                 [9, 10, 11, 12])
                self.assertEqual((whole / "model.gguf").read_bytes(), before)
        self.assertEqual(len(weights), 4)

    def test_optimizers_are_told_apart(self):
        self.refused(2, ["--optimizer is \"lion\"", "adamw8bit"], *self.command, "--out",
                     self.folder / "run", "--optimizer", "lion")
        out, _, _ = self.run_to("run", "--steps", 8, "--checkpoint-every", 4)
        self.refused(2, ["--optimizer was \"adamw\" and is \"sgd\""], *self.command,
                     "--steps", 8, "--checkpoint-every", 4, "--optimizer", "sgd", "--resume", out)
        done = self.hone(*self.command, "--out", self.folder / "other", "--steps", 1, "--optimizer",
                         "adafactor", "--beta1", "0.5")
        self.assertIn("--beta1 has no effect with --optimizer adafactor", done.stderr)

    # ---- interrupted -----------------------------------------------------------------------------

    def interrupt(self, out, number, after, *options):
        """Start a run of LONG steps, read `after` events, send the signal, read the rest."""
        command = [HONE, *map(str, self.command), "--steps", str(LONG), "--eval-split", "0",
                   "--json", "--out", str(out), *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              universal_newlines=True) as process:
            for _ in range(after):
                self.assertTrue(process.stdout.readline())
            process.send_signal(number)
            rest, said = process.communicate(timeout=300)
        self.assertNotIn(f'"step":{LONG},', rest)
        return process.returncode, said

    def test_one_run_a_folder(self):
        """Whoever comes second is refused, new or resumed; when the first has ended, it may."""
        out = self.folder / "run"
        command = [HONE, *map(str, self.command), "--steps", str(LONG), "--eval-split", "0",
                   "--checkpoint-every", "2", "--json", "--out", str(out)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              universal_newlines=True) as process:
            while '"checkpoint"' not in process.stdout.readline():
                self.assertIsNone(process.poll())
            for other in (["finetune", "--resume", out], [*self.command, "--out", out]):
                done = self.hone(*other)
                self.assertEqual((done.returncode, done.stderr), (
                    WORK, f"hone finetune: {out}: another run is writing into it\n"))
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=300)
        self.run_to("run", "--steps", 3, "--overwrite")

    def test_interrupted_before_the_first_step(self):
        """Nothing of the run that stands there is touched, and no checkpoint is claimed."""
        out, _, _ = self.run_to("run", "--steps", 3)
        before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
        many = self.write("many.jsonl", CHAT * 2000)
        command = [HONE, *map(str, self.command), "--eval-data", str(many), "--json", "--out",
                   str(out)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              universal_newlines=True) as process:
            self.assertIn('"plan"', process.stdout.readline())
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=300)
        self.assertEqual(process.returncode, INTERRUPTED, said)
        self.assertIn("before the first step", said)
        self.assertEqual({path: path.read_bytes() for path in out.rglob("*") if path.is_file()},
                         before)

    def test_held_out_losses_are_there_once(self):
        """However often the run is resumed, finished or not."""
        options = ["--eval-split", "2", "--eval-every", "2", "--steps", "8", "--checkpoint-every",
                   "2"]
        out, _, _ = self.run_to("run", *options)
        # As if the process had been stopped in step 6: its checkpoint is the last, its held-out
        # loss was not measured.
        (out / "checkpoint" / "step-000008.safetensors").unlink()
        lines = (out / "metrics.jsonl").read_text().splitlines(keepends=True)
        last = next(i for i, line in enumerate(lines) if '"eval","step":6' in line)
        (out / "metrics.jsonl").write_text("".join(lines[:last]))
        self.events(*self.command, *options, "--resume", out)
        self.events(*self.command, *options, "--resume", out)
        evals = [line for line in (out / "metrics.jsonl").read_text().splitlines()
                 if '"eval"' in line]
        self.assertEqual([json.loads(line)["step"] for line in evals], [0, 2, 4, 6, 8])

    def test_interrupted_and_resumed_is_uninterrupted(self):
        whole, _, _ = self.run_to("whole", "--steps", LONG, "--eval-split", "0")
        for number in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(signal=number):
                out = self.folder / number.name
                status, said = self.interrupt(out, number, 5)
                self.assertEqual(status, INTERRUPTED, said)
                self.assertEqual(said.count("\n"), 1, said)
                self.assertIn(f"--resume {out}", said)
                self.assertTrue(any((out / "checkpoint").iterdir()))
                for name in ADAPTER:
                    self.assertTrue((out / name).is_file(), name)
                self.assert_nothing_half_written()
                events, _ = self.events(*self.command, "--steps", LONG, "--eval-split", "0",
                                        "--resume", out)
                steps = [event["step"] for event in events if event["event"] == "step"]
                self.assertGreater(steps[0], 1)
                self.assertEqual(steps[-1], LONG)
                self.same_adapter(whole, out)
                logged = [json.loads(line)["step"]
                          for line in (out / "metrics.jsonl").read_text().splitlines()]
                self.assertEqual(logged, list(range(1, LONG + 1)))

    def test_a_date_is_kept(self):
        """A run that is resumed on another day tells its template the day it was begun on."""
        dated = self.folder / "dated.jinja"
        dated.write_text("{{ strftime_now('%d %b %Y') }}" + (
            "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"))
        options = ["--steps", 6, "--eval-split", "0", "--checkpoint-every", 3, "--template", dated]
        whole, _, _ = self.run_to("whole", *options, "--date", "2026-11-24")
        self.assertIn('date: "2026-11-24"\n', (whole / "config.yaml").read_text())
        noon = {**os.environ, "SOURCE_DATE_EPOCH": "1795521600"}
        out = self.folder / "out"
        self.hone(*self.command, *options, "--out", out, env=noon)
        self.same_adapter(whole, out)
        (out / "checkpoint" / "step-000006.safetensors").unlink()
        (out / "adapter.gguf").unlink()
        self.hone("finetune", "--resume", out, env={**noon, "SOURCE_DATE_EPOCH": "1800000000"})
        self.same_adapter(whole, out)
        other, _, _ = self.run_to("other", *options, "--date", "2026-11-25")
        self.assertNotEqual((other / "adapter.gguf").read_bytes(),
                            (whole / "adapter.gguf").read_bytes())
        self.assertNotIn("date", (self.run_to("plain", "--steps", 1)[0] / "config.yaml").read_text())
        shown = self.hone("template", "--model", TINY, "--data", self.data, "--template", dated,
                          "--date", "2024-02-29", "--json").stdout
        self.assertIn('"text":"29 Feb 2024', shown)
        for wrong in ("2023-02-29", "yesterday", "2026-1-1", "24-11-2026", ""):
            self.refused(USAGE, ["--date", wrong], *self.command, "--out", out, "--date", wrong)

    def test_damaged_checkpoints(self):
        """A changed bit is found: the one before it is gone on from, and two are too many."""
        options = ["--steps", 9, "--eval-split", "0", "--checkpoint-every", 3]
        whole, _, _ = self.run_to("whole", *options)
        newest = whole / "checkpoint" / "step-000009.safetensors"
        damaged = self.folder / "damaged"
        shutil.copytree(whole, damaged)
        for file in ("adapter.gguf", "adapter_model.safetensors"):
            (damaged / file).unlink()
        for name in ("step-000009", "step-000006"):
            file = damaged / "checkpoint" / f"{name}.safetensors"
            held = bytearray(file.read_bytes())
            for at in (len(held) - 1, len(held) // 2, len(held) - held[0]):
                held[at] ^= 16
                file.write_bytes(held)
            if file.name == newest.name:
                self.events(*self.command, *options, "--resume", damaged)
                self.same_adapter(whole, damaged)
                file.write_bytes(held)  # written again by the run
        self.refused(USAGE, [file, "damaged"], *self.command, *options, "--resume", damaged)

    def test_killed_and_resumed_is_uninterrupted(self):
        """The last checkpoint is whole whenever the process ends."""
        whole, _, _ = self.run_to("whole", "--steps", LONG, "--eval-split", "0")
        out = self.folder / "killed"
        status, _ = self.interrupt(out, signal.SIGKILL, 140, "--checkpoint-every", "50")
        self.assertEqual(status, -signal.SIGKILL)
        with open(out / "metrics.jsonl", "a") as metrics:
            metrics.write('{"event":"step","st')  # killed in the middle of a line
        self.events(*self.command, "--steps", LONG, "--eval-split", "0", "--checkpoint-every", "50",
                    "--resume", out)
        self.same_adapter(whole, out)
        logged = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        self.assertEqual([line["step"] for line in logged], list(range(1, LONG + 1)))
        self.assertEqual([line["loss"] for line in logged], self.losses(whole))
        self.assertLessEqual(len(list((out / "checkpoint").iterdir())), 2)


if __name__ == "__main__":
    main()
