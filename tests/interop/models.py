# SPDX-License-Identifier: Apache-2.0
"""Tiny random Llamas: the same weights as a GGUF file (by numpy and gguf-py) and in transformers.

Every shape has something that the others have not: heads grouped or not, a head tied or not, sizes
that are no multiple of anything, heads of another size than width/heads, F16, scaled positions.
"""
import dataclasses
import math

import gguf
import numpy as np


@dataclasses.dataclass(frozen=True)
class Shape:
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_size: int
    feed: int
    merges: int  # at least 1; the vocabulary has 259 tokens more
    tied: bool
    half: bool = False  # matrices stored as F16
    rope_base: float = 10000.0
    rope_scaled: bool = False  # as Llama 3.1 does, through rope_freqs.weight
    eps: float = 1e-5


SHAPES = {
    "plain": Shape(2, 32, 4, 4, 8, 64, 1, tied=False),
    "grouped": Shape(2, 48, 6, 2, 8, 80, 13, tied=True),
    "odd": Shape(3, 36, 3, 1, 10, 50, 12, tied=True, rope_base=500000.0, eps=1e-6),
    "wide": Shape(1, 20, 2, 1, 16, 27, 24, tied=False),
    "half": Shape(2, 40, 5, 5, 6, 72, 5, tied=False, half=True),
    "scaled": Shape(2, 28, 4, 2, 14, 45, 40, tied=True, rope_scaled=True),
}
CONTEXT = 256
# Llama 3.1's rule on a context short enough for the tests to reach all three of its ranges.
SCALING = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
           "original_max_position_embeddings": 32}

# ---- vocabulary --------------------------------------------------------------------------------

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
END_OF_TEXT, MESSAGE_END = 0, 2
MERGES = """t h|Ġ t|Ġt h|Ġth e|i n|e r|Ġ a|o n|r e|Ġ s|a n|Ġa n|Ġan d|e n|i t|Ġ o|Ġo f|in g|e s|Ġ w
o r|Ġ c|Ġ b|Ġt o|a l|Ġ f|Ġ p|a r|Ġ in|i s|Ġ m|e d|o u|Ġ d|a t|i on|Ġ h|r o|l e|Ġb e""".replace(
    "\n", "|").split("|")
TEMPLATE = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' "
            "+ message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")


def byte_alphabet():
    """GPT-2's: printable bytes are themselves, the others follow from U+0100 on."""
    printable = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) if byte in printable else chr(256 + others.index(byte))
            for byte in range(256)]


def vocabulary(shape):
    return SPECIAL + byte_alphabet() + [merge.replace(" ", "") for merge in MERGES[:shape.merges]]


# ---- weights -----------------------------------------------------------------------------------

# transformers' name in a layer: GGUF's
MODULES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
NORMS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}


def weights(shape, seed=0):
    """f32 values by transformers' names, rounded to what the file stores."""
    rng = np.random.default_rng(seed)
    size, kv_size = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    sides = {"attn_q": (size, shape.width), "attn_k": (kv_size, shape.width),
             "attn_v": (kv_size, shape.width), "attn_output": (shape.width, size),
             "ffn_gate": (shape.feed, shape.width), "ffn_up": (shape.feed, shape.width),
             "ffn_down": (shape.width, shape.feed)}

    def matrix(rows, columns, scale):
        values = (scale * rng.standard_normal((rows, columns))).astype(np.float32)
        return values.astype(np.float16).astype(np.float32) if shape.half else values

    def norm():
        return (1 + 0.2 * rng.standard_normal(shape.width)).astype(np.float32)

    count = len(vocabulary(shape))
    values = {"model.embed_tokens.weight": matrix(count, shape.width, 0.4)}
    for layer in range(shape.layers):
        for name, short in MODULES.items():
            rows, columns = sides[short]
            values[f"model.layers.{layer}.{name}.weight"] = matrix(
                rows, columns, 1 / math.sqrt(columns))
        for name in NORMS:
            values[f"model.layers.{layer}.{name}.weight"] = norm()
    values["model.norm.weight"] = norm()
    if not shape.tied:
        values["lm_head.weight"] = matrix(count, shape.width, 1.5 / math.sqrt(shape.width))
    return values


