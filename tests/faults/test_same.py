# SPDX-License-Identifier: Apache-2.0
"""The same bits on any number of threads, run after run; nearly the same on every level of kernels."""
import json

from faults import KINDS, LONG, Faulty, contents, main

THREADS = (1, 2, 3, 8)
# Everything that could depend on how the work is cut: examples that begin alike (tries), dropout,
# shuffling, micro-batches, layers made again, held-out losses, each optimiser.
BEGIN = "in the beginning of the tower there was a tree and the end of it, "
TEXTS = [{"text": BEGIN + text} for text in ("one, two", "three", "the same", "and again", "no more",
                                            "1 2 3", "for (;;) {}", "a b c d e f g h i j k")]
EACH = [[], ["--method", "full", "--optimizer", "adamw8bit"],
        ["--method", "full", "--optimizer", "adafactor", "--accumulate", 1],
        ["--precision", "bf16", "--isa", "generic", "--group-prefixes"]]


class Same(Faulty):
    def run_to(self, name, *options):
        out = self.folder / name
        data = self.folder / "texts.jsonl"
        data.write_text("".join(json.dumps(text) + "\n" for text in TEXTS * 3))
        done = self.hone(*self.command, "--data", data, "--steps", 8, *options, "--out", out)
        self.assertEqual(done.returncode, 0, done.stderr)
        files = contents(out)
        for event in map(json.loads, done.stdout.splitlines()):
            if event["event"] == "plan":
                self.assertLess(event["tokens_computed"], event["tokens"])
        return files

    def test_threads_and_runs(self):
        for number, options in enumerate(EACH if LONG else EACH[:2]):
            whole = self.run_to(f"whole{number}", *options, "--threads", 1)
            self.assertIn("checkpoint/step-000008.safetensors", whole)
            for threads in (*THREADS, THREADS[-1]):
                with self.subTest(options=options, threads=threads):
                    self.same_files(self.run_to(f"run{number}", *options, "--threads", threads), whole)

    def test_other_kinds_of_runs(self):
        """Of each kind: on any number of threads, and resumed on another one."""
        for kind in KINDS[1:]:
            command, out = self.command_of(kind), self.folder / kind

            def run(*options):
                done = self.hone(*options)
                self.assertEqual(done.returncode, 0, done.stderr)
                return contents(out)

            whole = run(*command, "--out", out, "--threads", 1)
            last = out / "checkpoint" / "step-000005.safetensors"
            self.assertIn(str(last.relative_to(out)), whole)
            for threads in (*THREADS[1:], THREADS[-1]) if LONG else THREADS[2:]:
                with self.subTest(kind=kind, threads=threads):
                    self.same_files(run(*command, "--out", out, "--threads", threads), whole)
                    last.unlink()
                    self.same_files(run(command[0], "--resume", out, "--threads", 5 - threads // 2,
                                        "--json"), whole)

    def test_levels(self):
        """Losses of eight steps agree to 1e-4: rounding differs, and grows step by step."""
        levels = self.hone("--version").stdout.split()[2:]
        losses = {}
        for level in levels:
            lines = self.run_to(level, "--isa", level)["metrics.jsonl"]
            losses[level] = [line["loss"] for line in lines]
        for level in levels:
            self.assertEqual(len(losses[level]), len(losses["generic"]))
            for a, b in zip(losses[level], losses["generic"]):
                self.assertAlmostEqual(a, b, delta=1e-4 * b, msg=level)


if __name__ == "__main__":
    main()
