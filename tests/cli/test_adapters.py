# SPDX-License-Identifier: Apache-2.0
"""`hone finetune` with DoRA and with adapters of the embedding and the head: runs that repeat."""
import json

from support import CHAT, TINY, Case, main

WORK, USAGE = 1, 2
KINDS = {"dora": ["--method", "dora", "--targets", "all-linear,head", "--dropout", "0.2"],
         "embed": ["--targets", "embed,head,q,blk.1.ffn_*", "--layers", 1, "--rslora"],
         "whole": ["--save-modules", "embed,norm,blk.0.attn_norm.weight", "--dropout", "0.1"]}


class Adapters(Case):
    def setUp(self):
        super().setUp()
        self.data = self.write("data.jsonl", CHAT)
        self.command = ["finetune", "--model", TINY, "--data", self.data, "--lr", "0.01",
                        "--eval-split", 0, "--rank", 3, "--alpha", 8]

    def run_to(self, name, *options):
        out = self.folder / name
        events, said = self.events(*self.command, "--out", out, *options)
        return out, events, said

    def same(self, a, b):
        for name in ("adapter_model.safetensors", "adapter_config.json"):
            self.assertEqual((a / name).read_bytes(), (b / name).read_bytes(), name)

    def test_nothing_but_the_options_matters(self):
        """Threads, layers made again, a config file, a resumed run: the same bits."""
        for kind, options in KINDS.items():
            with self.subTest(kind=kind):
                options = [*options, "--steps", 12, "--batch", 4]
                whole, events, _ = self.run_to(kind, *options, "--checkpoint-every", 4)
                self.assertEqual(events[0]["method"], "dora" if kind == "dora" else "lora")
                for name, more in (("threads", ["--threads", 3]),
                                   ("layers", ["--checkpoint-layers", "all"])):
                    other, _, _ = self.run_to(f"{kind}-{name}", *options, *more)
                    self.same(whole, other)
                config = self.folder / f"{kind}-config"
                self.events("finetune", "--config", whole / "config.yaml", "--out", config)
                self.same(whole, config)
                before = {name: (whole / name).read_bytes()
                          for name in ("adapter_model.safetensors", "metrics.jsonl")}
                (whole / "checkpoint" / "step-000012.safetensors").unlink()
                events, _ = self.events("finetune", "--resume", whole)
                steps = [event["step"] for event in events if event["event"] == "step"]
                self.assertEqual(steps, [9, 10, 11, 12])
                self.assertEqual((whole / "adapter_model.safetensors").read_bytes(),
                                 before["adapter_model.safetensors"])

    def test_micro_batches_change_memory_only(self):
        for kind, options in KINDS.items():
            steps = ["--steps", 6, "--batch", 6]
            _, whole, _ = self.run_to(kind, *options, *steps)
            _, parts, _ = self.run_to(f"{kind}-parts", *options, *steps, "--accumulate", 3)
            for a, b in zip(whole, parts):
                if a["event"] == "step":
                    self.assertAlmostEqual(a["loss"], b["loss"], delta=1e-5 * a["loss"])

    def test_the_first_loss_is_the_bases(self):
        """Magnitudes begin as the norms, B as zeros."""
        _, plain, _ = self.run_to("plain", "--steps", 1)
        wanted = [event["loss"] for event in plain if event["event"] == "step"]
        for kind, options in KINDS.items():
            _, events, _ = self.run_to(kind, *options, "--steps", 1)
            got = [event["loss"] for event in events if event["event"] == "step"]
            self.assertAlmostEqual(got[0], wanted[0], delta=2e-6 * wanted[0])

    def test_what_is_written(self):
        """No adapter.gguf for llama.cpp where it has no form: said, and an older one goes."""
        out, _, _ = self.run_to("run", "--steps", 1)
        self.assertTrue((out / "adapter.gguf").exists())
        out, events, _ = self.run_to("run", "--steps", 1, "--method", "dora")
        notes = " ".join(event["text"] for event in events if event["event"] == "note")
        self.assertFalse((out / "adapter.gguf").exists())
        self.assertNotIn(str(out / "adapter.gguf"), events[-1]["files"])
        self.assertIn("adapter.gguf is not written: llama.cpp cannot load a DoRA; hone merge", notes)
        config = json.loads((out / "adapter_config.json").read_text())
        self.assertTrue(config["use_dora"])
        whole, _, _ = self.run_to("whole", "--steps", 1, "--save-modules", "norm,head")
        config = json.loads((whole / "adapter_config.json").read_text())
        self.assertEqual(config["modules_to_save"], ["lm_head", "model.norm"])
        tied, _, _ = self.run_to("tied", "--steps", 1, "--targets", "embed,head,v")
        config = json.loads((tied / "adapter_config.json").read_text())
        self.assertEqual(config["target_modules"], ["embed_tokens", "lm_head", "v_proj"])
        to = ["--model", TINY, "--to", "gguf", "--out", self.folder / "x.gguf"]
        self.refused(USAGE, ["x.gguf", "DoRA", "hone merge"], "convert", out, *to)
        self.assertFalse((self.folder / "x.gguf").exists())

    def test_going_on(self):
        lora, _, _ = self.run_to("lora", "--steps", 1)
        dora, _, _ = self.run_to("dora", "--steps", 2, "--method", "dora")
        self.refused(USAGE, [lora, "is a LoRA"], *self.command, "--out", self.folder / "x",
                     "--method", "dora", "--adapter", lora)
        more, events, _ = self.run_to("more", "--steps", 2, "--adapter", dora)
        self.assertEqual(events[0]["method"], "dora")
        self.assertIn("method: \"dora\"", (more / "config.yaml").read_text())
        evaluate = ["eval", "--model", TINY, "--data", self.data, "--adapter"]
        [first], _ = self.events(*evaluate, dora)
        [second], _ = self.events(*evaluate, more)
        self.assertLess(second["loss"], first["loss"])

    def test_plan_counts_what_is_trained(self):
        plan = ["--dry-run", "--steps", 1]
        events, _ = self.events(*self.command, *plan)
        [lora] = [event for event in events if event["event"] == "plan"]
        events, _ = self.events(*self.command, *plan, "--method", "dora")
        [dora] = [event for event in events if event["event"] == "plan"]
        self.assertLess(lora["trainable"], dora["trainable"])
        for part in ("state_bytes", "activation_bytes"):  # the rest is what the process held before
            self.assertLess(lora[part], dora[part])
        events, _ = self.events(*self.command, *plan, "--targets", "all-linear,embed,head")
        [more] = [event for event in events if event["event"] == "plan"]
        self.assertLess(dora["trainable"], more["trainable"])

    def test_refused(self):
        out = ["--out", self.folder / "out"]
        self.refused(USAGE, ["dora", "embed"], *self.command, *out, "--method", "dora", "--targets",
                     "embed")
        self.refused(USAGE, ["\"heads\"", "embed,head"], *self.command, *out, "--targets", "q,heads")
        self.refused(USAGE, ["--save-modules", "\"nrom\""], *self.command, *out, "--save-modules",
                     "embed,nrom")
        self.assertFalse((self.folder / "out").exists())


if __name__ == "__main__":
    main()