def gguf_name(name):
    """GGUF's name of a transformers tensor, given without or with what follows the module."""
    fixed = {"model.embed_tokens.weight": "token_embd.weight", "lm_head.weight": "output.weight",
             "model.norm.weight": "output_norm.weight"}
    if name in fixed:
        return fixed[name]
    layer, rest = name.removeprefix("model.layers.").split(".", 1)
    for module, short in {**MODULES, **NORMS}.items():
        if rest.startswith(module + "."):
            return f"blk.{layer}.{short}.{rest.removeprefix(module + '.')}"
    raise KeyError(name)


def gguf_rows(values, heads):
    """llama.cpp's order of q's and k's rows: row 2j+t of a head is transformers' row t·d/2 + j."""
    shape = values.shape
    return (values.reshape(heads, 2, shape[0] // heads // 2, *shape[1:]).swapaxes(1, 2)
            .reshape(shape))


def heads_of(name, heads, kv_heads):
    """How many heads permute the rows of this GGUF tensor; 0: its rows stay."""
    return heads if ".attn_q." in name else kv_heads if ".attn_k." in name else 0


def frequency_factors(shape):
    """Llama 3.1's rule (Dubey et al. 2024): what each frequency is divided by."""
    d, old = shape.head_size, SCALING["original_max_position_embeddings"]
    low, high = SCALING["low_freq_factor"], SCALING["high_freq_factor"]
    wavelength = 2 * math.pi * shape.rope_base ** (np.arange(0, d, 2) / d)
    smooth = np.clip((old / wavelength - low) / (high - low), 0, 1)
    return (1 / ((1 - smooth) / SCALING["factor"] + smooth)).astype(np.float32)


def write_gguf(path, shape, values=None):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(shape.layers)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(shape.feed)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_size)
    writer.add_value_length(shape.head_size)
    writer.add_rope_dimension_count(shape.head_size)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.eps)
    writer.add_file_type(1 if shape.half else 0)
    tokens = vocabulary(shape)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if token in SPECIAL else gguf.TokenType.NORMAL
                            for token in tokens])
    writer.add_token_merges(MERGES[:shape.merges])
    writer.add_bos_token_id(END_OF_TEXT)
    writer.add_eos_token_id(MESSAGE_END)
    writer.add_unk_token_id(END_OF_TEXT)
    writer.add_pad_token_id(END_OF_TEXT)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    if shape.rope_scaled:
        writer.add_tensor("rope_freqs.weight", frequency_factors(shape))
    for name, tensor in (values or weights(shape)).items():
        name = gguf_name(name)
        heads = heads_of(name, shape.heads, shape.kv_heads)
        tensor = np.ascontiguousarray(gguf_rows(tensor, heads) if heads else tensor)
        writer.add_tensor(name, tensor.astype(np.float16)
                          if shape.half and tensor.ndim == 2 else tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def transformers_model(shape, values=None):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    rope = {"rope_theta": shape.rope_base, "rope_type": "default"}
    if shape.rope_scaled:
        rope.update(SCALING, rope_type="llama3")
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=len(vocabulary(shape)), hidden_size=shape.width, intermediate_size=shape.feed,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads, head_dim=shape.head_size, rms_norm_eps=shape.eps,
        max_position_embeddings=CONTEXT, tie_word_embeddings=shape.tied, rope_parameters=rope,
        bos_token_id=END_OF_TEXT, eos_token_id=MESSAGE_END, attn_implementation="sdpa"))
    state = {name: torch.from_numpy(tensor.copy())
             for name, tensor in (values or weights(shape)).items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= ({"lm_head.weight"} if shape.tied else set())
    model.config.use_cache = False
    return model.eval()
