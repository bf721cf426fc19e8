# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the interop tests: the program under test and the reference model.

    HONE_BINARY=build/release/hone HONE_MODEL=model.gguf \\
        "$(scripts/interop-env)" -m pytest tests/interop
"""
import os
import pathlib
import subprocess
import sys

import pytest

# torch and llama.cpp wait for their threads by spinning, which on a machine that has other things
# to do makes everything ten times slower. Read when the libraries are loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def pytest_configure(config):
    # Between releases of PEFT and transformers; nothing of Hone's.
    config.addinivalue_line("filterwarnings", "ignore:.is_gradient_checkpointing. is deprecated")


def _path_from(name):
    path = os.environ.get(name)
    if not path:
        pytest.skip(f"{name} is not set")
    if not os.path.exists(path):
        pytest.fail(f"{name} names {path}, which does not exist")
    return os.path.abspath(path)


@pytest.fixture(scope="session")
def hone():
    return _path_from("HONE_BINARY")


@pytest.fixture(scope="session")
def model():
    return _path_from("HONE_MODEL")


@pytest.fixture(scope="session")
def built(hone):
    """built("tests/io/adapter_tool"): a test program of the build that this `hone` belongs to."""

    def find(name):
        for folder in pathlib.Path(hone).resolve().parents:
            if (folder / name).exists():
                return str(folder / name)
        pytest.fail(f"{name} is not beside {hone}: was it built with -DHONE_TESTS=ON?")

    return find


@pytest.fixture(scope="session")
def package(hone, tmp_path_factory):
    """A folder with the Python package, as pip installs it; built beside this `hone`, as far as it has
    changed."""
    source = pathlib.Path(__file__).resolve().parent.parent.parent / "bindings" / "python"
    folder = tmp_path_factory.mktemp("package")
    build = pathlib.Path(hone).parent.parent / "python"
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps",
         "--no-build-isolation", "--target", folder, "-C", f"build-dir={build}", source],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    return folder
