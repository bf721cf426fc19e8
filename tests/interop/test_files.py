# SPDX-License-Identifier: Apache-2.0
"""Hone's adapter files against PEFT, safetensors, gguf-py and llama.cpp.

`adapter_tool` (tests/io/adapter_tool.c) reads an adapter with Hone and writes it in both forms.
"""
import ctypes
import json
import pathlib
import subprocess
import sys
import warnings

import pytest

np = pytest.importorskip("numpy")
torch = pytest.importorskip("torch")
gguf = pytest.importorskip("gguf")
pytest.importorskip("peft")
llama_cpp = pytest.importorskip("llama_cpp")
import safetensors.torch
from peft import AutoPeftModelForCausalLM, LoraConfig, PeftModel

HERE = pathlib.Path(__file__).resolve().parent
FIXTURES = HERE.parent / "fixtures" / "io"
sys.path.insert(0, str(HERE.parent / "fixtures"))
import make_io

# folder: settings of the run that made it, and whether its model's head is tied
ADAPTERS = {
    "peft-plain": (4, 8, False, True), "peft-rslora": (4, 8, True, True),
    "peft-f16": (2, 3, False, True), "peft-bf16": (2, 3, False, True),
    "peft-patterns": (4, 8, False, True), "peft-head": (2, 2, False, False),
}
TOKENS = [3, 17, 5, 9, 30, 1, 12, 12, 7, 25, 2, 19]


@pytest.fixture(scope="session")
def tool(built):
    return built("tests/io/adapter_tool")


def convert(tool, adapter, out, name="peft-plain", base="tiny-llama"):
    rank, alpha, rslora, _ = ADAPTERS[name]
    out.mkdir(exist_ok=True)
    command = [tool, adapter, base, make_io.HEADS, make_io.KV_HEADS, make_io.HEAD_SIZE, rank,
               alpha, int(rslora), out / "peft", out / "adapter.gguf"]
    subprocess.run([str(part) for part in command], check=True)
    return out / "peft", out / "adapter.gguf"


def load(folder):
    return safetensors.torch.load_file(folder / "adapter_model.safetensors")


