# SPDX-License-Identifier: Apache-2.0
"""Every way in which a run can be stopped or refused something ends in a message and in a folder
from which the run goes on to the very same files."""
import os
import shutil
import signal
import subprocess

from faults import HONE, PAIRS, TINY, Faulty, contents, main, some

WORK, USAGE, INTERRUPTED = 1, 2, 130


class Stopped(Faulty):
    """The process ends at any change to the disk: killed, or with the power."""

    long = 1000  # of the places, in the long form

    def setUp(self):
        super().setUp()
        self.out = self.folder / "run"
        self.counted = self.counts(*self.command, "--out", self.folder / "whole")
        self.whole = contents(self.folder / "whole")

    def place(self, out):
        """Where a file lies that cannot be written."""
        return out

    def each(self, kind, most, check):
        """check(fault, out, what the run said) for some of the places where this fault can come."""
        for at in some(self.counted[kind], most, self.long):
            fault = f"{kind}:{at}"
            out = self.folder / fault.replace(":", "")
            with self.subTest(fault):
                check(out, self.fault(fault, *self.command, "--out", out))

    def lost(self, out, done):
        self.assertEqual(done.returncode, -signal.SIGKILL, done.stderr)
        _, saved = self.steps_of(done)
        self.same_files(self.go_on(out, saved), self.whole)

    def test_killed(self):
        self.each("kill", 5, self.lost)

    def test_the_power_goes(self):
        """What was not synced is lost, files and names."""
        self.each("cut", 10, self.lost)

    def test_the_power_goes_and_names_outlive_bytes(self):
        self.each("torn", 8, self.lost)

    def test_a_signal_during_a_write(self):
        def check(out, done):
            self.assertIn(done.returncode, (0, INTERRUPTED), done.stderr)
            if done.returncode == INTERRUPTED:
                self.one_line(done)
            self.same_files(self.go_on(out), self.whole)

        self.each("signal", 6, check)

    def refused(self, kind, most, says):
        def check(out, done):
            self.assertEqual(done.returncode, WORK, done.stderr)
            self.one_line(done)
            self.assertIn(says, done.stderr)
            self.assertIn(str(self.place(out)), done.stderr)
            self.assertEqual(list(out.rglob("*.tmp")), [])
            _, saved = self.steps_of(done)
            self.same_files(self.go_on(out, saved), self.whole)

        self.each(kind, most, check)

    def test_the_disk_is_full(self):
        self.refused("write", 6, "No space left on device")

    def test_syncing_fails(self):
        self.refused("sync", 6, "Input/output error")

    def test_renaming_fails(self):
        self.refused("rename", 5, "Input/output error")

    def test_folders_cannot_be_made(self):
        self.refused("folder", 5, "No space left on device")

    def test_files_cannot_be_made(self):
        self.refused("open", 5, "Too many open files")


class StoppedPreference(Stopped):
    """Answers preferred to others, and an adapter with magnitudes of its own."""
    kind, long = "dpo", 60


class StoppedDistillation(Stopped):
    """A teacher, and all weights."""
    kind, long = "distill", 60


class StoppedTraining(Stopped):
    """A model and its vocabulary made from nothing."""
    kind, long = "llama", 60

    def place(self, out):
        """The first weights and the tokens are files without names beside the folder."""
        return out.parent


class StoppedTransformer(StoppedTraining):
    """An encoder-decoder from nothing."""
    kind = "transformer"


