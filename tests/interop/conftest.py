# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the interop tests: the program under test and the reference model.

    HONE_BINARY=build/hone HONE_MODEL=model.gguf "$(scripts/interop-env)" -m pytest tests/interop
"""
import os

import pytest


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