def peft_logits(folder, tied):
    """The model with the adapter; any warning is a failure."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        model = PeftModel.from_pretrained(make_io.tiny_llama(tied), folder).eval()
    with torch.no_grad():
        return model(torch.tensor([TOKENS])).logits[0].double().numpy()


def gguf_tensors(path):
    reader = gguf.GGUFReader(path)
    tensors = {tensor.name: np.array(tensor.data) for tensor in reader.tensors}
    return tensors, {name: field.contents() for name, field in reader.fields.items()}


# ---- PEFT --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ADAPTERS)
def test_peft_to_hone_to_peft_is_bit_equal(tool, tmp_path, name):
    folder, _ = convert(tool, FIXTURES / name, tmp_path / "out", name)
    original, written = load(FIXTURES / name), load(folder)
    assert sorted(original) == sorted(written)
    for key, tensor in original.items():
        assert written[key].dtype == torch.float32
        assert torch.equal(written[key], tensor.float()), key


def test_safetensors_file_is_the_librarys_own(tool, tmp_path):
    """Same order of tensors, same header, same bytes."""
    folder, _ = convert(tool, FIXTURES / "peft-plain", tmp_path / "out")
    for name in ("adapter_model.safetensors",):
        assert (folder / name).read_bytes() == (FIXTURES / "peft-plain" / name).read_bytes()


@pytest.mark.parametrize("name", ADAPTERS)
def test_peft_gives_the_same_logits(tool, tmp_path, name):
    folder, _ = convert(tool, FIXTURES / name, tmp_path / "out", name)
    tied = ADAPTERS[name][3]
    original, written = peft_logits(FIXTURES / name, tied), peft_logits(folder, tied)
    assert np.array_equal(original, written)
    base = make_io.tiny_llama(tied)
    with torch.no_grad():
        plain = base(torch.tensor([TOKENS])).logits[0].double().numpy()
    assert np.abs(original - plain).max() > 1e-3  # the adapter does something


@pytest.mark.parametrize("name", ADAPTERS)
def test_config_means_the_same_to_peft(tool, tmp_path, name):
    folder, _ = convert(tool, FIXTURES / name, tmp_path / "out", name)
    text = (folder / "adapter_config.json").read_text()
    config = json.loads(text)
    assert text == json.dumps(config, indent=2, sort_keys=True) + "\n"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = LoraConfig.from_pretrained(folder)
    rank, alpha, rslora, _ = ADAPTERS[name]
    assert (loaded.r, loaded.lora_alpha, loaded.use_rslora) == (rank, alpha, rslora)
    assert loaded.task_type == "CAUSAL_LM" and loaded.inference_mode


def test_auto_class_finds_the_base(tool, tmp_path):
    make_io.tiny_llama().save_pretrained(tmp_path / "base")
    folder, _ = convert(tool, FIXTURES / "peft-plain", tmp_path / "out", base=tmp_path / "base")
    model = AutoPeftModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        logits = model(torch.tensor([TOKENS])).logits[0].double().numpy()
    assert np.abs(logits - peft_logits(FIXTURES / "peft-plain", True)).max() < 1e-6


# ---- gguf-py -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ADAPTERS)
def test_gguf_tensors(tool, tmp_path, name):
    """Equal to PEFT's but for q's and k's rows of B; and scale·B where one alpha does not do."""
    folder, path = convert(tool, FIXTURES / name, tmp_path / "out", name)
    tensors, fields = gguf_tensors(path)
    assert fields["general.architecture"] == "llama" and fields["general.type"] == "adapter"
    assert fields["adapter.type"] == "lora"
    original = load(FIXTURES / name)
    assert len(tensors) == len(original)
    config = LoraConfig.from_pretrained(FIXTURES / name)
    from peft.utils.other import get_pattern_key
    for key, tensor in original.items():
        path_in_peft, half = key.removeprefix("base_model.model.").split(".lora_")
        wanted = tensor.float().numpy()
        rest = path_in_peft.split(".", 3)[-1]
        module = make_io.NAMES.get(rest, "output")
        if path_in_peft == "lm_head":
            written = tensors[f"output.weight.lora_{half[0].lower()}"]
        else:
            layer = path_in_peft.split(".")[2]
            written = tensors[f"blk.{layer}.{module}.weight.lora_{half[0].lower()}"]
        if half[0] == "A":
            assert np.array_equal(written, wanted)
            continue
        if module in ("attn_q", "attn_k"):
            heads = make_io.HEADS if module == "attn_q" else make_io.KV_HEADS
            wanted = make_io.gguf_rows(wanted, heads)
        rank = wanted.shape[1]
        alpha = config.alpha_pattern.get(get_pattern_key(config.alpha_pattern, path_in_peft),
                                         config.lora_alpha)
        scale = alpha / (rank**0.5 if config.use_rslora else rank)
        theirs = fields["adapter.lora.alpha"] / rank
        if abs(scale - theirs) < 1e-7 * scale:
            assert np.array_equal(written, wanted)
        else:
            np.testing.assert_allclose(written * theirs, wanted * scale, rtol=3e-7)


def test_gguf_to_hone_to_peft_is_bit_equal(tool, tmp_path):
    """adapter.gguf was made by gguf-py, its rows permuted by make_io.py."""
    folder, path = convert(tool, FIXTURES / "adapter.gguf", tmp_path / "out")
    original, written = load(FIXTURES / "peft-plain"), load(folder)
    assert all(torch.equal(written[key], tensor) for key, tensor in original.items())
    ours, theirs = gguf_tensors(path)[0], gguf_tensors(FIXTURES / "adapter.gguf")[0]
    assert sorted(ours) == sorted(theirs)
    assert all(np.array_equal(ours[key], theirs[key]) for key in theirs)


# ---- llama.cpp ---------------------------------------------------------------------------------


