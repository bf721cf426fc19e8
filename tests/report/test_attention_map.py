# SPDX-License-Identifier: Apache-2.0
"""hone attention: its JSON, its picture, its page in a browser, and what it refuses. That the weights
are right is tests/interop/test_attention_map.py's to show."""
import json
import pathlib
import re
import struct
import sys
import unittest
import zlib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "cli"))
import browser  # noqa: E402
from support import CHAT, TINY, Case, main  # noqa: E402

USAGE = 2
TEXT = "the end of the tower, one and two"
HOSTILE = "</script><script>document.title='broken'</script><img src=x onerror=alert(1)><!--"


def close(a, b, within):
    """Nested lists of numbers, or of strings that are alike."""
    if isinstance(a, list):
        return len(a) == len(b) and all(close(x, y, within) for x, y in zip(a, b))
    return abs(a - b) <= within


class Maps(Case):
    def attention(self, *options, text=TEXT):
        [found], said = self.events("attention", "--model", TINY, "--prompt", text, *options)
        return found, said

    def adapter(self):
        out = self.folder / "adapter"
        if not out.exists():
            self.events("finetune", "--model", TINY, "--data", self.write("d.jsonl", CHAT),
                        "--lr", "0.05", "--steps", 20, "--eval-split", "0", "--out", out)
        return out

    def page(self, *options, text=TEXT):
        out = self.folder / "map.html"
        self.attention("--out", out, *options, text=text)
        return out


