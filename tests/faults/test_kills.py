# SPDX-License-Identifier: Apache-2.0
"""Runs that are killed at random moments, again and again, end with the files of one that was not."""
import os
import random
import shutil
import signal
import subprocess
import time

from faults import HONE, KINDS, LONG, Faulty, contents, main

KILLS = 200 if LONG else 16
MOST_A_RUN = 8  # then it may end


class Killed(Faulty):
    def start(self, arguments, sink):
        return subprocess.Popen([HONE, *map(str, arguments)], stdout=sink, stderr=sink,
                                stdin=subprocess.DEVNULL)

    def killed(self, kills_wanted):
        draw = random.Random(int(os.environ.get("HONE_SEED", "0")))
        with open(os.devnull, "w") as nowhere:
            begun = time.monotonic()
            self.assertEqual(self.start([*self.command, "--out", self.folder / "whole"],
                                        nowhere).wait(), 0)
            takes = time.monotonic() - begun
            whole, kills, runs = contents(self.folder / "whole"), 0, 0
            while kills < kills_wanted:
                out, before = self.folder / f"run{runs}", kills
                runs += 1
                while kills - before < MOST_A_RUN:
                    process = self.start(self.continued(out), nowhere)
                    time.sleep(draw.uniform(0, takes))
                    process.kill()
                    if process.wait() == 0:
                        break
                    self.assertEqual(process.returncode, -signal.SIGKILL)
                    kills += 1
                self.same_files(self.go_on(out), whole)
                shutil.rmtree(out)
        shutil.rmtree(self.folder / "whole")

    def test_killed_at_random_moments(self):
        self.killed(KILLS)

    def test_other_kinds_of_runs(self):
        for kind in KINDS[1:]:
            with self.subTest(kind):
                self.command = self.command_of(kind)
                self.killed(KILLS // 8)


if __name__ == "__main__":
    main()