class Refused(Faulty):
    """What the system does not give."""

    def setUp(self):
        super().setUp()
        self.runs = 0
        self.plain = [*self.command[:-1], "--checkpoint-every", 2, "--json"]

    def each(self, kind, most, arguments, check, long=1000):
        shutil.rmtree(self.folder / "whole", True)
        counted = self.counts(*arguments, "--out", self.folder / "whole")[kind]
        for at in some(counted, most, long):
            self.runs += 1
            out = self.folder / f"{kind}{self.runs}"
            with self.subTest(f"{arguments[0]} {kind}:{at}"):
                check(out, self.fault(f"{kind}:{at}", *arguments, "--out", out))
            shutil.rmtree(out, True)

    def no_memory(self, arguments, long=200):
        """Of the N-th block, or of that and all after it."""
        def check(out, done):
            if done.returncode == 0:  # it was for something that can be done without
                self.same_files(contents(out), contents(self.folder / "whole"))
                return
            self.assertEqual(done.returncode, WORK, done.stderr)
            self.assertRegex(done.stderr, r"^(hone \w+: note: [^\n]*\n)*"
                             r"hone \w+: [^\n]*([Oo]ut of|no|allocate) memory[^\n]*\n$")
            if out.is_dir():
                self.assertEqual(list(out.rglob("*.tmp")), [])

        for kind in ("block", "memory"):
            self.each(kind, 7, arguments, check, long)

    def test_no_memory(self):
        self.no_memory(self.plain)

    def test_no_memory_and_bad_examples_skipped(self):
        """An example that cannot be read for lack of memory is not a bad one."""
        self.no_memory([*self.plain, "--on-bad-example", "skip"])

    def test_no_memory_for_folders_and_adapters(self):
        model, adapter = self.folder / "model", self.folder / "adapter"
        self.events("convert", TINY, "--to", "hf", "--out", model)
        self.events(*self.plain[:-1], "--out", adapter)
        self.no_memory(["finetune", "--model", model, "--data", self.data, "--steps", 2, "--adapter",
                        adapter, "--json"])
        self.no_memory(["merge", "--model", model, "--adapter", adapter, "--to", "hf", "--json"])

    def test_no_memory_for_all_weights(self):
        self.no_memory([*self.plain, "--method", "full", "--optimizer", "adamw8bit"])

    def test_no_memory_for_preferences(self):
        data = self.write("pairs.jsonl", PAIRS)
        self.no_memory(["finetune", "--model", TINY, "--data", data, *self.plain[5:-1], "--loss", "dpo",
                        "--method", "dora", "--json"], 60)

    def test_no_memory_to_train_from_nothing(self):
        data = self.write("corpus.txt", "to be or not to be, that is the question\n" * 40)
        self.no_memory(["train", "--data", data, "--layers", 1, "--channels", 16, "--heads", 2,
                        "--context", 16, "--vocabulary", 270, "--batch", 2, "--steps", 2, "--optimizer",
                        "muon", "--json"], 60)

    def test_reading_fails(self):
        run = self.folder / "run"
        model = self.folder / "model"
        self.events("convert", TINY, "--to", "hf", "--out", model)
        self.events("finetune", "--model", model, *self.plain[3:-1], "--out", run)

        def check(out, done):
            if done.returncode == 0:  # a static library's own: jansson does without a random seed
                self.same_files(contents(out), contents(self.folder / "whole"))
                return
            self.assertIn(done.returncode, (WORK, USAGE))
            self.assertRegex(done.stderr, r"^hone finetune: /\S+: read 0 of \d+ bytes[^\n]*\n$")

        self.each("read", 8, ["finetune", "--resume", run, "--json"], check)

    def test_mapping_fails(self):
        def check(out, done):
            self.assertEqual(done.returncode, WORK)
            self.assertRegex(done.stderr, r"^hone finetune: /\S+: cannot map: [^\n]*\n$")
            self.assertFalse(out.exists())

        self.each("map", 8, self.plain, check)

    def test_no_threads(self):
        def check(out, done):
            self.assertEqual(done.returncode, 0)
            self.assertRegex(done.stderr, r"note: \d of 8 threads could be started")
            self.same_files(contents(out), contents(self.folder / "whole"))

        self.each("thread", 8, [*self.plain[:-1], "--threads", 8, "--json"], check)

    def test_a_model_that_is_cut_short(self):
        """While it is read: the pages that are gone are told of, and the run goes on from where it was."""
        model, out = self.folder / "model.gguf", self.folder / "run"
        model.write_bytes(TINY.read_bytes())
        command = ["finetune", "--model", model, *self.plain[3:-1], "--steps", 4000, "--json"]
        with subprocess.Popen([HONE, *map(str, command), "--out", str(out)], stderr=subprocess.PIPE,
                              stdout=subprocess.PIPE, universal_newlines=True) as process:
            for _ in range(12):
                process.stdout.readline()
            os.truncate(model, 4096)
            _, said = process.communicate(timeout=300)
        self.assertEqual((process.returncode, said.count("\n")), (WORK, 1), said)
        self.assertTrue(said.startswith(f"hone finetune: {model.resolve()}: was cut short"), said)
        self.refused(USAGE, [model], "finetune", "--resume", out)
        model.write_bytes(TINY.read_bytes())
        events, _ = self.events("finetune", "--resume", out)
        self.assertGreater(min(event["step"] for event in events if event["event"] == "step"), 1)


if __name__ == "__main__":
    main()
