# SPDX-License-Identifier: Apache-2.0
"""Adapters of every kind on the decoder families whose layers differ from Llama's: fused matrices
(Phi-3), norms of q and k (Qwen3), norms stored less 1 and soft-caps (Gemma). From PEFT, to PEFT, to
llama.cpp and back, and merged."""
import pathlib
import shutil
import tempfile

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
pytest.importorskip("llama_cpp")
pytest.importorskip("gguf")
import decoders
import peers
import test_adapters
from test_same_files import PROBES
from test_same_training import gradients
from transformers.utils import logging

assert gradients  # a fixture
CASES = [("dora", "gemma2"), ("dora", "gemma3"), ("dora", "qwen3"), ("dora", "phi3"),
         ("dora-head", "phi3"), ("embed-head", "gemma2"), ("embed-head", "gemma3"),
         ("embed-head", "qwen3"), ("embed-head", "phi3"), ("rslora", "phi3"), ("whole", "gemma2"),
         ("whole", "gemma3"), ("whole", "qwen3"), ("whole-dora", "phi3"),
         ("bias-all", "qwen2"), ("bias-lora", "qwen2")]


@pytest.fixture(scope="module")
def tiny(hone):
    """As test_adapters has it; the GGUF file is Hone's of transformers' folder."""
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="hone-family-adapters-"))
    probes = peers.write_texts(folder / "probes.jsonl", PROBES)

    def make(name):
        path = folder / f"{name}.gguf"
        if not path.exists():
            (folder / name).mkdir()
            hf = decoders.SHAPES[name].save(folder / name / "hf")
            peers.run_hone(hone, "convert", hf, "--to", "gguf", "--out", path)
        return decoders.SHAPES[name], path, probes, peers.examples_of(hone, path, probes)

    yield make
    shutil.rmtree(folder)


@pytest.mark.parametrize("kind, name", CASES)
def test_from_peft(hone, tiny, tmp_path, kind, name):
    """PEFT's folder gives PEFT's numbers; as a GGUF adapter, where there is that form, llama.cpp's;
    and that as PEFT's again."""
    shape, path, probes, examples = tiny(name)
    model = shape.transformers_model()
    adapter = test_adapters.adapter_of(model, tmp_path / "adapter", kind)
    ours = peers.hone_logprobs(hone, path, probes, "--adapter", adapter)
    base = peers.hone_logprobs(hone, path, probes)
    assert peers.largest_difference(ours, base) > 0.05
    peer = peers.with_adapter(model.double(), adapter)
    test_adapters.check_close(ours, peers.torch_logprobs(peer, examples), 1e-4, "PEFT")
    if "dora" in kind or "whole" in kind or "bias" in kind or (kind == "embed-head" and model.config.tie_word_embeddings):
        return
    to_gguf, back = tmp_path / "adapter.gguf", tmp_path / "back"
    peers.run_hone(hone, "convert", adapter, "--model", path, "--to", "gguf", "--out", to_gguf)
    test_adapters.check_llama_cpp(ours, hone, tiny(name), to_gguf)
    peers.run_hone(hone, "convert", to_gguf, "--model", path, "--to", "peft", "--out", back)
    peer = peers.with_adapter(shape.transformers_model().double(), back)
    test_adapters.check_close(ours, peers.torch_logprobs(peer, examples), 1e-4, "PEFT, from GGUF")


@pytest.mark.parametrize("kind, name", CASES)
def test_gradients(hone, gradients, tiny, tmp_path, kind, name):  # noqa: F811
    test_adapters.test_gradients(hone, gradients, tiny, tmp_path, kind, name, 0.1)


@pytest.mark.parametrize("kind, name", CASES)
def test_files_of_a_run(hone, tiny, tmp_path, kind, name):
    test_adapters.test_files_of_a_run(hone, tiny, tmp_path, kind, name)
