# SPDX-License-Identifier: Apache-2.0
"""hone translate: files and lines, searches that do not depend on how they are batched, and what is
refused."""
import json
import subprocess

import support

WORDS = "the cat sat on a mat and saw that it was good".split()
PAIRS = [{"source": " ".join(WORDS[i % 12:i % 12 + 1 + i % 4]),
          "target": " ".join(reversed(WORDS[i % 12:i % 12 + 1 + i % 4]))} for i in range(36)]


class Translate(support.Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        import pathlib
        import tempfile
        cls.kept = tempfile.TemporaryDirectory(prefix="hone-cli-")
        folder = pathlib.Path(cls.kept.name)
        data = folder / "pairs.jsonl"
        data.write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
        subprocess.run([support.HONE, "train", "--architecture", "transformer", "--data", data,
                        "--out", folder / "out", "--layers", "1", "--channels", "32", "--heads", "2",
                        "--context", "24", "--vocabulary", "280", "--batch", "12", "--steps", "120",
                        "--lr", "5e-3", "--eval-split", "0", "--json"], check=True,
                       stdout=subprocess.DEVNULL)
        cls.model = folder / "out" / "model.gguf"

    @classmethod
    def tearDownClass(cls):
        cls.kept.cleanup()
        super().tearDownClass()

    def translate(self, *options):
        lines, _ = self.events("translate", "--model", self.model, *options)
        return lines

    def test_batches_threads_and_lines_give_the_same(self):
        data = self.write("pairs.jsonl", PAIRS)
        for search in (["--beams", 1], ["--beams", 4, "--candidates", 3], ["--beams", 3, "--early"],
                       ["--penalty", "gnmt", "--length-penalty", 0.6]):
            whole = self.translate("--data", data, *search)
            self.assertEqual([line["source"] for line in whole], [pair["source"] for pair in PAIRS])
            for other in (["--batch", 1], ["--batch", 5, "--threads", 3]):
                again = self.translate("--data", data, *search, *other)
                for a, b in zip(whole, again):
                    self.assertEqual(a["tokens"], b["tokens"])
                    self.assertAlmostEqual(a["score"], b["score"], places=4)
        done = subprocess.run([support.HONE, "translate", "--model", self.model],
                              input="".join(pair["source"] + "\n" for pair in PAIRS[:9]) + "\nthe\n",
                              capture_output=True, text=True, check=True)
        typed = done.stdout.split("\n")
        self.assertEqual(typed[:9], [line["target"] for line in self.translate("--data", data)][:9])
        self.assertEqual(typed[9], "")
        self.assertEqual(len(typed), 12)

    def test_it_has_learnt(self):
        right = sum(line["target"] == pair["target"] for line, pair in
                    zip(self.translate("--data", self.write("pairs.jsonl", PAIRS)), PAIRS))
        self.assertGreater(right, len(PAIRS) / 2)

    def test_candidates(self):
        [line] = self.translate("--data", self.write("a.txt", "the cat sat\n"), "--candidates", 4)
        scores = [candidate["score"] for candidate in line["candidates"]]
        self.assertEqual(len(scores), 4)
        self.assertEqual(scores, sorted(scores, reverse=True))
        self.assertEqual(len({tuple(one["tokens"]) for one in line["candidates"]}), 4)
        for one in line["candidates"]:
            length = len(one["tokens"]) + one["ended"]
            self.assertAlmostEqual(one["score"], one["logprob"] / length, places=5)

    def test_forms_of_files(self):
        texts = [pair["source"] for pair in PAIRS[:5]]
        want = self.translate("--data", self.write("a.txt", "".join(text + "\n" for text in texts)))
        for name, content in (("b.jsonl", [{"source": text} for text in texts]),
                              ("c.tsv", "source\tnumber\n" + "".join(f"{text}\t1\n" for text in texts)),
                              ("d.json", json.dumps([{"prompt": text} for text in texts]))):
            self.assertEqual(self.translate("--data", self.write(name, content)), want)

    def test_long_sources_are_cut_and_said_so(self):
        data = self.write("a.txt", "the cat " * 40 + "\n")
        done = self.hone("translate", "--model", self.model, "--data", data)
        self.assertEqual(done.returncode, 0)
        self.assertIn("cut", done.stderr)
        [line] = self.translate("--data", data)
        self.assertTrue(line["cut"])
        self.assertEqual(line["source_tokens"], 24)

    def test_what_is_refused(self):
        data = self.write("a.txt", "the cat\n")

        def refused(says, *options):
            self.refused(2, says, "translate", *options)

        refused(["--model"], "--data", data)
        refused(["--alignment", "--json"], "--model", self.model, "--data", data, "--alignment")
        refused(["hone generate"], "--model", support.TINY, "--data", data)
        for option, value, most in (("--beams", 65, 64), ("--candidates", 5, 4),
                                    ("--max-tokens", 24, 23), ("--batch", 5000, 4096)):
            refused([option[2:], value, most], "--model", self.model, "--data", data, option, value)
        refused(["length-penalty", "101"], "--model", self.model, "--data", data, "--length-penalty",
                101)
        refused(["penalty", "paper", "gnmt"], "--model", self.model, "--data", data, "--penalty",
                "paper")
        for name, text, says in (("b.txt", "a\n\nb\n", ["b.txt:2", "empty"]),
                                 ("b.jsonl", '{"source": "a"}\n{"target": "b"}\n', ["b.jsonl:2"]),
                                 ("b.jsonl", '{"source": 3}\n', ["b.jsonl:1", "number"]),
                                 ("b.jsonl", "", ["b.jsonl"]), ("b.txt", "", ["b.txt"])):
            refused(says, "--model", self.model, "--data", self.write(name, text))


if __name__ == "__main__":
    support.main()
