# SPDX-License-Identifier: Apache-2.0
"""Quantised files that Hone writes: the bytes of gguf-py's and llama.cpp's reference quantisers, and the
numbers that llama.cpp computes from them."""
import ctypes
import dataclasses
import pathlib
import subprocess

import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")
gguf = pytest.importorskip("gguf")
llama_cpp = pytest.importorskip("llama_cpp")
import gpt2
import llama
import models
import numpy as np
import peers
from test_same_training import LINES

TYPES = ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0"]
FILE_TYPES = {"q4_0": 2, "q4_1": 3, "q8_0": 7, "q5_0": 8, "q5_1": 9, "q4_k_s": 14, "q4_k_m": 15,
              "q5_k_s": 16, "q5_k_m": 17, "q6_k": 18}
# Rows of whole blocks of 256, of 32, and of neither; enough layers for every case of a mixture.
WIDE = {
    "wide": llama.Llama(layers=17, width=256, heads=4, kv_heads=2, head_size=64, feed=512,
                        merges=60, tied=True),
    "untied": llama.Llama(layers=9, width=256, heads=4, kv_heads=4, head_size=64, feed=288,
                          merges=60, tied=False),
    "wide-gpt2": gpt2.Gpt2(9, 256, 4, 288, 60, tied=True),
}


def merged(hone, folder, shape, kind):
    """The tiny model's file, and the same through `hone merge --type`, its adapter at weight 0."""
    values = shape.weights()
    if shape.width == 256 and shape.tied:  # logits of a size as in the smaller models
        values[next(iter(values))] *= 0.2
    path = shape.write_gguf(folder / "tiny.gguf", values)
    adapter = peers.make_adapter(shape.transformers_model(), folder / "adapter")
    out = folder / f"{kind}.gguf"
    peers.run_hone(hone, "merge", "--model", path, "--adapter", f"{adapter}:0", "--out", out,
                   "--type", kind)
    return path, out


def wanted_type(name, tensor, kind, tied):
    """llama.cpp's rule for the types without a mixture."""
    head = "token_embd.weight" if tied else "output.weight"
    if len(tensor.shape) == 1 or name == "position_embd.weight":
        return "F32"
    if tensor.shape[0] % 32:
        return "F16"
    large = kind != "q8_0" and tensor.shape[0] % 256 == 0
    return ("Q6_K" if large else "Q8_0") if name == head else kind.upper()


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
    assert file.fields["general.file_type"].contents() == FILE_TYPES[kind]
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
    version = file.fields.get("general.quantization_version")
    assert version.contents() == 2 if quantised else version is None


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


@pytest.mark.parametrize("name", ["plain", "gpt2", "wide"])
@pytest.mark.parametrize("kind", FILE_TYPES)
def test_llama_cpp_reads_them(hone, tmp_path, name, kind):
    """llama.cpp rounds the activations too: means are compared."""
    shape = {**models.SHAPES, "wide": dataclasses.replace(WIDE["wide"], layers=2)}[name]
    _, out = merged(hone, tmp_path, shape, kind)
    data = peers.write_texts(tmp_path / "texts.jsonl", LINES[:6])
    examples = peers.examples_of(hone, out, data)
    ours = np.concatenate(peers.hone_logprobs(hone, out, data))
    theirs = np.concatenate(peers.llama_logprobs(out, examples))
    print(f"{name}, {kind}: mean difference {np.abs(ours - theirs).mean():.2e}")
    assert np.abs(ours - theirs).mean() <= 0.05


def by_llama_cpp(path, out, file_type):
    """The file as llama.cpp's quantiser writes it."""
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.nthread = file_type, 2
    assert llama_cpp.llama_model_quantize(str(path).encode(), str(out).encode(), params) == 0
    return {tensor.name: tensor for tensor in gguf.GGUFReader(out).tensors}


def error_of(tensor, want):
    values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float64)
    return float(np.sqrt(np.mean((values - want) ** 2)))


