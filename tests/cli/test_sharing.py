# SPDX-License-Identifier: Apache-2.0
"""What examples begin with alike is computed once, and nothing else about them changes."""
import json

from support import TEXTS, TINY, Case, main

TOPICS = [("the tower", "of stone"), ("the tree", "on the hill"), ("the end", "at last")]
QUESTIONS = [("one?", "two"), ("one?", "ten"), ("one?", "two"), ("who?", "he"), ("why", "so")]


def chat(system, question, answer):
    return {"messages": [{"role": "system", "content": system},
                         {"role": "user", "content": question},
                         {"role": "assistant", "content": answer}]}


# Five examples of each topic, side by side; some are equal, some differ in the answer only.
ALIKE = [chat(" ".join(topic), *question) for topic in TOPICS for question in QUESTIONS]


def computed(examples):
    """How many tokens a target follows, what begins alike counted once."""
    seen = set()
    for tokens, mask in examples:
        last = max(i for i, learnt in enumerate(mask) if learnt)
        seen.update(tuple(tokens[:length]) for length in range(1, last + 1))
    return len(seen)


class Sharing(Case):
    def setUp(self):
        super().setUp()
        self.data = self.write("data.jsonl", ALIKE)
        lines, _ = self.events("template", "--model", TINY, "--data", self.data)
        self.examples = [(line["tokens"], line["mask"]) for line in lines]

    def run_to(self, name, *options):
        out = self.folder / name
        events, _ = self.events("finetune", "--model", TINY, "--data", self.data, "--lr", "0.01",
                                "--eval-split", "0", "--out", out, *options)
        return out, events, [event for event in events if event["event"] == "step"]

    # ---- training --------------------------------------------------------------------------------

    def test_tokens_are_counted(self):
        for parts in (1, 3):
            out, events, steps = self.run_to("run", "--shuffle", "off", "--batch", 7, "--epochs", 2,
                                             "--accumulate", parts)
            epoch = [self.examples[i:i + 7] for i in range(0, len(self.examples), 7)]
            self.assertEqual(len(steps), 2 * len(epoch))
            total = 0
            for step, examples in zip(steps, 2 * epoch):
                count, cuts = len(examples), min(parts, len(examples))
                want = sum(computed(examples[count * i // cuts:count * (i + 1) // cuts])
                           for i in range(cuts))
                self.assertEqual(step["tokens"], sum(len(tokens) for tokens, _ in examples))
                self.assertEqual(step["tokens_computed"], want)
                self.assertLess(want, step["tokens"])
                total += want
            self.assertEqual(events[0]["tokens_computed"], total // 2)
            self.assertEqual(events[0]["tokens"], sum(len(tokens) for tokens, _ in self.examples))
            lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
            self.assertEqual([line["tokens_computed"] for line in lines],
                             [step["tokens_computed"] for step in steps])

    def test_the_plan_needs_less_for_what_is_shared(self):
        plans = []
        for parts in (1, 15):  # the second computes every example apart
            _, events, _ = self.run_to("run", "--batch", 15, "--accumulate", parts, "--dry-run")
            plans.append(events[0])
        self.assertLess(plans[0]["tokens_computed"], plans[1]["tokens_computed"] / 2)
        done = self.hone("finetune", "--model", TINY, "--data", self.data, "--dry-run",
                         "--eval-split", "0", "--batch", 15)
        self.assertIn(f"{plans[0]['tokens_computed']} to compute", done.stderr)

    def test_sharing_changes_no_loss(self):
        """Micro-batches of one example share nothing."""
        options = ["--batch", 5, "--steps", 20, "--lr", "0.003"]
        _, _, shared = self.run_to("shared", *options)
        _, _, apart = self.run_to("apart", *options, "--accumulate", 5)
        for a, b in zip(shared, apart):
            self.assertLess(a["tokens_computed"], b["tokens_computed"])
            for key in ("loss", "grad_norm"):
                self.assertAlmostEqual(a[key], b[key], delta=2e-5 * b[key])

    def test_grouping_prefixes(self):
        _, _, plain = self.run_to("plain", "--batch", 5, "--epochs", 3)
        whole, events, steps = self.run_to("whole", "--batch", 5, "--epochs", 3, "--group-prefixes")
        self.assertEqual(sum(step["tokens"] for step in steps),
                         sum(step["tokens"] for step in plain))
        self.assertLess(sum(step["tokens_computed"] for step in steps),
                        0.7 * sum(step["tokens_computed"] for step in plain))
        self.assertAlmostEqual(events[0]["tokens_computed"],
                               sum(step["tokens_computed"] for step in steps) / 3, delta=1)
        adapters = [whole / "adapter.gguf"]
        self.events("finetune", "--config", whole / "config.yaml", "--out", self.folder / "again")
        adapters.append(self.folder / "again" / "adapter.gguf")
        # As if it had been killed after a checkpoint: what comes later is done again.
        _, _, _ = self.run_to("stopped", "--batch", 5, "--epochs", 3, "--group-prefixes",
                              "--checkpoint-every", 4)
        (self.folder / "stopped" / "checkpoint" / "step-000009.safetensors").unlink()
        self.events("finetune", "--resume", self.folder / "stopped")
        adapters.append(self.folder / "stopped" / "adapter.gguf")
        for adapter in adapters[1:]:
            self.assertEqual(adapter.read_bytes(), adapters[0].read_bytes(), adapter)

    # ---- evaluation ------------------------------------------------------------------------------

    def logprobs(self, path, *options):
        *lines, summary = self.events("eval", "--model", TINY, "--data", path, "--logprobs",
                                      *options)[0]
        return lines, summary

    def test_results_belong_to_their_examples(self):
        # Some begin others, some are equal, none is in the order of its tokens.
        texts = [{"text": text} for text in ["the end", "the", "a b", "the end of it", "the tower",
                                             "a", "the end", "a b c"]]
        for records in (ALIKE, TEXTS + texts):
            whole, summary = self.logprobs(self.write("all.jsonl", records))
            self.assertEqual(len(whole), len(records))
            total = 0
            for record, got in zip(records, whole):
                [alone], _ = self.logprobs(self.write("one.jsonl", [record]))
                self.assertEqual((got["tokens"], got["targets"]),
                                 (alone["tokens"], alone["targets"]))
                for a, b in zip(got["logprobs"], alone["logprobs"]):
                    self.assertAlmostEqual(a, b, delta=1e-5 * (1 - b))
                total += sum(alone["logprobs"])
            self.assertAlmostEqual(summary["loss"], -total / summary["tokens"], places=5)

    def test_choices_are_ranked_by_their_probability(self):
        answers = ["two", "ten", "the end", "the", "t", "so it is", "the tower"]
        data = self.write("asked.jsonl", [ALIKE[0], ALIKE[8], ALIKE[14]])
        lines, _ = self.logprobs(data, "--choices",
                                 self.write("answers", "".join(f"{a}\n" for a in answers)))
        for line, record in zip(lines, (ALIKE[0], ALIKE[8], ALIKE[14])):
            messages = record["messages"][:2]
            filled = [{"messages": messages + [{"role": "assistant", "content": answer}]}
                      for answer in answers]
            each, _ = self.logprobs(self.write("filled.jsonl", filled))
            scores = [sum(one["logprobs"]) for one in each]
            self.assertEqual(line["choice"], answers[scores.index(max(scores))])
            [alone], _ = self.logprobs(self.write("one.jsonl", [record]))
            for a, b in zip(line["logprobs"], alone["logprobs"]):
                self.assertAlmostEqual(a, b, delta=1e-5 * (1 - b))


if __name__ == "__main__":
    main()
