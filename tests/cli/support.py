# SPDX-License-Identifier: Apache-2.0
"""What the tests of the command line share. Python's own library only: they run where Hone builds.

Each test_*.py here is run by ctest as: python3 test_X.py PATH-OF-HONE
"""
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

TINY = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "tiny.gguf"
HONE = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else os.environ.get("HONE_BINARY", "hone")

CHAT = [{"messages": [{"role": "user", "content": question},
                      {"role": "assistant", "content": answer}]}
        for question, answer in [("one?", "two"), ("the end?", "no"), ("in or on", "on"),
                                 ("and then", "the rest"), ("a", "b"), ("10", "11"), ("x y", "z"),
                                 ("of what", "of it")]]
TEXTS = [{"text": text} for text in ["the tower and the tree", "one, two, three", "a b c d e f g",
                                     "in the end it was the end", "for (;;) {}", "1 2 3 4 5 6 7",
                                     "no more of it", "the same again and again"]]


class Case(unittest.TestCase):
    """Works in a folder of its own, self.folder."""

    maxDiff = None

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="hone-cli-"))
        self.addCleanup(shutil.rmtree, self.folder, True)

    def write(self, name, records):
        """A file of one JSON record a line; a str or bytes goes in as it is."""
        path = self.folder / name
        if isinstance(records, list):
            records = "".join(json.dumps(record) + "\n" for record in records)
        path.write_bytes(records.encode() if isinstance(records, str) else records)
        return path

    def hone(self, *arguments, **options):
        options.setdefault("timeout", 300)
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("input", "")
        return subprocess.run([HONE, *map(str, arguments)], stderr=subprocess.PIPE,
                              universal_newlines=True, **options)

    def events(self, *arguments, **options):
        """The JSON objects of a command that must succeed, and what it said on stderr."""
        arguments = list(arguments)
        arguments.insert(arguments.index("--") if "--" in arguments else len(arguments), "--json")
        done = self.hone(*arguments, **options)
        self.assertEqual(done.returncode, 0, done.stderr)
        return [json.loads(line) for line in done.stdout.splitlines()], done.stderr

    def refused(self, status, says, *arguments, **options):
        """The command fails with this status and says so in one line that holds each of `says`."""
        done = self.hone(*arguments, **options)
        line = done.stderr
        self.assertEqual(done.returncode, status, line)
        self.assertEqual(line.count("\n"), 1, line)
        self.assertTrue(line.startswith("hone"), line)
        self.assertTrue(line.endswith("\n") and len(line) > 20, line)
        for part in says:
            self.assertIn(str(part), line)
        if done.stdout is not None:
            self.assertNotIn("\"done\"", done.stdout)
        self.assert_nothing_half_written()
        return line

    def assert_nothing_half_written(self):
        left = [str(path) for path in self.folder.rglob("*.tmp") if not path.is_symlink()]
        self.assertEqual(left, [])


# ---- GGUF files with one thing wrong -----------------------------------------------------------

SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
STRING, ARRAY = 8, 9


class Gguf:
    """A file's bytes, and where in them values, tensor types and offsets stand."""

    def __init__(self, path=TINY):
        self.bytes = bytearray(pathlib.Path(path).read_bytes())
        self.values, self.types, self.offsets = {}, {}, {}
        tensors, keys = struct.unpack_from("<qq", self.bytes, 8)
        self.at = 24
        for _ in range(keys):
            name, kind = self.string(), self.number("<i")
            self.values[name] = self.at
            self.skip(kind)
        for _ in range(tensors):
            name, rank = self.string(), self.number("<I")
            self.at += 8 * rank
            self.types[name] = self.at
            self.offsets[name] = self.at + 4
            self.at += 12
        self.header = self.at

    def number(self, layout):
        [value] = struct.unpack_from(layout, self.bytes, self.at)
        self.at += struct.calcsize(layout)
        return value

    def string(self):
        length = self.number("<Q")
        self.at += length
        return self.bytes[self.at - length:self.at].decode()

    def skip(self, kind):
        if kind == STRING:
            self.string()
        elif kind == ARRAY:
            kind, count = self.number("<i"), self.number("<Q")
            for _ in range(count):
                self.skip(kind)
        else:
            self.at += SIZES[kind]

    def put(self, at, layout, value):
        struct.pack_into(layout, self.bytes, at, value)
        return self

    def put_string(self, key, text):
        at, text = self.values[key], text.encode()
        length = struct.unpack_from("<Q", self.bytes, at)[0]
        assert len(text) == length, "lengths must agree: what follows stays where it is"
        self.bytes[at + 8:at + 8 + length] = text
        return self


def main():
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
