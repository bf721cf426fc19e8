# SPDX-License-Identifier: Apache-2.0
"""Tiny random GPT-2s: the same weights as a GGUF file (by numpy and gguf-py) and in transformers."""
import dataclasses
import math

import gguf
import numpy as np
import tiny

# transformers' name in a layer: GGUF's
MODULES = {"attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "mlp.c_fc": "ffn_up",
           "mlp.c_proj": "ffn_down"}
NORMS = {"ln_1": "attn_norm", "ln_2": "ffn_norm"}


@dataclasses.dataclass(frozen=True)
class Gpt2:
    layers: int
    width: int
    heads: int
    feed: int
    merges: int  # at least 1; the vocabulary has 259 tokens more
    tied: bool
    half: bool = False  # matrices stored as F16
    eps: float = 1e-5

    context = 256
    adapted = ("c_attn", "c_proj", "c_fc")
    matrices, vectors = 4, 8  # of a layer
    outer = 4  # tensors outside the layers, with a tied head

    def weights(self, seed=0):
        """f32 values by transformers' names (its matrices are (in,out)), rounded to what the file
        stores."""
        rng = np.random.default_rng(seed)
        sides = {"attn_qkv": (self.width, 3 * self.width), "attn_output": (self.width, self.width),
                 "ffn_up": (self.width, self.feed), "ffn_down": (self.feed, self.width)}

        def random(*shape, scale):
            values = (scale * rng.standard_normal(shape)).astype(np.float32)
            rounded = self.half and len(shape) == 2
            return values.astype(np.float16).astype(np.float32) if rounded else values

        count = len(tiny.tokens(self.merges))
        values = {"transformer.wte.weight": random(count, self.width, scale=0.4),
                  "transformer.wpe.weight": random(self.context, self.width, scale=0.2)}
        norms = [f"transformer.h.{layer}.{name}" for layer in range(self.layers) for name in NORMS]
        for name in [*norms, "transformer.ln_f"]:
            values[f"{name}.weight"] = 1 + random(self.width, scale=0.2)
            values[f"{name}.bias"] = random(self.width, scale=0.2)
        for layer in range(self.layers):
            for name, short in MODULES.items():
                rows, columns = sides[short]
                values[f"transformer.h.{layer}.{name}.weight"] = random(
                    rows, columns, scale=1 / math.sqrt(rows))
                values[f"transformer.h.{layer}.{name}.bias"] = random(columns, scale=0.2)
        if not self.tied:
            values["lm_head.weight"] = random(count, self.width, scale=1.5 / math.sqrt(self.width))
        return values

    @staticmethod
    def gguf_name(name):
        """GGUF's name of a transformers tensor, given without or with what follows the module."""
        fixed = {"transformer.wte.weight": "token_embd.weight", "lm_head.weight": "output.weight",
                 "transformer.wpe.weight": "position_embd.weight",
                 "transformer.ln_f.weight": "output_norm.weight",
                 "transformer.ln_f.bias": "output_norm.bias"}
        if name in fixed:
            return fixed[name]
        layer, rest = name.removeprefix("transformer.h.").split(".", 1)
        for module, short in {**MODULES, **NORMS}.items():
            if rest.startswith(module + "."):
                return f"blk.{layer}.{short}.{rest.removeprefix(module + '.')}"
        raise KeyError(name)

    @staticmethod
    def gguf_values(name, values, _heads, _kv_heads):
        """A tensor, its gradient or an adapter's half as the file has it: matrices are (out,in)."""
        turned = name.startswith("blk.") and name.endswith(".weight") and values.ndim == 2
        return values.T if turned else values

    def write_gguf(self, path, values=None):
        writer = gguf.GGUFWriter(path, "gpt2")
        writer.add_name("tiny")
        writer.add_block_count(self.layers)
        writer.add_context_length(self.context)
        writer.add_embedding_length(self.width)
        writer.add_feed_forward_length(self.feed)
        writer.add_head_count(self.heads)
        writer.add_layer_norm_eps(self.eps)
        writer.add_file_type(1 if self.half else 0)
        tiny.add_vocabulary(writer, self.merges, "gpt-2")
        tensors = {}
        for name, tensor in (values or self.weights()).items():
            name = self.gguf_name(name)
            tensors[name] = self.gguf_values(name, tensor, self.heads, self.heads)
        tiny.write(writer, tensors, self.half)
        return path

    def transformers_model(self, values=None):
        from transformers import GPT2Config, GPT2LMHeadModel

        model = GPT2LMHeadModel(GPT2Config(
            vocab_size=len(tiny.tokens(self.merges)), n_embd=self.width, n_inner=self.feed,
            n_layer=self.layers, n_head=self.heads, n_positions=self.context,
            layer_norm_epsilon=self.eps, tie_word_embeddings=self.tied, resid_pdrop=0,
            embd_pdrop=0, attn_pdrop=0, bos_token_id=tiny.END_OF_TEXT,
            eos_token_id=tiny.MESSAGE_END, attn_implementation="sdpa"))
        return tiny.filled(model, values or self.weights(), self.tied)


SHAPES = {
    "gpt2": Gpt2(2, 32, 4, 128, 1, tied=True),
    "gpt2-odd": Gpt2(3, 42, 3, 75, 12, tied=False, eps=1e-6),
    "gpt2-half": Gpt2(2, 40, 5, 72, 24, tied=True, half=True),
}
