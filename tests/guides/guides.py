# SPDX-License-Identifier: Apache-2.0
"""The blocks of the guides in docs/guides, and how they are run.

    ```sh             run, by a shell that stops at the first failure
    ```sh installed   run with the library where pkg-config finds it
    ```sh outside     of another program: not run, but the files that it names must be there
    ```c NAME         written to NAME
    ```python         run where its modules are there (tests/interop)
    ```json, text, …  shown
"""
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))
BLOCK = re.compile(r"^```(\w*) ?(.*)\n((?:.*\n)*?)```$", re.MULTILINE)


def blocks(path):
    """(language, what stands beside it, text, line) of each."""
    text = path.read_text()
    return [(*match.groups(), text[:match.start()].count("\n") + 2)
            for match in BLOCK.finditer(text)]


def files_of(text):
    """What the commands of a block name that can only be a file."""
    return re.findall(r"[\w./-]+\.(?:gguf|jsonl|safetensors)|\bModelfile\b", text)


def command_of(language, beside, text, environment, python):
    """What runs a block; None: nothing does."""
    if language == "sh" and (beside == "" or
                             beside == "installed" and "PKG_CONFIG_PATH" in environment):
        return ["bash", "-euo", "pipefail", "-c", text]
    return [python, "-c", text] if language == "python" and python else None


def run(path, folder, environment, python=None):
    """Run a guide in a folder; what went wrong, or None."""
    for language, beside, text, line in blocks(path):
        where = f"{path.relative_to(ROOT)}:{line}"
        if language == "c" and beside:
            (folder / beside).write_text(text)
        if (language, beside) == ("sh", "outside"):
            missing = [name for name in files_of(text) if not (folder / name).exists()]
            if missing:
                return f"{where}: {missing[0]} is not there"
        command = command_of(language, beside, text, environment, python)
        if not command:
            continue
        done = subprocess.run(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              errors="replace", timeout=300)
        if done.returncode != 0:
            return f"{where}: ended with {done.returncode}:\n{done.stdout[-2000:]}"
    return None
