# SPDX-License-Identifier: Apache-2.0
"""hone finetune --loss dpo and orpo: shared prompts, the same bytes, what is refused."""
import json

import support

PAIRS = [{"prompt": f"{word}? ", "chosen": "yes, the " + word, "rejected": "no"}
         for word in ("one", "in", "the end", "on", "a", "of it", "same", "1 2")]
SMALL = ["--batch", 3, "--steps", 6, "--eval-split", 2, "--rank", 2, "--lr", 1e-2]


class Preference(support.Case):
    def finetune(self, name, loss, *options):
        return self.events("finetune", "--model", support.TINY, "--data", self.data, "--out",
                           self.folder / name, "--loss", loss, *SMALL, *options)

    def setUp(self):
        super().setUp()
        self.data = self.write("pairs.jsonl", PAIRS)

    def test_threads_and_resumption_change_no_byte(self):
        for loss in ("dpo", "orpo"):
            self.finetune(f"{loss}-one", loss, "--threads", 1)
            self.finetune(f"{loss}-two", loss, "--threads", 2, "--checkpoint-every", 2)
            one, two = (self.folder / f"{loss}-{n}" / "adapter_model.safetensors"
                        for n in ("one", "two"))
            self.assertEqual(one.read_bytes(), two.read_bytes())
            (two.parent / "checkpoint" / "step-000006.safetensors").unlink()
            two.unlink()
            self.events("finetune", "--resume", two.parent)
            self.assertEqual(one.read_bytes(), two.read_bytes())

    def test_preferred_answers_become_likelier(self):
        events, _ = self.finetune("out", "dpo", "--steps", 30, "--eval-split", 0, "--eval-data",
                                  self.data)
        plan, evals = events[0], [e for e in events if e["event"] == "eval"]
        self.assertLess(plan["tokens_computed"], plan["tokens"])  # prompts are there once
        self.assertAlmostEqual(evals[0]["loss"], 0.6931472, 5)    # log 2: the model is its reference
        self.assertLess(evals[-1]["loss"], 0.6)
        self.assertGreaterEqual(evals[-1]["preferred"], evals[0]["preferred"])
        self.assertEqual(evals[-1]["preferred"], 1)

    def test_what_is_refused(self):
        def refused(says, records, *options):
            data = records if not isinstance(records, list) else self.write("bad.jsonl", records)
            self.refused(2, says, "finetune", "--model", support.TINY, "--data", data, "--out",
                         self.folder / "out", "--loss", "dpo", *options)
            self.assertFalse((self.folder / "out").exists())

        refused(["--method full", "orpo"], self.data, "--method", "full")
        refused(["--beta", "above 0"], self.data, "--beta", 0)
        refused(["bad.jsonl:1", "'rejected' is missing"], [{"prompt": "a", "chosen": "b"}])
        refused(["bad.jsonl:1", "the same"], [{"prompt": "a", "chosen": "b", "rejected": "b"}])
        refused(["bad.jsonl:1", "'chosen' is a number"],
                [{"prompt": "a", "chosen": 1, "rejected": "b"}])
        refused(["bad.jsonl:1", "'rejected'", "empty"],
                [{"prompt": "a", "chosen": "b", "rejected": ""}])
        refused(["bad.jsonl:1", "not an object"], self.write("bad.jsonl", "3\n"))
        refused(["bad.txt", "no pairs"], self.write("bad.txt", "the tower and the tree\n" * 9))

    def test_a_table_of_pairs(self):
        table = "prompt,chosen,rejected\n" + "".join(
            ",".join(pair.values()).replace("yes, ", "yes ") + "\n" for pair in PAIRS)
        self.data = self.write("pairs.csv", table)
        events, _ = self.finetune("out", "orpo", "--dry-run")
        self.assertEqual(events[0]["examples"], 6)


if __name__ == "__main__":
    support.main()
