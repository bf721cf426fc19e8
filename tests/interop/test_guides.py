# SPDX-License-Identifier: Apache-2.0
"""The Python of the guides, and the commands around it: what Hone writes, loaded as the guides say. The
commands alone are run by tests/guides."""
import os
import pathlib
import sys

import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")
pytest.importorskip("llama_cpp")
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "guides"))
import guides  # noqa: E402

WITH_PYTHON = [path for path in guides.GUIDES
               if any(language == "python" for language, *_ in guides.blocks(path))]


@pytest.mark.parametrize("path", WITH_PYTHON, ids=lambda path: path.stem)
def test_guide(hone, package, tmp_path, path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "hone").symlink_to(hone)
    folder = tmp_path / "guide"
    folder.mkdir()
    (folder / "SmolLM2.gguf").symlink_to(HERE.parent / "fixtures" / "tiny.gguf")
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
                   "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(package)}
    assert guides.run(path, folder, environment, sys.executable) is None


def test_there_are_some():
    assert WITH_PYTHON
