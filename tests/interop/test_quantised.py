# SPDX-License-Identifier: Apache-2.0
"""Quantised files that Hone writes: the bytes of gguf-py's and llama.cpp's reference quantisers, and the
numbers that llama.cpp computes from them."""
import ctypes
import pathlib

import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")
gguf = pytest.importorskip("gguf")
llama_cpp = pytest.importorskip("llama_cpp")
import models
import numpy as np
import peers
from test_same_training import LINES

TYPES = ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0"]


def merged(hone, folder, shape, kind):
    """The tiny model's file, and the same through `hone merge --type`, its adapter at weight 0."""
    path = shape.write_gguf(folder / "tiny.gguf")
    adapter = peers.make_adapter(shape.transformers_model(), folder / "adapter")
    out = folder / f"{kind}.gguf"
    peers.run_hone(hone, "merge", "--model", path, "--adapter", f"{adapter}:0", "--out", out,
                   "--type", kind)
    return path, out


def wanted_type(name, tensor, kind, tied):
    """llama.cpp's rule, with Q8_0 where it takes Q6_K for the head."""
    head = "token_embd.weight" if tied else "output.weight"
    if len(tensor.shape) == 1 or name == "position_embd.weight":
        return "F32"
    if tensor.shape[0] % 32:
        return "F16"
    return "Q8_0" if name == head else kind.upper()


def by_ggml(values, kind):
    """The rows as llama.cpp's library quantises them."""
    folder = pathlib.Path(llama_cpp.__file__).parent / "lib"
    chunk = ctypes.CDLL(str(folder / "libggml-base.so")).ggml_quantize_chunk
    chunk.restype, chunk.argtypes = ctypes.c_size_t, [
        ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64,
        ctypes.c_int64, ctypes.c_void_p]
    values = np.ascontiguousarray(values, np.float32)
    block, size = gguf.GGML_QUANT_SIZES[kind]
    out = np.zeros(values.size // block * size, np.uint8)
    written = chunk(int(kind), values.ctypes.data, out.ctypes.data, 0, values.shape[0],
                    values.shape[1], None)
    assert written == out.size
    return out.reshape(values.shape[0], -1)


@pytest.mark.parametrize("name", ["plain", "odd", "gpt2"])
@pytest.mark.parametrize("kind", TYPES)
def test_bytes_are_the_references(hone, tmp_path, name, kind):
    shape = models.SHAPES[name]
    path, out = merged(hone, tmp_path, shape, kind)
    before = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    file = gguf.GGUFReader(out)
    numbers = {"q4_0": 2, "q4_1": 3, "q8_0": 7, "q5_0": 8, "q5_1": 9}
    assert file.fields["general.file_type"].contents() == numbers[kind]
    assert file.fields["general.quantization_version"].contents() == 2
    quantised = 0
    for tensor in file.tensors:
        stored = before[tensor.name]
        assert list(tensor.shape) == list(stored.shape)
        assert tensor.tensor_type.name == wanted_type(tensor.name, tensor, kind, shape.tied)
        if tensor.tensor_type.name in ("F32", "F16"):
            continue
        want = gguf.quants.quantize(stored.data, tensor.tensor_type)
        assert np.array_equal(tensor.data, want), tensor.name
        other = by_ggml(stored.data, tensor.tensor_type)
        assert (tensor.data != other).mean() <= 1e-3, tensor.name  # ggml may fuse what rounds here
        quantised += 1
    assert quantised >= (0 if name == "odd" else 8)


def test_odd_values(hone, tmp_path):
    """Blocks of zeros, of one value, of huge and of tiny ones."""
    shape = models.SHAPES["plain"]
    values = shape.weights()
    odd = values["model.layers.0.self_attn.q_proj.weight"]
    odd[0], odd[1], odd[2], odd[3] = 0, 0.37, 3e4 * odd[2], 1e-6 * odd[3]
    odd[4], odd[5] = np.arange(32) - 16, -np.arange(32)
    path = shape.write_gguf(tmp_path / "tiny.gguf", values)
    adapter = peers.make_adapter(shape.transformers_model(), tmp_path / "adapter")
    stored = {tensor.name: tensor.data for tensor in gguf.GGUFReader(path).tensors}
    for kind in TYPES:
        out = tmp_path / f"{kind}.gguf"
        peers.run_hone(hone, "merge", "--model", path, "--adapter", f"{adapter}:0", "--out", out,
                       "--type", kind)
        [tensor] = [t for t in gguf.GGUFReader(out).tensors if t.name == "blk.0.attn_q.weight"]
        want = gguf.quants.quantize(stored[tensor.name], tensor.tensor_type)
        assert np.array_equal(tensor.data, want), kind


@pytest.mark.parametrize("name", ["plain", "gpt2"])
@pytest.mark.parametrize("kind", TYPES)
def test_llama_cpp_reads_them(hone, tmp_path, name, kind):
    """llama.cpp rounds the activations too: means are compared."""
    shape = models.SHAPES[name]
    _, out = merged(hone, tmp_path, shape, kind)
    data = peers.write_texts(tmp_path / "texts.jsonl", LINES[:6])
    examples = peers.examples_of(hone, out, data)
    ours = np.concatenate(peers.hone_logprobs(hone, out, data))
    theirs = np.concatenate(peers.llama_logprobs(out, examples))
    print(f"{name}, {kind}: mean difference {np.abs(ours - theirs).mean():.2e}")
    assert np.abs(ours - theirs).mean() <= 0.05
