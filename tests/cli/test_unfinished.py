# SPDX-License-Identifier: Apache-2.0
"""A run that has saved something and is not at its end is not thrown away by a repeated command."""
import json
import os
import pty
import select
import shutil
import subprocess

from support import CHAT, HONE, TEXTS, TINY, Case, main

USAGE = 2
SIZES = ["--layers", 1, "--channels", 16, "--heads", 2, "--context", 16, "--vocabulary", 270]


class Unfinished(Case):
    def setUp(self):
        super().setUp()
        self.data = self.write("data.jsonl", CHAT)
        self.out = self.folder / "run"
        self.command = ["finetune", "--model", TINY, "--data", self.data, "--eval-split", "0",
                        "--out", self.out]

    def steps(self, *arguments):
        events, said = self.events(*arguments)
        notes = [event["text"] for event in events if event["event"] == "note"]
        return [event["step"] for event in events if event["event"] == "step"], notes, said

    def killed(self, *command):
        """A run that was killed after its fourth step: files, and two checkpoints."""
        arguments = [HONE, *map(str, command), "--steps", "100000", "--checkpoint-every", "1", "--json"]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, universal_newlines=True) as process:
            for line in process.stdout:
                if json.loads(line).get("step") == 4:
                    process.kill()
                    break
        for half in self.out.rglob("*.tmp"):  # a write that the kill has cut
            half.unlink()
        return self.held()

    def held(self):
        return {path: path.read_bytes() for path in self.out.rglob("*") if path.is_file()}

    def test_it_is_not_replaced(self):
        before = self.killed(*self.command)
        newest = max(path.name for path in before
                     if path.name.startswith("step-") and path.suffix == ".safetensors")
        step = int(newest[5:-len(".safetensors")])
        says = [f"{self.out}: holds a run", f"saved at step {step}", f"finetune --resume {self.out}",
                "--overwrite"]
        self.refused(USAGE, says, *self.command, "--steps", 5)
        self.refused(USAGE, says, *self.command, "--steps", 5, "--json")
        [note] = self.steps(*self.command, "--steps", 5, "--dry-run")[1]
        self.assertIn("would be refused without --overwrite", note)
        [note] = self.steps(*self.command, "--steps", 5, "--dry-run", "--overwrite")[1]
        self.assertIn("would replace", note)
        self.assertEqual(self.held(), before)
        # It goes on as it is told; then it is at its end, and is replaced with a word.
        steps, _, _ = self.steps("finetune", "--resume", self.out, "--steps", step + 2, "--resume-changed")
        self.assertEqual(steps, [step + 1, step + 2])
        steps, [note], _ = self.steps(*self.command, "--steps", 3)
        self.assertEqual((steps, "replaces" in note), ([1, 2, 3], True))

    def test_who_says_so_begins_anew(self):
        self.killed(*self.command)
        steps, [note], _ = self.steps(*self.command, "--steps", 3, "--overwrite")
        self.assertEqual((steps, "replaces" in note), ([1, 2, 3], True))
        self.assertEqual([path.name for path in (self.out / "checkpoint").iterdir()],
                         ["step-000003.safetensors"])
        self.assertNotIn("overwrite", (self.out / "config.yaml").read_text())

    def test_what_cannot_go_on_is_replaced(self):
        self.killed(*self.command)
        shutil.rmtree(self.out / "checkpoint")
        self.assertEqual(self.steps(*self.command, "--steps", 2)[0], [1, 2])

    def test_without_a_record_it_is_none_that_is_known_to_be_whole(self):
        for content in (None, "", "{", '{"state":[]}'):
            self.steps(*self.command, "--steps", 2, "--overwrite")
            if content is None:
                (self.out / "run.json").unlink()
            else:
                (self.out / "run.json").write_text(content)
            self.refused(USAGE, ["saved at step 2"], *self.command, "--steps", 2)

    def test_a_new_model(self):
        texts = self.write("texts.jsonl", TEXTS)
        command = ["train", "--data", texts, "--out", self.out, *SIZES]
        before = self.killed(*command)
        self.refused(USAGE, [f"train --resume {self.out}"], *command, "--steps", 2)
        self.assertEqual(self.held(), before)
        self.assertEqual(self.steps(*command, "--steps", 2, "--overwrite")[0], [1, 2])

    def test_at_a_terminal_it_asks(self):
        before = self.killed(*self.command)
        for answer, status in ((b"\n", USAGE), (b"no\n", USAGE), (b"\x04", USAGE), (b"y\n", 0)):
            self.assertEqual(self.held(), before)
            leader, follower = pty.openpty()
            process = subprocess.Popen([HONE, *map(str, self.command), "--steps", "2"], stdin=follower,
                                       stdout=follower, stderr=follower)
            os.close(follower)
            seen = b""
            while b"[y/N] " not in seen:
                self.assertTrue(select.select([leader], [], [], 120)[0], seen)
                seen += os.read(leader, 4096)
            self.assertIn(b"--resume", seen)
            os.write(leader, answer)
            while True:
                try:
                    part = os.read(leader, 4096)
                except OSError:  # it has ended
                    break
                seen += part
            self.assertEqual(process.wait(120), status, seen)
            self.assertEqual(b"nothing was changed" in seen, status == USAGE, seen)
            os.close(leader)
        self.assertEqual(len((self.out / "metrics.jsonl").read_text().splitlines()), 2)


if __name__ == "__main__":
    main()
