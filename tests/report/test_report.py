# SPDX-License-Identifier: Apache-2.0
"""report.html: what is in it, and how it shows in a browser."""
import json
import pathlib
import re
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "cli"))
import browser  # noqa: E402
from support import CHAT, TEXTS, TINY, Case, main  # noqa: E402

USAGE = 2
HOSTILE = "</script><script>document.title='broken'</script><img src=x onerror=alert(1)><!--"


def embedded(page):
    [data] = re.findall(r'<script type="application/json" id="data">(.*?)</script>',
                        page.read_text(), re.DOTALL)
    return json.loads(data)


class Runs(Case):
    def run_to(self, name, *options, data=CHAT):
        out = self.folder / name
        self.events("finetune", "--model", TINY, "--data", self.write(name + ".jsonl", data),
                    "--lr", "0.01", "--out", out, *options)
        return out

    def kept_run(self):
        """One that keeps weights which are not the last ones, on any level of kernels."""
        held_out = self.write("held.jsonl", [{"text": "no no no no yes yes (((((("}])
        return self.run_to("kept", "--eval-data", held_out, "--eval-every", 2, "--steps", 18, "--lr",
                           "0.03", "--schedule", "constant", "--keep", "best", data=TEXTS)


class Report(Runs):
    """The files and what is in the page, without a browser."""

    def test_the_page_holds_the_run(self):
        out = self.run_to("run", "--steps", 30, "--eval-split", "3", "--eval-every", 10)
        [run] = embedded(out / "report.html")["runs"]
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        steps = [line for line in lines if line["event"] == "step"]
        evals = [line for line in lines if line["event"] == "eval"]
        for key in ("step", "loss", "lr", "grad_norm", "tokens", "rss_bytes", "seconds"):
            self.assertEqual(run["steps"][key], [step[key] for step in steps], key)
        self.assertEqual([e["loss"] for e in run["evals"]], [e["loss"] for e in evals])
        self.assertEqual(run["config"], (out / "config.yaml").read_text())
        record = json.loads((out / "run.json").read_text())
        self.assertEqual(run["run"], record)
        self.assertEqual((record["state"], record["plan"]["steps"]), ("done", 30))
        self.assertEqual(sum(record["lengths"]["counts"]), len(CHAT) - 3)
        self.assertEqual(record["plan"]["duplicates"], 0)
        self.assertEqual(len(record["held_out"]), 3)
        # The losses of the examples are those whose mean was reported.
        for when, loss in (("before", evals[0]["loss"]), ("after", evals[-1]["loss"])):
            total = sum(e[when] * e["targets"] for e in record["held_out"])
            self.assertAlmostEqual(total / sum(e["targets"] for e in record["held_out"]), loss,
                                   places=5)
        for sample in record["samples"]:
            self.assertTrue(sample["prompt"])
            self.assertIsInstance(sample["after"], str)
            self.assertIsInstance(sample["before"], str)
        # The layers' gradient norms make up the whole.
        for step in steps:
            norm = sum(value ** 2 for value in step["layer_grad_norm"]) ** 0.5
            self.assertAlmostEqual(norm / step["grad_norm"], 1, places=4)

    def test_an_answer_after_training(self):
        """The model learns its examples by heart: the answers show it, and the base has not."""
        out = self.run_to("run", "--steps", 150, "--eval-data", self.write("same.jsonl", CHAT[:2]),
                          data=CHAT[:2])
        record = json.loads((out / "run.json").read_text())
        self.assertEqual(record["plan"]["duplicates"], 2)
        for sample in record["samples"]:
            self.assertEqual(sample["after"].strip(), sample["answer"])
            self.assertNotEqual(sample["before"].strip(), sample["answer"])

    def test_the_losses_of_the_examples_are_those_of_the_weights_that_were_kept(self):
        out = self.kept_run()
        record = json.loads((out / "run.json").read_text())
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        evals = {line["step"]: line["loss"] for line in lines if line["event"] == "eval"}
        kept = record["done"]["kept_step"]
        self.assertEqual(kept, min((step for step in evals if step), key=evals.get))
        self.assertLess(kept, 18)
        total = sum(e["after"] * e["targets"] for e in record["held_out"])
        mean = total / sum(e["targets"] for e in record["held_out"])
        self.assertAlmostEqual(mean, evals[kept], places=6)
        self.assertGreater(abs(mean - evals[18]), 0.001)

    def test_every_method_has_a_page(self):
        for name, options in (("full", ("--method", "full")), ("text", ())):
            data = [{"text": "the tower and the tree, one, two, three"}] * 8 if name == "text" else CHAT
            out = self.run_to(name, "--steps", 2, "--eval-split", "2", *options, data=data)
            [run] = embedded(out / "report.html")["runs"]
            self.assertTrue(run["run"]["samples"], name)
            self.assertTrue(run["run"]["samples"][0]["answer"])

    def test_remade_and_resumed(self):
        out = self.run_to("run", "--steps", 6, "--eval-split", "2", "--checkpoint-every", 3)
        page = (out / "report.html").read_bytes()
        (out / "report.html").unlink()
        [told], _ = self.events("report", out)
        self.assertEqual((told["out"], told["runs"]), (str(out / "report.html"), 1))
        self.assertEqual((out / "report.html").read_bytes(), page)
        before = [e["before"] for e in json.loads((out / "run.json").read_text())["held_out"]]
        (out / "checkpoint" / "step-000006.safetensors").unlink()
        self.events("finetune", "--resume", out)
        record = json.loads((out / "run.json").read_text())
        self.assertEqual([e["before"] for e in record["held_out"]], before)
        self.assertEqual(record["state"], "done")

    def test_several_runs(self):
        a = self.run_to("a", "--steps", 3)
        b = self.run_to("b", "--steps", 4, "--rank", 2)
        self.refused(USAGE, ["--out"], "report", a, b)
        page = self.folder / "both.html"
        self.events("report", a, b, "--out", page)
        self.assertEqual([run["folder"] for run in embedded(page)["runs"]], [str(a), str(b)])

    def test_bad_folders(self):
        out = self.run_to("run", "--steps", 2)
        self.refused(USAGE, ["rum", f"did you mean {out}?"], "report", self.folder / "rum")
        self.refused(USAGE, ["metrics.jsonl"], "report", self.folder)
        self.refused(USAGE, ["which run"], "report")
        metrics = out / "metrics.jsonl"
        whole = metrics.read_text()
        metrics.write_text(whole + '{"event":"step","st')  # killed while it was written
        self.events("report", out)
        page = (out / "report.html").read_bytes()
        metrics.write_text(whole + "not JSON\n")
        self.refused(USAGE, [f"metrics.jsonl:{len(whole.splitlines()) + 1}: "], "report", out)
        self.assertEqual((out / "report.html").read_bytes(), page)
        metrics.write_text(whole)
        (out / "run.json").write_text("{")
        self.refused(USAGE, ["run.json:1: is not the record"], "report", out)
        (out / "run.json").unlink()
        self.events("report", out)

    def test_text_of_the_data_stays_text(self):
        data = [{"prompt": f"{HOSTILE} {i}", "completion": HOSTILE} for i in range(6)]
        out = self.run_to("run", "--steps", 2, "--eval-split", "2", data=data)
        page = (out / "report.html").read_text()
        self.assertEqual(page.count("</script>"), 2)
        self.assertNotIn("<img src=x", page)
        [run] = embedded(out / "report.html")["runs"]
        self.assertIn(HOSTILE, run["run"]["held_out"][0]["text"])


