# SPDX-License-Identifier: Apache-2.0
"""The files that Hone writes, loaded by PEFT, transformers and llama.cpp, give Hone's own numbers.

llama.cpp computes with an f32 cache and without flash attention. On quantised and on F16 matrices
it rounds the activations to what the matrix has; there means and correlations are compared.
"""
import pathlib
import shutil
import subprocess
import sys
import tempfile

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
pytest.importorskip("llama_cpp")
gguf = pytest.importorskip("gguf")
import gguf_to_hf
import models
import numpy as np
import peers
from test_same_training import LINES

# What the adapters are tried on: near to what they learnt, and far from it.
PROBES = LINES[:3] + ["The museum is closed on Monday.", "static int x = 42; // the answer",
                      "昨天下雨了。 🙂 10, 9, 8"]


@pytest.fixture(scope="module")
def folder():
    """Large files: away when the tests are done, unlike pytest's own temporary folders."""
    path = tempfile.mkdtemp(prefix="hone-files-")
    yield pathlib.Path(path)
    shutil.rmtree(path)


def flat(arrays):
    return np.concatenate(arrays)


def check_rounded(ours, theirs, ours_base, theirs_base, what):
    """llama.cpp rounded the activations: the mean difference, and the adapter's effect."""
    a, b = flat(ours), flat(theirs)
    effect = np.corrcoef(a - flat(ours_base), b - flat(theirs_base))[0, 1]
    print(f"{what}: mean difference {np.abs(a - b).mean():.2e}, worst {np.abs(a - b).max():.2e}, "
          f"effects correlate {effect:.5f}")
    assert np.abs(a - b).mean() <= 5e-2, what
    assert effect >= 0.99, what


def check_close(ours, theirs, limit, what):
    worst = peers.largest_difference(ours, theirs)
    print(f"{what}: worst {worst:.2e}")
    assert worst <= limit, what


