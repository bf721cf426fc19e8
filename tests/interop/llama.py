# SPDX-License-Identifier: Apache-2.0
"""Tiny random Llamas: the same weights as a GGUF file (by numpy and gguf-py) and in transformers.

Every shape has something that the others have not: heads grouped or not, a head tied or not, sizes
that are no multiple of anything, heads of another size than width/heads, F16, scaled positions.
"""
import dataclasses
import math

import gguf
import numpy as np
import tiny

# Llama 3.1's rule on a context short enough for the tests to reach all three of its ranges.
SCALING = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
           "original_max_position_embeddings": 32}
# transformers' name in a layer: GGUF's
MODULES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
NORMS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}


def _permuted(values, heads):
    """llama.cpp's order of q's and k's rows: row 2j+t of a head is transformers' row t·d/2 + j."""
    shape = values.shape
    return (values.reshape(heads, 2, shape[0] // heads // 2, *shape[1:]).swapaxes(1, 2)
            .reshape(shape))


def _frequency_factors(shape):
    """Llama 3.1's rule (Dubey et al. 2024): what each frequency is divided by."""
    d, old = shape.head_size, SCALING["original_max_position_embeddings"]
    low, high = SCALING["low_freq_factor"], SCALING["high_freq_factor"]
    wavelength = 2 * math.pi * shape.rope_base ** (np.arange(0, d, 2) / d)
    smooth = np.clip((old / wavelength - low) / (high - low), 0, 1)
    return (1 / ((1 - smooth) / SCALING["factor"] + smooth)).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Llama:
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

    context = 256
    adapted = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    matrices, vectors = 7, 2  # of a layer
    outer = 2  # tensors outside the layers, with a tied head

    def weights(self, seed=0):
        """f32 values by transformers' names, rounded to what the file stores."""
        rng = np.random.default_rng(seed)
        size, kv_size = self.heads * self.head_size, self.kv_heads * self.head_size
        sides = {"attn_q": (size, self.width), "attn_k": (kv_size, self.width),
                 "attn_v": (kv_size, self.width), "attn_output": (self.width, size),
                 "ffn_gate": (self.feed, self.width), "ffn_up": (self.feed, self.width),
                 "ffn_down": (self.width, self.feed)}

        def matrix(rows, columns, scale):
            values = (scale * rng.standard_normal((rows, columns))).astype(np.float32)
            return values.astype(np.float16).astype(np.float32) if self.half else values

        def norm():
            return (1 + 0.2 * rng.standard_normal(self.width)).astype(np.float32)

        count = len(tiny.tokens(self.merges))
        values = {"model.embed_tokens.weight": matrix(count, self.width, 0.4)}
        for layer in range(self.layers):
            for name, short in MODULES.items():
                rows, columns = sides[short]
                values[f"model.layers.{layer}.{name}.weight"] = matrix(
                    rows, columns, 1 / math.sqrt(columns))
            for name in NORMS:
                values[f"model.layers.{layer}.{name}.weight"] = norm()
        values["model.norm.weight"] = norm()
        if not self.tied:
            values["lm_head.weight"] = matrix(count, self.width, 1.5 / math.sqrt(self.width))
        return values

    @staticmethod
    def gguf_name(name):
        """GGUF's name of a transformers tensor, given without or with what follows the module."""
        fixed = {"model.embed_tokens.weight": "token_embd.weight",
                 "lm_head.weight": "output.weight", "model.norm.weight": "output_norm.weight"}
        if name in fixed:
            return fixed[name]
        layer, rest = name.removeprefix("model.layers.").split(".", 1)
        for module, short in {**MODULES, **NORMS}.items():
            if rest.startswith(module + "."):
                return f"blk.{layer}.{short}.{rest.removeprefix(module + '.')}"
        raise KeyError(name)

    @staticmethod
    def gguf_values(name, values, heads, kv_heads):
        """A tensor, its gradient or an adapter's B in the order that the file has its rows in."""
        permuted = heads if ".attn_q." in name else kv_heads if ".attn_k." in name else 0
        return _permuted(values, permuted) if permuted else values

    def write_gguf(self, path, values=None):
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_name("tiny")
        writer.add_block_count(self.layers)
        writer.add_context_length(self.context)
        writer.add_embedding_length(self.width)
        writer.add_feed_forward_length(self.feed)
        writer.add_head_count(self.heads)
        writer.add_head_count_kv(self.kv_heads)
        writer.add_key_length(self.head_size)
        writer.add_value_length(self.head_size)
        writer.add_rope_dimension_count(self.head_size)
        writer.add_rope_freq_base(self.rope_base)
        writer.add_layer_norm_rms_eps(self.eps)
        writer.add_file_type(1 if self.half else 0)
        tiny.add_vocabulary(writer, self.merges, "smollm")
        tensors = {"rope_freqs.weight": _frequency_factors(self)} if self.rope_scaled else {}
        for name, tensor in (values or self.weights()).items():
            name = self.gguf_name(name)
            tensors[name] = self.gguf_values(name, tensor, self.heads, self.kv_heads)
        tiny.write(writer, tensors, self.half)
        return path

    def transformers_model(self, values=None):
        from transformers import LlamaConfig, LlamaForCausalLM

        rope = {"rope_theta": self.rope_base, "rope_type": "default"}
        if self.rope_scaled:
            rope.update(SCALING, rope_type="llama3")
        model = LlamaForCausalLM(LlamaConfig(
            vocab_size=len(tiny.tokens(self.merges)), hidden_size=self.width,
            intermediate_size=self.feed, num_hidden_layers=self.layers,
            num_attention_heads=self.heads, num_key_value_heads=self.kv_heads,
            head_dim=self.head_size, rms_norm_eps=self.eps, rope_parameters=rope,
            max_position_embeddings=self.context, tie_word_embeddings=self.tied,
            bos_token_id=tiny.END_OF_TEXT, eos_token_id=tiny.MESSAGE_END,
            attn_implementation="sdpa"))
        return tiny.filled(model, values or self.weights(), self.tied)


SHAPES = {
    "plain": Llama(2, 32, 4, 4, 8, 64, 1, tied=False),
    "grouped": Llama(2, 48, 6, 2, 8, 80, 13, tied=True),
    "odd": Llama(3, 36, 3, 1, 10, 50, 12, tied=True, rope_base=500000.0, eps=1e-6),
    "wide": Llama(1, 20, 2, 1, 16, 27, 24, tied=False),
    "half": Llama(2, 40, 5, 5, 6, 72, 5, tied=False, half=True),
    "scaled": Llama(2, 28, 4, 2, 14, 45, 40, tied=True, rope_scaled=True),
}
