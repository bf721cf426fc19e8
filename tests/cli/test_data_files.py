# SPDX-License-Identifier: Apache-2.0
"""Data files of every format: the same records give the same examples, packed or not."""
import csv
import gzip
import io
import json
import random

from support import CHAT, TEXTS, TINY, Case, main

USAGE = 2


def zstd(content):
    """The content as zstd frames of raw blocks: Python's library has no zstd."""
    frames = b""
    for at in range(0, len(content), 200):
        piece = content[at:at + 200]
        frames += b"\x28\xb5\x2f\xfd" + bytes([0x20, len(piece)])  # one segment of that size
        frames += (1 | len(piece) << 3).to_bytes(3, "little") + piece  # the last block, raw
    return frames


def zstd_bomb(megabytes):
    """Blocks of 128 KiB of one byte each, 4 bytes a block."""
    block = lambda last: (last | 1 << 1 | (128 << 10) << 3).to_bytes(3, "little") + b"a"  # noqa: E731
    return b"\x28\xb5\x2f\xfd\x00\x58" + block(0) * (megabytes * 8 - 1) + block(1)


class Files(Case):
    def examples(self, path, *options):
        events, _ = self.events("template", "--model", TINY, "--data", path, *options)
        return [(event["text"], event["tokens"], event["mask"]) for event in events]

    def table(self, name, records, **dialect):
        out = io.StringIO()
        writer = csv.DictWriter(out, list(records[0]), **dialect)
        writer.writeheader()
        writer.writerows(records)
        return self.write(name, out.getvalue().encode())

    def test_tables_hold_what_json_lines_hold(self):
        draw = random.Random(5)
        letters = "ab ,;\t\"'\n\r\\{[é漢\U0001f600"
        records = [{"prompt": "".join(draw.choices(letters, k=draw.randrange(0, 9))) + "?",
                    "completion": "!" + "".join(draw.choices(letters, k=draw.randrange(0, 9)))}
                   for _ in range(300)]
        wanted = self.examples(self.write("d.jsonl", records))
        for name, dialect in (("d.csv", {}), ("d.tsv", {"dialect": "excel-tab"}),
                              ("e.csv", {"delimiter": ";"}), ("f.csv", {"quoting": csv.QUOTE_ALL})):
            with self.subTest(name=name):
                self.assertEqual(self.examples(self.table(name, records, **dialect)), wanted)

    def test_conversations_in_tables(self):
        records = [{"id": str(i), "messages": json.dumps(record["messages"])}
                   for i, record in enumerate(CHAT)]
        self.assertEqual(self.examples(self.table("d.csv", records)),
                         self.examples(self.write("d.jsonl", CHAT)))

    def test_packed(self):
        for name, content in (("d.jsonl", self.write("d.jsonl", TEXTS).read_bytes()),
                              ("d.json", json.dumps(TEXTS).encode()),
                              ("d.csv", b"text\r\n" + b"\r\n".join(
                                  b'"%s"' % record["text"].encode() for record in TEXTS)),
                              ("d.txt", b"the tower and the tree\nand more\n" * 20)):
            wanted = self.examples(self.write(name, content))
            halves = gzip.compress(content[:50]) + gzip.compress(content[50:]) + b"\0" * 512
            for end, packed in ((".gz", gzip.compress(content)), (".gz", halves),
                                (".zst", zstd(content)), (".ZST", gzip.compress(content))):
                path = self.write(name + end, packed)
                done = self.hone("template", "--model", TINY, "--data", path)
                if "was built without" in done.stderr:
                    continue
                with self.subTest(path=path):
                    self.assertEqual(self.examples(path), wanted)

    def test_damaged_packing(self):
        content = self.write("d.jsonl", TEXTS * 50).read_bytes()
        packed = gzip.compress(content)
        flipped = bytearray(packed)
        flipped[-6] ^= 1  # of the checksum
        for end, bad in ((".gz", packed[:-9]), (".gz", packed[:20]), (".gz", bytes(flipped)),
                         (".gz", packed + b"xyz"), (".zst", zstd(content)[:-1]),
                         (".zst", zstd(content) + b"x"), (".zst", b"\x28\xb5\x2f\xfd\xff")):
            path = self.write("d.jsonl" + end, bad)
            line = self.refused(USAGE, [path], "template", "--model", TINY, "--data", path)
            if "was built without" not in line:
                self.assertIn("cannot be unpacked", line)

    def test_bombs(self):
        for name, bomb in (("d.jsonl.gz", gzip.compress(b"a" * (70 << 20))),
                           ("d.jsonl.zst", zstd_bomb(70))):
            path = self.write(name, bomb)
            line = self.refused(USAGE, [path], "template", "--model", TINY, "--data", path)
            if "was built without" not in line:
                self.assertIn("unpack to more than", line)

    def test_text_in_windows(self):
        path = self.write("d.txt", "the tower and the tree, one, two, three. " * 9)
        whole = self.examples(path, "--max-length", "64")
        learnt = sum(sum(mask) for _, _, mask in whole)
        for stride in ("7", "32", "64"):
            cut = self.examples(path, "--max-length", "64", "--stride", stride)
            self.assertGreaterEqual(len(cut), len(whole))
            # Every token once, and those that begin a window without an overlap never.
            self.assertEqual(sum(sum(mask) for _, _, mask in cut),
                             learnt if stride == "64" else learnt + len(whole) - 1)
        self.assertEqual("".join(text for text, _, _ in whole), path.read_text())

    def test_training_on_text_and_tables_with_weights(self):
        text = self.write("d.txt", "the tower and the tree. " * 60)
        table = self.table("d.csv", TEXTS)
        out = self.folder / "out"
        events, _ = self.events("finetune", "--model", TINY, "--data", text, "--data", f"{table}:2",
                                "--out", out, "--max-length", "32", "--stride", "16", "--steps",
                                "3", "--eval-split", "0")
        plan = next(event for event in events if event["event"] == "plan")
        windows = len(self.examples(text, "--max-length", "32", "--stride", "16"))
        self.assertEqual(plan["examples"], windows + len(TEXTS))
        self.assertIn("stride: 16", (out / "config.yaml").read_text())
        loss = json.loads(self.hone("eval", "--model", TINY, "--data", text, "--stride", "16",
                                    "--max-length", "32", "--json").stdout)
        self.assertGreater(loss["loss"], 0)


if __name__ == "__main__":
    main()
