# SPDX-License-Identifier: Apache-2.0
"""Every command of the guides is run on a tiny model, and every option that the documentation names
is one that its command has."""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "cli"))
import guides  # noqa: E402
from support import HONE, TINY, Case, main  # noqa: E402

PAGES = [guides.ROOT / "README.md", *sorted((guides.ROOT / "docs").rglob("*.md")),
         *sorted((guides.ROOT / "recipes").rglob("*.md"))]
COMMAND = re.compile(r"(?:^|[\s`(|/])hone ([a-z]+)((?:[^`\n\\]|\\\n)*)")
OPTION = re.compile(r"(?<![\w-])--([a-z][a-z0-9-]*)")


class Guides(Case):
    def setUp(self):
        super().setUp()
        (self.folder / "bin").mkdir()
        (self.folder / "bin" / "hone").symlink_to(HONE)
        self.environment = {**os.environ, "NO_COLOR": "1",
                            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}"}
        self.environment.pop("PKG_CONFIG_PATH", None)

    def install(self):
        """The build, installed beside the guide; where there is one to install."""
        build, prefix = os.environ.get("HONE_BUILD", "none"), self.folder / "installed"
        if build == "none":
            return
        subprocess.run([os.environ["HONE_CMAKE"], "--install", build, "--prefix", prefix],
                       check=True, stdout=subprocess.DEVNULL)
        [found] = prefix.rglob("hone.pc")
        self.environment.update(PKG_CONFIG_PATH=str(found.parent),
                                LD_LIBRARY_PATH=str(found.parent.parent))

    def run_guide(self, path):
        folder = self.folder / path.stem
        folder.mkdir()
        (folder / "SmolLM2.gguf").symlink_to(TINY)
        return guides.run(path, folder, self.environment)

    def test_every_command_of_the_guides_runs(self):
        self.assertGreater(len(guides.GUIDES), 5)
        self.install()
        for path in guides.GUIDES:
            self.assertTrue(guides.blocks(path), path)
            self.assertIsNone(self.run_guide(path))

    def test_a_stale_command_is_found(self):
        """Without it the test above would prove nothing."""
        with tempfile.TemporaryDirectory(dir=guides.ROOT / "tests" / "guides") as folder:
            for name, text, says in (
                    ("option.md", "```sh\nhone inspect --no-such-option SmolLM2.gguf\n```\n",
                     "no-such-option"),
                    ("later.md", "text\n\n```sh\ntrue\nfalse\ntrue\n```\n", ":4: ended with 1"),
                    ("file.md", "```sh outside\nllama-cli -m not-there.gguf\n```\n",
                     "not-there.gguf is not there")):
                path = pathlib.Path(folder) / name
                path.write_text(text)
                self.assertIn(says, self.run_guide(path))

    def options_of(self, command):
        schema = self.hone(command, "--help=markdown").stdout
        return set(OPTION.findall(schema))

    def test_the_documentation_names_options_that_there_are(self):
        known, checked, wrong = {}, 0, []
        for path in PAGES:
            for command, rest in COMMAND.findall(path.read_text()):
                if command not in known:
                    done = self.hone(command, "--help=markdown")
                    known[command] = (set(OPTION.findall(done.stdout)) if done.returncode == 0
                                      else None)
                for option in OPTION.findall(rest.split(" && ")[0].split("; ")[0]):
                    checked += 1
                    if known[command] is not None and option not in known[command] | {"help"}:
                        wrong.append(f"{path.relative_to(guides.ROOT)}: hone {command} has no "
                                     f"--{option}")
        self.assertEqual(wrong, [])
        self.assertGreater(checked, 100)

    def test_links_lead_somewhere(self):
        wrong = []
        for path in PAGES:
            for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text()):
                if "://" not in target and not (path.parent / target).exists():
                    wrong.append(f"{path.relative_to(guides.ROOT)}: {target} is not there")
        self.assertEqual(wrong, [])

    def test_code_in_the_guides_has_the_projects_form(self):
        for path in guides.GUIDES:
            for language, beside, text, line in guides.blocks(path):
                self.assertIn(language, ("sh", "c", "python", "json", "text", "cmake"),
                              f"{path.name}:{line}")
                if language == "json":
                    json.loads(text)


if __name__ == "__main__":
    main()