def write_base(path, tied):
    """The tiny model as F32 GGUF, without a vocabulary."""
    model = make_io.tiny_llama(tied)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(make_io.LAYERS)
    writer.add_context_length(64)
    writer.add_embedding_length(make_io.WIDTH)
    writer.add_feed_forward_length(make_io.FEED)
    writer.add_head_count(make_io.HEADS)
    writer.add_head_count_kv(make_io.KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(make_io.HEAD_SIZE)
    writer.add_vocab_size(make_io.VOCABULARY)
    writer.add_tokenizer_model("no_vocab")
    names = {"model.embed_tokens.weight": "token_embd.weight", "lm_head.weight": "output.weight",
             "model.norm.weight": "output_norm.weight"}
    norms = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and tied:
            continue
        values = tensor.float().numpy()
        if name not in names:
            _, _, layer, rest = name.removesuffix(".weight").split(".", 3)
            names[name] = f"blk.{layer}.{make_io.NAMES.get(rest) or norms[rest]}.weight"
            if "q_proj" in rest:
                values = make_io.gguf_rows(values, make_io.HEADS)
            if "k_proj" in rest:
                values = make_io.gguf_rows(values, make_io.KV_HEADS)
        writer.add_tensor(names[name], values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Llama:
    """llama.cpp's own interface: f32 cache, no flash attention, warnings kept."""

    def __init__(self, path):
        self.messages = []
        callback = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
        self.callback = callback(lambda level, text, _: self.messages.append((level, text)))
        llama_cpp.llama_log_set(ctypes.cast(self.callback, llama_cpp.llama_log_callback), None)
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(
            str(path).encode(), llama_cpp.llama_model_default_params())
        assert self.model, self.messages
        options = llama_cpp.llama_context_default_params()
        options.n_ctx = options.n_batch = options.n_ubatch = 64
        options.n_threads = options.n_threads_batch = 1
        options.flash_attn_type = 0
        options.type_k = options.type_v = 0
        self.context = llama_cpp.llama_init_from_model(self.model, options)
        assert self.context, self.messages

    def set_adapter(self, path):
        """Load and apply; return what llama.cpp warned of (ggml levels: 3 warning, 4 error)."""
        self.messages.clear()
        adapter = llama_cpp.llama_adapter_lora_init(self.model, str(path).encode())
        assert adapter, self.messages
        adapters = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(
            ctypes.cast(adapter, llama_cpp.llama_adapter_lora_p_ctypes))
        scales = (ctypes.c_float * 1)(1.0)
        assert llama_cpp.llama_set_adapters_lora(self.context, adapters, 1, scales) == 0
        return [text for level, text in self.messages if level in (3, 4)]

    def logits(self):
        batch = llama_cpp.llama_batch_init(len(TOKENS), 0, 1)
        for place, token in enumerate(TOKENS):
            batch.token[place], batch.pos[place] = token, place
            batch.n_seq_id[place], batch.logits[place] = 1, 1
            batch.seq_id[place][0] = 0
        batch.n_tokens = len(TOKENS)
        assert llama_cpp.llama_decode(self.context, batch) == 0
        rows = [llama_cpp.llama_get_logits_ith(self.context, i)[:make_io.VOCABULARY]
                for i in range(len(TOKENS))]
        llama_cpp.llama_batch_free(batch)
        return np.array(rows, dtype=np.float64)

    def close(self):
        llama_cpp.llama_free(self.context)
        llama_cpp.llama_model_free(self.model)
        # Back to the package's own: ours goes with this object, and llama.cpp would still call it.
        llama_cpp.llama_log_set(llama_cpp._logger.llama_log_callback, ctypes.c_void_p(0))


@pytest.mark.parametrize("name", ADAPTERS)
def test_llama_cpp_gives_pefts_logits(tool, tmp_path, name):
    tied = ADAPTERS[name][3]
    _, path = convert(tool, FIXTURES / name, tmp_path / "out", name)
    write_base(tmp_path / "base.gguf", tied)
    llama = Llama(tmp_path / "base.gguf")
    try:
        assert llama.set_adapter(path) == []
        got = llama.logits()
    finally:
        llama.close()
    wanted = peft_logits(FIXTURES / name, tied)
    assert np.abs(got - wanted).max() < 2e-5 * max(1.0, np.abs(wanted).max())