class Files(Maps):
    def test_json(self):
        found, said = self.attention()
        self.assertEqual(said, "")
        T, layers, heads = len(found["tokens"]), len(found["layers"]), len(found["heads"])
        self.assertEqual("".join(found["pieces"]), TEXT)
        self.assertTrue(found["causal"])
        self.assertEqual((found["adapters"], "base" in found), ([], False))
        self.assertEqual([len(layer) for layer in found["weights"]], [heads] * layers)
        for layer, mean in zip(found["weights"], found["average"]):
            for head in layer:
                self.assertEqual([len(row) for row in head], list(range(1, T + 1)))
                for row in head:
                    self.assertAlmostEqual(sum(row), 1, places=5)
            for i in range(T):
                for j in range(i + 1):
                    self.assertAlmostEqual(mean[i][j], sum(head[i][j] for head in layer) / heads,
                                           places=6)
        out = self.folder / "map.json"
        told, _ = self.attention("--out", out)
        self.assertEqual(told, {"out": str(out), "tokens": T, "layers": layers, "heads": heads,
                                "cut": 0, "adapted": False})
        self.assertEqual(json.loads(out.read_text()), found)

    def test_parts_of_a_model_and_of_a_text(self):
        whole, _ = self.attention()
        part, _ = self.attention("--layer", 1, "--head", 0)
        self.assertEqual((part["layers"], part["heads"]), ([1], [0]))
        self.assertEqual(part["weights"], [[whole["weights"][1][0]]])
        self.assertEqual(part["entropy"], [[whole["entropy"][1][0]]])
        cut, said = self.attention("--max-length", 4)
        self.assertEqual(cut["tokens"], whole["tokens"][:4])
        self.assertEqual(cut["cut"], len(whole["tokens"]) - 4)
        self.assertIn("the first 4 are shown", said)
        self.assertTrue(close(cut["weights"][0][0], whole["weights"][0][0][:4], 1e-5))
        chat, _ = self.attention("--chat")
        self.assertIn(TEXT, "".join(chat["pieces"]))
        self.assertIn("<|im_start|>", chat["pieces"])

    def test_threads_change_nothing(self):
        one, four = (self.attention("--threads", n)[0] for n in (1, 4))
        self.assertEqual(one, four)

    def test_with_an_adapter_and_without(self):
        plain, _ = self.attention()
        both, _ = self.attention("--adapter", self.adapter())
        self.assertEqual(both["adapters"], [str(self.adapter())])
        self.assertEqual(both["base"]["weights"], plain["weights"])
        self.assertNotEqual(both["weights"], plain["weights"])
        for layer, (a, b, d) in enumerate(zip(both["weights"], both["base"]["weights"],
                                              both["difference"]["weights"])):
            for head, squares in enumerate(zip(a, b, d)):
                total = 0
                for x, y, z in zip(*(sum(square, []) for square in squares)):
                    self.assertAlmostEqual(z, x - y, places=6)
                    total += abs(x - y) / 2
                self.assertAlmostEqual(both["difference"]["change"][layer][head],
                                       total / len(both["tokens"]), places=5)
        none, _ = self.attention("--adapter", f"{self.adapter()}:0")
        self.assertEqual(none["weights"], none["base"]["weights"])
        self.assertEqual(sum(sum(none["difference"]["change"], [])), 0)

    def test_picture(self):
        [doctor], _ = self.events("doctor")
        out = self.folder / "map.png"
        if not doctor["libraries"]["libpng"]:
            self.refused(USAGE, ["libpng"], "attention", "--model", TINY, "--prompt", TEXT,
                         "--out", out)
            return
        found, _ = self.attention()
        self.attention("--layer", 1, "--head", 1, "--out", out)
        width, height, rows = self.pixels(out)
        T = len(found["tokens"])
        scale = (width - 34 - 4) // T
        self.assertEqual((width, height), (34 + T * scale + 4, 18 + T * scale + 4))
        self.assertGreaterEqual(T * scale, 640)
        for i, row in enumerate(found["weights"][1][1]):
            for j in range(T):
                weight = row[j] if j <= i else 0
                at = rows[18 + i * scale + 1][34 + j * scale + 1]
                for got, none, most in zip(at, (247, 245, 240), (16, 62, 84)):
                    self.assertAlmostEqual(got, none + (most - none) * weight ** 0.5, delta=1)
        self.attention("--adapter", self.adapter(), "--show", "difference", "--out", out)
        width, height, rows = self.pixels(out)
        self.assertGreater(len({pixel for row in rows for pixel in row}), 20)

    def pixels(self, path):
        """An 8-bit RGB PNG by Python's own library: width, height, rows of (r, g, b)."""
        data = path.read_bytes()
        self.assertEqual(data[:8], b"\x89PNG\r\n\x1a\n")
        at, packed, head = 8, b"", None
        while at < len(data):
            length, kind = struct.unpack_from(">I4s", data, at)
            part = data[at + 8:at + 8 + length]
            if kind == b"IHDR":
                head = struct.unpack(">IIBBBBB", part)
            packed += part if kind == b"IDAT" else b""
            at += length + 12
        self.assertEqual(head[2:], (8, 2, 0, 0, 0))
        flat, rows, before = zlib.decompress(packed), [], bytearray(3 * head[0])
        for y in range(head[1]):
            start = y * (3 * head[0] + 1)
            filtered, line = flat[start], bytearray(flat[start + 1:start + 1 + 3 * head[0]])
            for i in range(len(line)):
                a, c = (line[i - 3], before[i - 3]) if i >= 3 else (0, 0)
                b = before[i]
                p = [abs(b - c), abs(a - c), abs(a + b - 2 * c)]
                nearest = (a, b, c)[p.index(min(p))]
                line[i] = (line[i] + (0, a, b, (a + b) // 2, nearest)[filtered]) & 255
            rows.append([tuple(line[i:i + 3]) for i in range(0, len(line), 3)])
            before = line
        return head[0], head[1], rows

    def test_what_is_refused(self):
        out = self.folder / "map.html"
        ask = ["attention", "--model", TINY, "--prompt", TEXT]
        self.refused(USAGE, ["--model and --prompt"], "attention", "--out", out)
        self.refused(USAGE, ["--out or --json"], *ask)
        self.refused(USAGE, ["map.pdf", ".html, .png or .json"], *ask, "--out", "map.pdf")
        self.refused(USAGE, ["no layer 9", "0 to"], *ask, "--layer", 9, "--out", out)
        self.refused(USAGE, ["no head 77", "0 to"], *ask, "--head", 77, "--out", out)
        self.refused(USAGE, ["--head", "-1"], *ask, "--head", -1, "--out", out)
        self.refused(USAGE, ["--show difference", "--adapter"], *ask, "--show", "difference",
                     "--out", out)
        self.refused(USAGE, ["diference", "difference"], *ask, "--show", "diference", "--out", out)
        self.refused(USAGE, ["no tokens"], "attention", "--model", TINY, "--prompt", "",
                     "--out", out)
        self.refused(USAGE, ["tokens", "context"], "attention", "--model", TINY, "--prompt",
                     "a" * 5000, "--out", out)
        self.refused(1, ["nowhere"], *ask, "--out", self.folder / "nowhere" / "map.html")
        self.assertFalse(out.exists())

    def test_text_stays_text(self):
        page = self.page(text=HOSTILE).read_text()
        self.assertEqual(page.count("</script>"), 2)
        self.assertNotIn("<img src=x", page)
        self.assertEqual(re.findall("@[A-Z]+@", page), [])


# The weights that the tokens show, and those of the page's own map in numbers.
SHOWN = "[...document.querySelectorAll('.token')].map(t => +t.dataset.weight)"


@unittest.skipUnless(browser.CHROMIUM, "Chromium is not here")
class InTheBrowser(Maps):
    def setUp(self):
        super().setUp()
        self.browser = browser.Browser()
        self.addCleanup(self.browser.close)

    def open(self, page, *size, **how):
        self.browser.open(page, *size, **how)
        self.quiet(page)

    def quiet(self, page):
        self.assertEqual(self.browser.console, [])
        self.assertEqual(self.browser.requests, [pathlib.Path(page).absolute().as_uri()])

    def choose(self, layer, head):
        self.browser.run(f"document.querySelector('.cell[data-layer=\"{layer}\"]"
                         f"[data-head=\"{head}\"]').click()")

    def focus(self, token):
        self.browser.run(f"document.querySelectorAll('.token')[{token}].focus()")

    def select(self, which, value):
        self.browser.run(f"(s => {{ s.value = '{value}'; s.dispatchEvent(new Event('change')); }})"
                         f"(document.getElementById('{which}'))")

    def compare(self, squares, means):
        """What the page shows is what the JSON says, of every token of every head."""
        T = len(squares[0][0])
        for layer, heads in enumerate(squares):
            for head, square in [*enumerate(heads), ("mean", means[layer])]:
                self.choose(layer, head)
                for i in (0, T // 2, T - 1):
                    self.focus(i)
                    wanted = square[i] + [0] * (T - 1 - i)
                    self.assertTrue(close(self.browser.run(SHOWN), wanted, 2e-5))
        self.select("direction", "to")
        self.focus(1)
        wanted = [0] + [row[1] for row in square[1:]]
        self.assertTrue(close(self.browser.run(SHOWN), wanted, 2e-5))
        self.select("direction", "from")

    def test_what_the_page_shows_is_the_json(self):
        options = ("--adapter", self.adapter())
        found, _ = self.attention(*options)
        page = self.page(*options)
        self.open(page)
        self.compare(found["weights"], found["average"])
        self.select("shown", "base")
        self.compare(found["base"]["weights"], found["base"]["average"])
        self.select("shown", "difference")
        self.compare(found["difference"]["weights"], found["difference"]["average"])
        self.select("shown", "adapted")
        for what, values in (("entropy", found["entropy"]), ("distance", found["distance"]),
                             ("change", found["difference"]["change"])):
            self.select("measure", what)
            for layer, heads in enumerate(values):
                shown = self.browser.run("[...document.querySelectorAll('.cell[data-layer=\""
                                         f"{layer}\"]')].map(c => +c.dataset.value)")
                self.assertTrue(close(shown, [sum(heads) / len(heads)] + heads, 1e-5))
            column = ("entropy", "distance", "change").index(what)
            layers = self.browser.run("[...document.querySelectorAll('#layers tbody tr')].map(r => "
                                      f"+r.querySelectorAll('td')[{column}].dataset.value)")
            self.assertTrue(close(layers, [sum(h) / len(h) for h in values], 1e-5))
        self.quiet(page)

    def test_pointing_links_tokens(self):
        found, _ = self.attention()
        page = self.page()
        self.open(page)
        self.choose(1, 0)
        x, y = self.browser.run("(r => [r.x + r.width / 2, r.y + r.height / 2])(document."
                                "querySelectorAll('.token')[5].getBoundingClientRect())")
        self.browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        row = found["weights"][1][0][5]
        self.assertTrue(close(self.browser.run(SHOWN)[:6], row, 2e-5))
        strongest = max(range(6), key=lambda j: row[j])
        self.assertIn(f"{row[strongest]:.3f}"[:4],
                      self.browser.run("document.querySelector('#links').textContent"))
        arcs = self.browser.run("[...document.querySelectorAll('.tokens path')].map(p => +p.dataset.to)")
        self.assertEqual(set(arcs), {j for j in range(5) if row[j] >= 0.005})
        # A canvas holds the colours of the weights.
        pixel = self.browser.run("[...document.querySelector('#matrix canvas').getContext('2d')"
                                 ".getImageData(0, 5, 1, 1).data].slice(0, 3)")
        for got, none, most in zip(pixel, (247, 245, 240), (16, 62, 84)):
            self.assertAlmostEqual(got, none + (most - none) * row[0] ** 0.5, delta=1)
        self.quiet(page)

    def test_on_a_phone_and_in_the_dark(self):
        page, colours = self.page(), []
        for dark in (False, True):
            self.open(page, 360, 740, dark=dark)
            self.assertLessEqual(self.browser.run("document.documentElement.scrollWidth"), 360)
            colours.append(self.browser.run(
                "[getComputedStyle(document.body).backgroundColor, ...document.querySelector("
                "'#matrix canvas').getContext('2d').getImageData(0, 0, 1, 1).data].join()"))
        self.assertNotEqual(*colours)

    def test_by_keyboard(self):
        page = self.page()
        self.open(page)
        where = "(e => [e.dataset.layer, e.dataset.head, e.dataset.token, e.tagName].join())(document.activeElement)"
        self.browser.run("document.body.tabIndex = -1, document.body.focus()")
        reached = set()
        for _ in range(12):
            self.browser.press("Tab")
            reached.add(self.browser.run(where).split(",")[3])
        self.assertLessEqual({"SELECT", "BUTTON", "CANVAS"}, reached)
        self.browser.run("document.querySelector('.cell[tabindex=\"0\"]').focus()")
        self.assertEqual(self.browser.run(where), "0,mean,,BUTTON")
        for key in ("ArrowRight", "ArrowRight", "ArrowDown", "Enter"):
            self.browser.press(key)
        self.assertEqual(self.browser.run(where), "1,1,,BUTTON")
        self.assertRegex(self.browser.run("document.querySelector('#title').textContent"),
                         r"^layer 1, head 1: entropy [\d.]+, distance [\d.]+$")
        self.focus(0)
        self.browser.press("ArrowRight")
        self.assertEqual(self.browser.run(where), ",,1,BUTTON")
        self.assertRegex(self.browser.run("document.querySelector('#links').textContent"),
                         r"\(token 1\) looks at")
        self.browser.run("document.querySelector('#matrix canvas').focus()")
        self.browser.press("ArrowRight")
        self.assertIn("looks at",
                      self.browser.run("document.querySelector('#matrix .readout').textContent"))
        self.quiet(page)

    def test_hostile_text_does_nothing(self):
        page = self.page(text=HOSTILE)
        self.open(page)
        self.assertEqual(self.browser.run("document.title"), "tiny.gguf – Hone attention")
        self.assertEqual(self.browser.run("document.images.length"), 0)


if __name__ == "__main__":
    main()
