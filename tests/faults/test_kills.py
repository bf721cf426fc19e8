# SPDX-License-Identifier: Apache-2.0
"""Runs that are killed at random moments, again and again, end with the files of one that was not."""
import os
import random
import signal
import subprocess
import time

from faults import HONE, LONG, Faulty, contents, main

KILLS = 200 if LONG else 16
MOST_A_RUN = 8  # then it may end


class Killed(Faulty):
    def start(self, arguments, sink):
        return subprocess.Popen([HONE, *map(str, arguments)], stdout=sink, stderr=sink,
                                stdin=subprocess.DEVNULL)

    def test_killed_at_random_moments(self):
        draw = random.Random(int(os.environ.get("HONE_SEED", "0")))
        with open(os.devnull, "w") as nowhere:
            begun = time.monotonic()
            self.assertEqual(self.start([*self.command, "--out", self.folder / "whole"],
                                        nowhere).wait(), 0)
            takes = time.monotonic() - begun
            whole, kills, runs = contents(self.folder / "whole"), 0, 0
            while kills < KILLS:
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


if __name__ == "__main__":
    main()
