# SPDX-License-Identifier: Apache-2.0
"""Every way in which a run can be stopped or refused something ends in a message and in a folder
from which the run goes on to the very same files."""
import signal

from faults import Faulty, contents, main, some

WORK, INTERRUPTED = 1, 130


class Stopped(Faulty):
    """The process ends at any change to the disk: killed, or with the power."""

    def setUp(self):
        super().setUp()
        self.out = self.folder / "run"
        self.counted = self.counts(*self.command, "--out", self.folder / "whole")
        self.whole = contents(self.folder / "whole")

    def each(self, kind, most, check):
        """check(fault, out, what the run said) for some of the places where this fault can come."""
        for at in some(self.counted[kind], most):
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
            self.assertIn(str(out), done.stderr)
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


if __name__ == "__main__":
    main()
