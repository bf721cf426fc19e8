# SPDX-License-Identifier: Apache-2.0
"""Long runs: memory that stays, examples of any length and content, runs that leave nothing behind.

HONE_TRUST=long takes more of each; HONE_TRUST_STEPS=N as many steps as wanted (an hour: some 2500000).
"""
import json
import os
import random
import string
from array import array
from statistics import fmean

from faults import LONG, TINY, Faulty, main

STEPS = int(os.environ.get("HONE_TRUST_STEPS", 20000 if LONG else 1500))
EXAMPLES = 10000 if LONG else 1000
MIB = 1 << 20


class Long(Faulty):
    def events_of(self, *options):
        done = self.hone("finetune", "--model", TINY, "--json", *options, timeout=7200)
        self.assertEqual(done.returncode, 0, done.stderr)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def test_memory_stays(self):
        """After the first tenth, nothing is taken that is not given back."""
        out = self.folder / "run"
        done = self.hone("finetune", "--model", TINY, "--data", self.data, "--out", out, "--steps", STEPS,
                         "--eval-split", 2, "--eval-every", 100, "--checkpoint-every", 100,
                         timeout=7200)
        self.assertEqual(done.returncode, 0, done.stderr)
        held, seconds = array("q"), array("d")  # millions of steps
        with (out / "metrics.jsonl").open() as lines:
            for event in map(json.loads, lines):
                if event["event"] == "step":
                    held.append(event["rss_anon_bytes"])
                    seconds.append(event["seconds"])
        self.assertEqual(len(held), STEPS)
        self.assertLess(max(held[STEPS // 10:]), held[STEPS // 10] + MIB)
        self.assertEqual(len(list((out / "checkpoint").iterdir())), 2)
        if LONG:
            first, last = map(fmean, (seconds[STEPS // 10:STEPS // 2], seconds[STEPS // 2:]))
            print(f"mean seconds a step: {first:.7f} in the first half, {last:.7f} in the second; "
                  f"at most {(max(held[STEPS // 10:]) - held[STEPS // 10]) / 1024:.0f} KiB more than "
                  f"after a tenth")

    def test_any_examples(self):
        """Of random lengths and content, one epoch: every one of them is read, learnt or told of."""
        draw = random.Random(5)
        alphabets = [string.printable, "äöüß€漢字🙂\u202e\u0301é", "\\\"{}[]<|im_end|>", " \t\n"]

        def text():
            letters = draw.choice(alphabets)
            return "".join(draw.choice(letters) for _ in range(int(draw.expovariate(1 / 40)) + 1))

        kinds = [lambda: {"text": text()}, lambda: {"prompt": text(), "completion": text()},
                 lambda: {"messages": [{"role": "user", "content": text()},
                                       {"role": "assistant", "content": text()}] * draw.randint(1, 3)}]
        data = self.write("any.jsonl", [draw.choice(kinds)() for _ in range(EXAMPLES)])
        options = ["--data", data, "--eval-split", "0", "--batch", 20, "--max-length", 160,
                   "--on-bad-example", "skip"]
        events = self.events_of(*options, "--out", self.folder / "run")
        plan, done = events[0], events[-1]
        self.assertEqual(plan["examples"] + plan["skipped"], EXAMPLES)
        self.assertLess(plan["skipped"], EXAMPLES // 10)
        self.assertGreater(plan["cut"], 0)
        self.assertEqual(done["steps"], -(-plan["examples"] // 20))
        self.assertTrue(all(event["loss"] < 100 for event in events if event["event"] == "step"))


if __name__ == "__main__":
    main()