# What was drawn, in the numbers of its axes.
DRAWN = """(() => { const out = {};
for (const plot of document.querySelectorAll("svg[data-chart]")) {
  const d = plot.dataset, series = {};
  const [x0, x1, y0, y1, l, r, t, b] = [d.x0, d.x1, d.y0, d.y1, d.left, d.right, d.top, d.bottom].map(Number);
  for (const path of plot.querySelectorAll("path[data-series]"))
    series[path.dataset.series] = [...path.getAttribute("d").matchAll(/[ML]([-\\d.]+) ([-\\d.]+)/g)].map(m =>
      [x0 + (m[1] - l) / (r - l) * (x1 - x0), y0 + (b - m[2]) / (b - t) * (y1 - y0)]);
  out[d.chart] = {series, height: y1 - y0};
}
return out; })()"""


@unittest.skipUnless(browser.CHROMIUM, "Chromium is not here")
class InTheBrowser(Runs):
    def setUp(self):
        super().setUp()
        self.browser = browser.Browser()
        self.addCleanup(self.browser.close)

    def quiet(self, page):
        self.assertEqual(self.browser.console, [])
        self.assertEqual(self.browser.requests, [pathlib.Path(page).absolute().as_uri()])

    def test_curves(self):
        out = self.run_to("run", "--steps", 40, "--eval-split", "2", "--eval-every", 10)
        page = out / "report.html"
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        steps = [line for line in lines if line["event"] == "step"]
        evals = [line for line in lines if line["event"] == "eval"]
        self.browser.open(page)
        self.quiet(page)
        drawn = self.browser.run(DRAWN)
        for chart, series, key, wanted in (("loss", "training, each step", "loss", steps),
                                           ("loss", "held out", "loss", evals),
                                           ("lr", "learning rate", "lr", steps),
                                           ("grad", "gradient norm", "grad_norm", steps),
                                           ("speed", "tokens a second", "tokens_per_s", steps),
                                           ("memory", "resident", "rss_bytes", steps)):
            points, pixel = drawn[chart]["series"][series], drawn[chart]["height"] / 150
            self.assertEqual(len(points), len(wanted), chart)
            for (x, y), line in zip(points, wanted):
                self.assertAlmostEqual(x, line["step"], delta=0.2)
                self.assertAlmostEqual(y, line[key], delta=pixel)
        words = self.browser.run("document.body.innerText")
        self.assertIn(f"{evals[0]['loss']:.4f} → {evals[-1]['loss']:.4f}", words)
        self.assertIn("hone finetune --config", words)
        losses = self.browser.run(
            "[...document.querySelectorAll('#held-out details')].map(d => +d.dataset.loss)")
        self.assertEqual(losses, sorted(losses, reverse=True))
        self.assertEqual(len(losses), 2)

    def test_what_was_kept_is_told(self):
        out = self.kept_run()
        self.browser.open(out / "report.html")
        self.quiet(out / "report.html")
        record = json.loads((out / "run.json").read_text())
        kept = record["done"]["kept_step"]
        [evaluated] = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()
                       if f'"event":"eval","step":{kept},' in line]
        words = self.browser.run("document.body.innerText")
        self.assertIn(f"The weights of step {kept}, ", words)
        self.assertIn(f"→ {evaluated['loss']:.4f}", words)
        [(x, y)] = self.browser.run(DRAWN)["loss"]["series"]["kept"]
        self.assertAlmostEqual(x, kept, delta=0.2)

    def test_on_a_phone_and_in_the_dark(self):
        out = self.run_to("run", "--steps", 5, "--eval-split", "2")
        colours = []
        for dark in (False, True):
            self.browser.open(out / "report.html", 360, 740, dark)
            self.quiet(out / "report.html")
            self.assertLessEqual(self.browser.run("document.documentElement.scrollWidth"), 360)
            colours.append(self.browser.run("getComputedStyle(document.body).backgroundColor"))
            small = self.browser.run("Math.min(...[...document.querySelectorAll('svg[data-chart] "
                                     "text')].map(t => t.getBoundingClientRect().height))")
            self.assertGreater(small, 9)
        self.assertNotEqual(*colours)

    def test_by_keyboard(self):
        out = self.run_to("run", "--steps", 5, "--eval-split", "2")
        self.browser.open(out / "report.html")
        self.browser.run("document.querySelector('svg[data-chart=loss]').focus()")
        self.browser.press("ArrowRight")
        self.browser.press("ArrowRight")
        self.assertRegex(self.browser.run("document.querySelector('#loss .readout').textContent"),
                         r"^step 1: training, each step [\d.]+")
        self.browser.run("document.querySelector('#held-out summary').focus()")
        self.browser.press("Enter")
        self.assertTrue(self.browser.run("document.querySelector('#held-out details').open"))
        reached = set()
        self.browser.run("document.activeElement.blur(), scrollTo(0, 0)")
        for _ in range(60):
            self.browser.press("Tab")
            reached.add(self.browser.run("(e => e.dataset.chart || e.tagName + (e.type || ''))"
                                         "(document.activeElement)"))
        for what in ("loss", "lr", "layers", "INPUTrange", "INPUTcheckbox", "SUMMARY", "A",
                     "SELECTselect-one", "BUTTONbutton"):
            self.assertIn(what, reached)
        self.quiet(out / "report.html")

    def test_runs_beside_each_other(self):
        a, b = self.run_to("a", "--steps", 3), self.run_to("b", "--steps", 4, "--rank", 2)
        page = self.folder / "both.html"
        self.events("report", a, b, "--out", page)
        self.browser.open(page, 360)
        self.quiet(page)
        self.assertLessEqual(self.browser.run("document.documentElement.scrollWidth"), 360)
        self.assertIn("rank", self.browser.run("document.querySelector('#options').innerText"))
        drawn = self.browser.run(DRAWN)
        self.assertEqual([len(drawn["lr"]["series"][name]) for name in ("a", "b")], [3, 4])

    def test_hostile_text_does_nothing(self):
        data = [{"prompt": f"{HOSTILE} {i}", "completion": HOSTILE} for i in range(6)]
        out = self.run_to("run", "--steps", 2, "--eval-split", "2", data=data)
        self.browser.open(out / "report.html")
        self.quiet(out / "report.html")
        self.assertEqual(self.browser.run("document.title"), "run – Hone report")
        self.assertEqual(self.browser.run("document.images.length"), 0)
        self.assertIn("onerror=alert(1)", self.browser.run("document.body.textContent"))


if __name__ == "__main__":
    main()
