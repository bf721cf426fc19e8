# SPDX-License-Identifier: Apache-2.0
"""What a run shows on a terminal (a tmux one, resized on the way) and what it writes to a file."""
import os
import re
import shutil
import subprocess
import time
import unittest

from support import CHAT, HONE, TINY, Case, main

BAR = re.compile("[━─]{4}")


@unittest.skipUnless(shutil.which("tmux"), "tmux is not here")
class Terminal(Case):
    def setUp(self):
        super().setUp()
        self.data = self.write("data.jsonl", CHAT)
        self.starts = 0

    def command(self, *arguments):
        return subprocess.run([*map(str, self.tmux), *map(str, arguments)], check=True,
                              stdout=subprocess.PIPE, universal_newlines=True,
                              env={**os.environ, "LC_ALL": "C.UTF-8", "TERM": "screen-256color"}
                              ).stdout

    def start(self, width, *options, environment=""):
        self.starts += 1  # a killed server may hold its socket for a moment
        self.tmux = ["tmux", "-S", self.folder / f"socket{self.starts}", "-f", "/dev/null"]
        words = [HONE, "finetune", "--model", TINY, "--data", self.data, "--out",
                 self.folder / f"run{self.starts}", "--eval-split", "2", *options]
        self.command("-u", "new-session", "-d", "-x", width, "-y", 40,
                     f"env TERM=screen-256color {environment} " + " ".join(map(str, words)) +
                     "; echo ended with $?; sleep 600")
        self.addCleanup(subprocess.run, [*map(str, self.tmux), "kill-server"],
                        stderr=subprocess.DEVNULL)

    def screen(self, until, *options):
        """The lines of the screen once `until` holds of them."""
        for _ in range(600):
            lines = self.command("capture-pane", "-p", *options).rstrip("\n").split("\n")
            if until(lines):
                return lines
            time.sleep(0.1)
        self.fail("\n".join(lines))

    @staticmethod
    def live(lines):
        return [line for line in lines if BAR.search(line)]

    def test_narrow_wide_and_in_between(self):
        self.start(80, "--steps", 1000000, "--eval-every", 1000000)
        [line] = self.live(self.screen(self.live))
        self.assertLessEqual(len(line), 80)
        for words in (r"\d+/1000000", r"loss \d", r"mean \d", "left"):
            self.assertRegex(line, words)
        self.command("resize-window", "-x", 200)
        [line] = self.live(self.screen(lambda lines: any(len(line) > 120 for line in lines)))
        for words in ("tokens/s", r"held out \d", r"norm \d", "MB|kB", "[▁▂▃▄▅▆▇█]{8}"):
            self.assertRegex(line, words)
        # Narrower than what stands there: the pieces of the broken line go.
        self.command("resize-window", "-x", 60)
        lines = self.screen(lambda now: len(self.live(now)) == 1 and self.live([now[-1]]))
        self.assertLessEqual(len(lines[-1]), 60)
        self.assertTrue(lines[-2].startswith("held out after step 0"), lines)
        self.command("send-keys", "C-c")
        lines = self.screen(lambda now: any("ended with 130" in line for line in now))
        self.assertTrue(any("stopped after" in line for line in lines), lines)

    def test_colours_and_none(self):
        self.start(100, "--steps", 300000)
        self.assertTrue(any("\033[3" in line for line in self.live(self.screen(self.live, "-e"))))
        self.command("kill-server")
        self.start(100, "--steps", 300000, environment="NO_COLOR=1")
        for line in self.screen(self.live, "-e"):
            self.assertNotIn("\033[3", line)

    def test_a_dumb_terminal_gets_plain_lines(self):
        self.start(120, "--steps", 3, environment="TERM=dumb")
        lines = self.screen(lambda now: any("ended with 0" in line for line in now))
        self.assertTrue(any(line.startswith("step 3/3  loss ") for line in lines), lines)
        self.assertEqual(self.live(lines), [])


class File(Case):
    def test_plain_lines(self):
        data = self.write("data.jsonl", CHAT + CHAT[:2])
        done = self.hone("finetune", "--model", TINY, "--data", data, "--out", self.folder / "run",
                         "--steps", 3, "--eval-data", self.write("held.jsonl", CHAT[:1]))
        self.assertEqual(done.returncode, 0)
        self.assertNotRegex(done.stderr, "[\r\033]")
        self.assertRegex(done.stderr, r"\nlengths   [ ▁▂▃▄▅▆▇█]+  1 to \d+ tokens, \d+ a bar")
        self.assertIn("1 held-out example is trained on too", done.stderr)
        self.assertRegex(done.stderr, r"\nstep 3/3  loss [\d.]+ \(mean [\d.]+\)  norm [\d.]+  \d+ "
                                      r"tokens/s  \d+ MB  0 s left\n")
        [plan], _ = self.events("finetune", "--model", TINY, "--data", data, "--dry-run",
                                "--eval-split", "0")
        self.assertEqual(sum(plan["lengths"]["counts"]), len(CHAT) + 2)
        longest = plan["lengths"]["width"] * len(plan["lengths"]["counts"])
        self.assertLess(0, plan["lengths"]["counts"][-1])
        self.assertLessEqual(max(map(len, (plan["first_example"]["tokens"],))), longest)


if __name__ == "__main__":
    main()