def check_converter(run, config):
    """adapter.gguf is what llama.cpp's own converter makes of the PEFT folder, bit for bit. Returns
    the number of its tensors."""
    base, made = run.parent / f"{run.name}-base", run.parent / f"{run.name}-converted.gguf"
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(base)
    script = pathlib.Path(sys.prefix) / "llama.cpp" / "convert_lora_to_gguf.py"
    done = subprocess.run([sys.executable, "-B", script, "--base", base, "--outtype", "f32",
                           "--outfile", made, run], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    ours, theirs = (gguf.GGUFReader(path) for path in (run / "adapter.gguf", made))
    for key in ("adapter.lora.alpha", "adapter.type", "general.architecture", "general.type"):
        assert ours.fields[key].contents() == theirs.fields[key].contents(), key
    wanted = {tensor.name: tensor for tensor in theirs.tensors}
    assert {tensor.name for tensor in ours.tensors} == set(wanted)
    for tensor in ours.tensors:
        other = wanted[tensor.name]
        assert tensor.tensor_type == other.tensor_type, tensor.name
        assert np.array_equal(tensor.data, other.data), tensor.name
    return len(wanted)


# ---- tiny models: every shape ------------------------------------------------------------------


@pytest.mark.parametrize("name", models.SHAPES)
def test_tiny_adapter_and_merged_files(hone, folder, name):
    shape = models.SHAPES[name]
    folder = folder / name
    folder.mkdir()
    path = shape.write_gguf(folder / "tiny.gguf")
    data = peers.write_texts(folder / "texts.jsonl", LINES)
    run = folder / "run"
    peers.finetune(hone, path, data, run, "--rank", 4, "--alpha", 8, "--steps", 12, "--lr", 2e-2,
                   "--batch", 8)
    probes = peers.write_texts(folder / "probes.jsonl", PROBES)
    examples = peers.examples_of(hone, path, probes)
    base = peers.hone_logprobs(hone, path, probes)
    ours = peers.hone_logprobs(hone, path, probes, "--adapter", run)
    assert np.abs(flat(ours) - flat(base)).mean() > 0.1  # the adapter does something
    # Hone reads its GGUF adapter as it reads its PEFT folder.
    again = peers.hone_logprobs(hone, path, probes, "--adapter", run / "adapter.gguf")
    check_close(ours, again, 0, "Hone, adapter.gguf")

    model = shape.transformers_model().double()
    if model.config.model_type != "gpt2":  # whose adapters the converter turns as if they were weights
        assert check_converter(run, model.config) == 2 * shape.matrices * shape.layers
    check_close(ours, peers.torch_logprobs(peers.with_adapter(model, run), examples), 1e-4, "PEFT")
    theirs = peers.llama_logprobs(path, examples, run / "adapter.gguf")
    if shape.half:
        check_rounded(ours, theirs, base, peers.llama_logprobs(path, examples), "llama.cpp, F16")
    else:
        check_close(ours, theirs, 1e-3, "llama.cpp")

    merged = folder / "merged.gguf"
    peers.run_hone(hone, "merge", "--model", path, "--adapter", run, "--out", merged, "--type",
                   "f32")
    check_close(ours, peers.hone_logprobs(hone, merged, probes), 1e-4, "Hone, merged")
    check_close(ours, peers.llama_logprobs(merged, examples), 1e-3, "llama.cpp, merged")


@pytest.mark.parametrize("name", ["odd", "gpt2-odd"])
def test_tiny_full_fine_tuning(hone, folder, name):
    """model.gguf of a full run: in llama.cpp as in Hone."""
    shape = models.SHAPES[name]
    folder = folder / f"full-{name}"
    folder.mkdir()
    path = shape.write_gguf(folder / "tiny.gguf")
    data = peers.write_texts(folder / "texts.jsonl", LINES)
    probes = peers.write_texts(folder / "probes.jsonl", PROBES)
    peers.finetune(hone, path, data, folder / "run", "--method", "full", "--type", "f32",
                   "--steps", 12, "--lr", 3e-3, "--batch", 8)
    tuned = folder / "run" / "model.gguf"
    examples = peers.examples_of(hone, path, probes)
    base, ours = peers.hone_logprobs(hone, path, probes), peers.hone_logprobs(hone, tuned, probes)
    assert np.abs(flat(ours) - flat(base)).mean() > 0.1
    check_close(ours, peers.llama_logprobs(tuned, examples), 1e-3, "llama.cpp")


# ---- SmolLM2 -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(hone, model, folder):
    """A run that changed much; (run, probes, examples, Hone's log-probabilities with, without)."""
    data = peers.write_texts(folder / "texts.jsonl", LINES)
    run = folder / "smollm2"
    peers.finetune(hone, model, data, run, "--steps", 8, "--lr", 3e-3, "--batch", 6,
                   "--schedule", "constant")
    probes = peers.write_texts(folder / "probes.jsonl", PROBES)
    examples = peers.examples_of(hone, model, probes)
    ours = peers.hone_logprobs(hone, model, probes, "--adapter", run)
    base = peers.hone_logprobs(hone, model, probes)
    assert np.abs(flat(ours) - flat(base)).mean() > 0.1
    return run, probes, examples, ours, base


@pytest.fixture(scope="module")
def merged_f32(hone, model, folder, trained):
    path = folder / "merged-f32.gguf"
    peers.run_hone(hone, "merge", "--model", model, "--adapter", trained[0], "--out", path,
                   "--type", "f32")
    return path


def test_smollm2_adapter_in_peft(model, trained):
    run, _, examples, ours, base = trained
    peer = peers.reference_model(model)
    check_close(base, peers.torch_logprobs(peer, examples), 2e-3, "transformers, base")
    check_close(ours, peers.torch_logprobs(peers.with_adapter(peer, run), examples), 2e-3, "PEFT")


def test_smollm2_adapter_is_what_the_converter_makes(model, trained):
    assert check_converter(trained[0], peers.reference_model(model).config) == 420


def test_smollm2_adapter_in_llama_cpp(hone, model, folder, trained):
    """On the base as F32, and on the Q4_1 file as it is."""
    run, _, examples, ours, base = trained
    path = folder / "base-f32.gguf"
    peers.run_hone(hone, "merge", "--model", model, "--adapter", f"{run}:0", "--out", path,
                   "--type", "f32")
    check_close(base, peers.llama_logprobs(path, examples), 1e-3, "llama.cpp, F32 base")
    check_close(ours, peers.llama_logprobs(path, examples, run / "adapter.gguf"), 1e-3,
                "llama.cpp, F32 base and adapter")
    path.unlink()
    check_rounded(ours, peers.llama_logprobs(model, examples, run / "adapter.gguf"), base,
                  peers.llama_logprobs(model, examples), "llama.cpp, Q4_1 base")


def test_smollm2_merged_f32(hone, trained, merged_f32):
    _, probes, examples, ours, _ = trained
    check_close(ours, peers.hone_logprobs(hone, merged_f32, probes), 2e-3, "Hone")
    check_close(ours, peers.llama_logprobs(merged_f32, examples), 1e-3, "llama.cpp")
    check_close(ours, peers.torch_logprobs(gguf_to_hf.load_model(merged_f32), examples), 2e-3,
                "transformers")


def test_smollm2_merged_f16(hone, model, folder, trained):
    """transformers widens the matrices and must agree; llama.cpp rounds the activations, and may
    differ by what the same rounding does to transformers."""
    run, probes, examples, adapted, base = trained
    path = folder / "merged-f16.gguf"
    peers.run_hone(hone, "merge", "--model", model, "--adapter", run, "--out", path, "--type",
                   "f16")
    ours = peers.hone_logprobs(hone, path, probes)
    assert np.abs(flat(ours) - flat(adapted)).mean() <= 1e-2  # what rounding to F16 costs
    peer = gguf_to_hf.load_model(path)
    check_close(ours, peers.torch_logprobs(peer, examples), 2e-3, "transformers")
    with peers.rounded_inputs(peer, torch.float16):
        rounded = np.abs(flat(ours) - flat(peers.torch_logprobs(peer, examples)))
    theirs = peers.llama_logprobs(path, examples)
    differences = np.abs(flat(ours) - flat(theirs))
    # Two computations that round at the same places do not round the same values alike: their
    # distances from the exact one are of one size, and no more can be asked.
    print(f"llama.cpp: mean {differences.mean():.2e}, worst {differences.max():.2e}; "
          f"rounding alone: mean {rounded.mean():.2e}, worst {rounded.max():.2e}")
    assert rounded.mean() <= 3e-3  # measured: 1e-3
    assert differences.mean() <= 2 * rounded.mean()
    assert differences.max() <= 4 * rounded.max()
    check_rounded(ours, theirs, base, peers.llama_logprobs(model, examples), "llama.cpp")