@pytest.mark.parametrize("name", WIDE)
@pytest.mark.parametrize("kind", FILE_TYPES)
def test_types_are_llama_cpps(hone, tmp_path, name, kind):
    """Its type for every tensor, and no larger an error than its own quantiser leaves."""
    path, out = merged(hone, tmp_path, WIDE[name], kind)
    before = {tensor.name: tensor.data for tensor in gguf.GGUFReader(path).tensors}
    theirs = by_llama_cpp(path, tmp_path / "theirs.gguf", FILE_TYPES[kind])
    ours = {tensor.name: tensor for tensor in gguf.GGUFReader(out).tensors}
    assert set(ours) == set(theirs)
    ratios = {}
    for tensor in ours.values():
        other = theirs[tensor.name]
        assert tensor.tensor_type == other.tensor_type, tensor.name
        kept = error_of(tensor, before[tensor.name])
        if tensor.tensor_type.name.endswith("_K"):
            ratios[tensor.name] = kept / error_of(other, before[tensor.name])
    print(f"{name}, {kind}: error over llama.cpp's at most {max(ratios.values(), default=0):.4f}")
    assert all(ratio <= 1 for ratio in ratios.values())
    if "_k" in kind and WIDE[name].width % 256 == 0:
        assert ratios


@pytest.mark.parametrize("kind,file_type", [("Q2_K", 10), ("Q3_K", 12), ("IQ4_NL", 25),
                                            ("IQ4_XS", 30)])
def test_llama_cpps_files_are_read(hone, tmp_path, kind, file_type):
    """Types that Hone does not write; what they stand for, bit for bit, is in test_dequantise.c."""
    path, _ = merged(hone, tmp_path, dataclasses.replace(WIDE["wide"], layers=2), "f32")
    theirs = by_llama_cpp(path, tmp_path / "theirs.gguf", file_type)
    assert kind in {tensor.tensor_type.name for tensor in theirs.values()}
    data = peers.write_texts(tmp_path / "texts.jsonl", LINES[:6])
    file = tmp_path / "theirs.gguf"
    ours = np.concatenate(peers.hone_logprobs(hone, file, data))
    others = np.concatenate(peers.llama_logprobs(file, peers.examples_of(hone, file, data)))
    print(f"{kind}: mean difference {np.abs(ours - others).mean():.2e}")
    assert np.abs(ours - others).mean() <= 0.05


def test_quantised_twice(hone, tmp_path):
    """Each rounding to another type of few bits loses more, and is told."""
    _, first = merged(hone, tmp_path, WIDE["wide"], "q4_0")
    for kind, told in (("q5_1", True), ("q4_k_m", True), ("q8_0", False), ("f16", False),
                       ("same", False)):
        done = subprocess.run([str(hone), "convert", str(first), "--to", "gguf", "--out",
                               str(tmp_path / "twice.gguf"), "--type", kind],
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert ("quantised before (Q4_0)" in done.stderr) == told, done.stderr


def test_untouched_tensors_are_copied(hone, tmp_path):
    """Of a quantised file; and `same` writes it again, bit for bit, where nothing is merged."""
    shape = WIDE["wide"]
    plain, first = merged(hone, tmp_path, shape, "q4_k_m")
    adapter = peers.make_adapter(shape.transformers_model(), tmp_path / "one", targets=["q_proj"])
    before = {tensor.name: tensor for tensor in gguf.GGUFReader(first).tensors}
    for kind in ("same", "q8_0", "f16", "auto"):
        out = tmp_path / f"again-{kind}.gguf"
        done = subprocess.run([str(hone), "merge", "--model", str(first), "--adapter", str(adapter),
                               "--out", str(out), "--type", kind], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert ("rounds small changes away" in done.stderr) == (kind == "same"), done.stderr
        for tensor in gguf.GGUFReader(out).tensors:
            was = before[tensor.name]
            if "attn_q." in tensor.name:
                assert not np.array_equal(tensor.data, was.data)
                wanted = {"same": was.tensor_type.name, "auto": "Q8_0"}.get(kind, kind.upper())
                assert tensor.tensor_type.name == wanted
            elif kind == "f16":
                assert tensor.tensor_type.name == ("F16" if len(tensor.shape) > 1 else "F32")
            else:
                assert tensor.tensor_type == was.tensor_type
                assert np.array_equal(tensor.data, was.data), tensor.name
