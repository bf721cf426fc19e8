# SPDX-License-Identifier: Apache-2.0
"""One table of options: the pages, schemas and completions that come from it, and near words."""
import json
import pathlib
import re
import shutil
import subprocess
import unittest

from support import CHAT, HONE, TINY, Case, main

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
USAGE = 2


def printed(*arguments):
    return subprocess.run([HONE, *arguments], check=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, universal_newlines=True, timeout=60).stdout


def commands():
    return re.findall(r"^  (?!hone )([a-z]+) ", printed("--help"), re.MULTILINE)


def options(command):
    return re.findall(r"^  --([a-z0-9-]+)", printed(command, "--help"), re.MULTILINE)


class Pages(Case):
    def test_the_page_of_options_is_not_stale(self):
        page = (ROOT / "docs" / "options.md").read_text()
        self.assertEqual(page, printed("--help=markdown"), "docs/options.md is stale: make docs")

    def test_the_documentation_names_options_that_there_are(self):
        known = {command: set(options(command)) for command in commands()}
        for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")),
                     *sorted((ROOT / "recipes").glob("*/README.md"))]:
            for number, line in enumerate(path.read_text().splitlines(), 1):
                for command, rest in re.findall(r"\bhone ([a-z]+)\b([^`|]*)", line):
                    for name in re.findall(r"(?<!\S)--([a-z][a-z0-9-]*)", rest):
                        if command in known:
                            self.assertIn(name, known[command],
                                          f"{path}:{number}: hone {command} has no --{name}")

    def test_behind_two_dashes_stand_no_options(self):
        self.write("--json", "{}")
        data = self.write("data.jsonl", CHAT)
        done = self.hone("inspect", "--", "--json", cwd=self.folder)
        self.assertIn("--json", done.stdout + done.stderr)
        self.assertNotIn("usage", done.stderr)
        self.refused(USAGE, ['"--steps" was not expected'], "finetune", "--model", TINY, "--data", data,
                     "--out", self.folder / "run", "--", "--steps", 1)
        self.refused(USAGE, ['"--help" was not expected'], "finetune", "--", "--help")
        got, _ = self.events("tokenize", "--model", TINY, "--")
        self.assertEqual(got, [{"tokens": []}])

    def test_limits_are_those_that_are_let_through(self):
        """A message of what is wanted names no 0 where 0 is refused."""
        data = self.write("data.jsonl", CHAT)
        for name in ("rank", "layers", "steps", "batch", "batch-tokens", "accumulate", "eval-every",
                     "patience", "log-norms", "lr", "alpha", "epochs"):
            command = ["finetune", "--model", TINY, "--data", data, "--out", self.folder / "run"]
            line = self.refused(USAGE, [f"--{name} is "], *command, f"--{name}", 2147483647)
            self.assertRegex(line, r"want (1 to|1e-\S+ to|above 0, at most) \d")
            self.refused(USAGE, [f"--{name} is "], *command, f"--{name}", 0)
        for name in ("encoder-layers", "kv-heads", "head-size", "feed-forward", "min-frequency"):
            line = self.refused(USAGE, [f"{name} is "], "train", "--architecture", "transformer",
                                "--data", data, "--out", self.folder / "run", f"--{name}", 2147483647)
            self.assertIn("want 1 to ", line)

    def test_man_pages(self):
        groff = shutil.which("groff")
        for command in commands():
            page = printed(command, "--help=man")
            self.assertIn(f"hone\\-{command} \\- ", page)
            for name in options(command):
                self.assertIn("\\fB\\-\\-" + name.replace("-", "\\-") + "\\fR", page)
            if groff:
                done = subprocess.run([groff, "-man", "-ww", "-z"], input=page.encode(),
                                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
                self.assertEqual(done.stdout, b"", command)
        self.assertIn("hone\\-finetune", printed("--help=man"))

    def test_schema(self):
        """It knows every name and value of a config.yaml that a run has written."""
        schema = json.loads(printed("finetune", "--help=schema"))["properties"]
        self.assertEqual(sorted(schema), sorted(options("finetune")))
        self.assertEqual(schema["method"]["enum"][0], "lora")
        out = self.folder / "run"
        self.events("finetune", "--model", TINY, "--data", self.write("d.jsonl", CHAT), "--out", out,
                    "--steps", "2")
        types = {"string": str, "integer": int, "number": (int, float), "boolean": bool}
        for line in (out / "config.yaml").read_text().splitlines():
            if not re.match(r"[a-z0-9-]+: \S", line):
                continue
            name, value = line.split(": ", 1)
            value, entry = json.loads(value), schema[name]
            wanted = entry["type"] if isinstance(entry["type"], list) else [entry["type"]]
            if "array" not in wanted:
                self.assertTrue(any(isinstance(value, types[kind]) for kind in wanted), line)
            self.assertIn(value, entry.get("enum", [value]))
        self.refused(USAGE, ["no config file"], "inspect", "--help=schema")
        self.refused(USAGE, ["man"], "inspect", "--help=mann")

    def test_every_help_fits_a_page(self):
        for command in commands():
            page = printed(command, "--help")
            for line in page.splitlines():
                self.assertLessEqual(len(line), 100, line)
            self.assertIn("usage: hone " + command, page)


class Completion(Case):
    def bash(self, *words):
        script = 'source <("$0" completion bash); COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); ' \
                 '_hone; printf "%s\\n" "${COMPREPLY[@]}"'
        done = subprocess.run(["bash", "-c", script, HONE, *words], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, universal_newlines=True, cwd=self.folder)
        self.assertEqual(done.stderr, "")
        return done.stdout.split()

    @unittest.skipUnless(shutil.which("bash"), "bash is not here")
    def test_bash(self):
        (self.folder / "tiny.gguf").touch()
        (self.folder / "runs").mkdir()
        self.assertEqual(self.bash("hone", "fin"), ["finetune"])
        self.assertEqual(self.bash("hone", "finetune", "--meth"), ["--method"])
        self.assertEqual(self.bash("hone", "finetune", "--method", ""), ["lora", "dora", "full"])
        self.assertEqual(self.bash("hone", "eval", "--model", "ti"), ["tiny.gguf"])
        self.assertEqual(self.bash("hone", "finetune", "--out", ""), ["runs"])
        self.assertEqual(self.bash("hone", "bench", "lay"), ["layer"])
        self.assertEqual(self.bash("hone", "finetune", "--rank", ""), [])
        self.assertIn("--model", self.bash("hone", "finetune", ""))
        for command in commands():
            self.assertEqual(sorted(self.bash("hone", command, "--")),
                             sorted("--" + name for name in options(command)))

    @unittest.skipUnless(shutil.which("zsh"), "zsh is not here")
    def test_zsh(self):
        script = self.write("_hone", printed("completion", "zsh"))
        done = subprocess.run(["zsh", "-n", script], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, universal_newlines=True)
        self.assertEqual((done.returncode, done.stdout), (0, ""))
        # What _arguments is given, in place of it.
        ask = 'function compdef { }; function _arguments { print -rl -- "$@" }; source "$1"; ' \
              'words=(hone "$2" ""); CURRENT=3; _hone'
        for command in commands():
            done = subprocess.run(["zsh", "-f", "-c", ask, "zsh", script, command],
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  universal_newlines=True)
            self.assertEqual(sorted(re.findall(r"^\*?--([a-z0-9-]+)=?\[", done.stdout, re.M)),
                             sorted(options(command)), done.stdout)

    @unittest.skipUnless(shutil.which("fish"), "fish is not here")
    def test_fish(self):
        script = self.write("hone.fish", printed("completion", "fish"))
        for typed, wanted in (("hone finetune --metho", "--method"),
                              ("hone finetune --method l", "lora"), ("hone ev", "eval"),
                              ("hone bench lay", "layer")):
            ask = f"source {script}; complete -C '{typed}'"
            done = subprocess.run(["fish", "--no-config", "-c", ask], stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, universal_newlines=True,
                                  env={"HOME": str(self.folder), "PATH": "/usr/bin:/bin"})
            self.assertIn(wanted, [line.split("\t")[0] for line in done.stdout.splitlines()],
                          done.stdout + done.stderr)

    def test_of_another_shell(self):
        self.refused(USAGE, ["bash, zsh or fish", "did you mean bash?"], "completion", "bsh")


class NearWords(Case):
    def test_words(self):
        data = self.write("tickets.jsonl", CHAT)
        run = ["finetune", "--model", TINY, "--data", data, "--out", self.folder / "out"]
        self.refused(USAGE, ["--method", "lora, dora or full", "did you mean lora?"], *run, "--method",
                     "lorra")
        self.refused(USAGE, ["--rank?"], *run, "--rnak", "3")
        self.refused(USAGE, ["method", "did you mean full?"], *run, "--config",
                     self.write("c.yaml", "method: ful\n"))
        self.refused(USAGE, ["attention, layer", "did you mean layer?"], "bench", "layr")
        self.refused(USAGE, ["did you mean finetune?"], "finetnue")

    def test_files(self):
        data = self.write("tickets.jsonl", CHAT)
        wrong = str(self.folder / "tickts.jsonl")
        self.refused(USAGE, [wrong, f"did you mean {data}?"], "eval", "--model", TINY, "--data",
                     wrong)
        done = self.hone("eval", "--model", TINY, "--data", self.folder / "nothing-like-it")
        self.assertEqual(done.returncode, USAGE)
        self.assertNotIn("did you mean", done.stderr)
        shutil.copy(TINY, self.folder / "small.gguf")
        self.refused(USAGE, [f"did you mean {self.folder}/small.gguf?"], "inspect",
                     self.folder / "smal.gguf")
        done = subprocess.run([HONE, "inspect", "smal.gguf"], cwd=self.folder,
                              stderr=subprocess.PIPE, universal_newlines=True)
        self.assertIn("did you mean small.gguf?", done.stderr)


class Doctor(Case):
    def test_doctor(self):
        [told], said = self.events("doctor", "--seconds", "0.01")
        self.assertEqual(said, "")
        self.assertIn(told["isa"], told["levels"])
        self.assertLess(0, told["peak_gflops"])
        self.assertLess(0, told["matmul_gflops"]["q4_1"])
        self.assertEqual(told["levels"], told["levels_built"][:len(told["levels"])])
        self.assertTrue(told["libraries"]["PCRE2"].startswith("10."))
        [one], _ = self.events("doctor", "--seconds", "0.01", "--isa", "generic", "--threads", "1")
        self.assertEqual((one["isa"], one["threads"]), ("generic", 1))
        if told["levels"] != ["generic"]:
            self.assertIn("generic is forced by --isa", " ".join(one["advice"]))
        text = self.hone("doctor", "--seconds", "0.01").stdout
        for words in ("processor", "memory", "kernels", "GF/s", "jansson"):
            self.assertIn(words, text)

    def test_version(self):
        self.assertRegex(printed("--version"), r"^hone \d+\.\d+\.\d+ generic")


if __name__ == "__main__":
    main()
