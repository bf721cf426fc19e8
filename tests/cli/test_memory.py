# SPDX-License-Identifier: Apache-2.0
"""A bound on memory is kept by work that is done again and by smaller micro-batches, or refused."""
import re
import signal
import subprocess

from support import HONE, TEXTS, TINY, Case, main

WEIGHTS = ("adapter.gguf", "adapter_model.safetensors")
MIB = 1 << 20


class Memory(Case):
    def setUp(self):
        super().setUp()
        words = " ".join(record["text"] for record in TEXTS)
        self.data = self.write("data.jsonl", [{"text": f"{i} {words}"} for i in range(40)])
        self.command = ["finetune", "--model", TINY, "--data", self.data, "--eval-split", 0,
                        "--batch", 20, "--lr", "0.01"]

    def run_to(self, name, *options):
        out = self.folder / name
        events, _ = self.events(*self.command, "--out", out, *options)
        return out, events[0], [event for event in events if event["event"] == "step"]

    def same_weights(self, a, b, names=WEIGHTS):
        for name in names:
            self.assertEqual((a / name).read_bytes(), (b / name).read_bytes(), name)

    # ---- checkpointed layers ---------------------------------------------------------------------

    def test_checkpoints_change_no_bit(self):
        for method, names in (("lora", WEIGHTS), ("full", ("model.gguf",))):
            plain, before, steps = self.run_to(method, "--method", method)
            self.assertEqual(before["checkpoint_layers"], 0)
            for count, threads in (("1", 1), ("all", 1), ("all", 3), ("7", 2)):
                with self.subTest(method=method, layers=count, threads=threads):
                    out, plan, again = self.run_to("again", "--method", method, "--threads", threads,
                                                   "--checkpoint-layers", count)
                    self.assertEqual(plan["checkpoint_layers"], 1 if count == "1" else 2)
                    self.assertLess(plan["activation_bytes"], before["activation_bytes"])
                    for a, b in zip(steps, again):
                        self.assertEqual([a["loss"], a["grad_norm"]], [b["loss"], b["grad_norm"]])
                    self.same_weights(plain, out, names)

    def test_layers_below_what_is_trained_have_nothing_to_give(self):
        _, before, _ = self.run_to("run", "--layers", 1)
        _, plan, _ = self.run_to("run", "--layers", 1, "--checkpoint-layers", "all")
        self.assertEqual(plan["checkpoint_layers"], 1)
        self.assertLess(plan["activation_bytes"], before["activation_bytes"])

    def test_wrong_numbers_of_layers(self):
        for wrong in ("-1", "some", "", "1.5", "99999999999999999999"):
            self.refused(2, ["--checkpoint-layers", "want a number or all"], *self.command, "--out",
                         self.folder / "run", "--checkpoint-layers", wrong)

    # ---- a bound ---------------------------------------------------------------------------------

    def bounds(self):
        """What the run takes as it is, and the least that would do."""
        _, plan, _ = self.run_to("plain", "--steps", 1)
        said = self.refused(1, ["--memory 1M is too small"], *self.command, "--out",
                            self.folder / "none", "--memory", "1M")
        self.assertFalse((self.folder / "none").exists())
        least = int(re.search(r"--memory (\d+)M would do", said)[1])
        return plan["memory_bytes"], least * MIB

    def test_a_bound_is_kept_or_the_least_is_named(self):
        most, least = self.bounds()
        self.assertLess(least, most - 4 * MIB)
        for bound in (least, (least + most) // 2, most + MIB):
            out, plan, steps = self.run_to("bound", "--memory", bound)
            self.assertLessEqual(plan["memory_bytes"], bound)
            given_up = plan["checkpoint_layers"] > 0 or plan["accumulate"] > 1
            self.assertEqual(given_up, bound < most)
            chosen = ["--checkpoint-layers", plan["checkpoint_layers"], "--accumulate",
                      plan["accumulate"]]
            named, _, _ = self.run_to("named", *chosen)
            self.same_weights(out, named)
            for step in steps:
                self.assertEqual(step["rss_bytes"],
                                 step["rss_anon_bytes"] + step["rss_mapped_bytes"])
                self.assertGreater(step["rss_mapped_bytes"], 0)

    def test_a_bounded_run_goes_on(self):
        _, least = self.bounds()
        # More events than a pipe holds: the signal finds the run standing still before its end.
        bounded = [*self.command, "--steps", "360", "--memory", least]
        whole = self.folder / "whole"
        self.events(*bounded, "--out", whole)
        out = self.folder / "stopped"
        with subprocess.Popen([HONE, *map(str, bounded), "--json", "--out", str(out)],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              universal_newlines=True) as process:
            for _ in range(8):
                process.stdout.readline()
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=300)
        self.assertNotIn('"step":360,', rest)
        events, _ = self.events("finetune", "--resume", out)
        self.assertIn("memory: " + str(least), (out / "config.yaml").read_text())
        self.assertLessEqual(events[0]["memory_bytes"], least + least // 20)
        self.same_weights(whole, out)


if __name__ == "__main__":
    main()
