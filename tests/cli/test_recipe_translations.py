# SPDX-License-Identifier: Apache-2.0
"""The recipe of package descriptions: what its data hold, and its baseline of counted phrases."""
import importlib.machinery
import importlib.util
import json
import pathlib
import random
import subprocess
import sys

from support import Case, main

RECIPE = pathlib.Path(__file__).resolve().parent.parent.parent / "recipes" / "package-translations"
NOUNS = {"library": "Bibliothek", "game": "Spiel", "editor": "Editor", "tool": "Werkzeug"}


def script(name):
    loader = importlib.machinery.SourceFileLoader(name, str(RECIPE / name))
    made = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(made)
    return made


def texts(count):
    """Translation files of both languages: a word of its own and a noun a package."""
    draw, both = random.Random(4), ([], [])
    for i in range(count):
        word = "".join(draw.choice("abcdefghijklmnop") for _ in range(7))
        noun = draw.choice(list(NOUNS))
        for side, synopsis, body in ((0, f"{word} {noun}", f"It is {word}."),
                                     (1, f"{NOUNS[noun]} {word}", f"Es ist {word}.")):
            more = " .\n And more.\n" if i % 10 == 9 and side == 0 else ""
            both[side].append(f"Package: p{i}\nDescription-md5: {i}\n"
                              f"Description-{'en' if side == 0 else 'de'}: {synopsis}\n {body}\n{more}")
    return ["\n".join(one) for one in both]


class Recipe(Case):
    def make(self, out, count):
        paths = [self.folder / f"Translation-{name}" for name in ("en", "de")]
        for path, text in zip(paths, texts(count)):
            path.write_text(text)
        return subprocess.run([sys.executable, "-B", RECIPE / "make_data", "--out", out, "--texts",
                               *paths], capture_output=True, text=True, check=False)

    def test_data(self):
        made = []
        for name in ("a", "b"):
            done = self.make(self.folder / name, 9000)
            self.assertEqual(done.returncode, 0, done.stderr)
            made.append([(self.folder / name / f"{one}.jsonl").read_bytes()
                         for one in ("train", "heldout")])
        self.assertEqual(made[0], made[1])
        train, held_out = ([json.loads(line) for line in one.splitlines()] for one in made[0])
        self.assertEqual(len(held_out), 500)
        self.assertFalse({one["package"] for one in train} & {one["package"] for one in held_out})
        self.assertFalse({one["target"] for one in train} & {one["target"] for one in held_out})
        for one in train + held_out:
            self.assertNotEqual(int(one["package"][1:]) % 10, 9)  # other paragraphs
            word = one["source"].removeprefix("It is ").split()[0].rstrip(".")
            self.assertIn(word, one["target"])

    def test_too_little(self):
        done = self.make(self.folder / "few", 50)
        self.assertEqual(done.returncode, 1)
        self.assertIn("500 are needed", done.stderr)
        self.assertFalse((self.folder / "few").exists())

    def test_phrases(self):
        score = script("score")
        pairs = [(f"a {colour} {thing}", f"ein {paint} {ding}")
                 for colour, paint in (("red", "rotes"), ("blue", "blaues"), ("old", "altes"))
                 for thing, ding in (("house", "Haus"), ("book", "Buch"), ("car", "Auto"))
                 if (colour, thing) != ("old", "car")]
        table = score.phrases([(score.words(a), score.words(b)) for a, b in pairs])
        self.assertEqual(score.by_phrases(table, score.words("a old car")), "ein altes Auto")
        self.assertEqual(score.by_phrases(table, score.words("a red zebra")), "ein rotes zebra")
        self.assertEqual(score.text_of(score.words("Ein (kleines) Spiel, wie man sagt.")),
                         "Ein (kleines) Spiel, wie man sagt.")


if __name__ == "__main__":
    main()
