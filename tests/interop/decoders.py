# SPDX-License-Identifier: Apache-2.0
"""Tiny random models of the decoder families: transformers makes them and saves the folder,
llama.cpp's own converter makes the GGUF file of it.

A shape is a family and what its config.json has besides the sizes that all share. Between them the
shapes have every option that a family's config knows and Hone computes.
"""
import dataclasses
import importlib
import json
import math
import pathlib
import subprocess
import sys

import numpy as np
import safetensors.torch
import tiny
import torch

# transformers' module in a layer: GGUF's
MODULES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.qkv_proj": "attn_qkv", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "mlp.gate": "ffn_gate_inp", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm", "input_layernorm": "attn_norm",
}
BETWEEN = {"post_attention_layernorm": "ffn_norm"}
AROUND = {"post_attention_layernorm": "post_attention_norm",
          "pre_feedforward_layernorm": "ffn_norm",
          "post_feedforward_layernorm": "post_ffw_norm"}
OUTER = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


@dataclasses.dataclass(frozen=True)
class Kind:
    """transformers' classes, and how a GGUF file differs from its folders."""
    name: str  # transformers' model_type
    module: str
    prefix: str
    norms: dict
    pairs: bool = False  # rows of q and k in another order
    fused: bool = False
    experts: bool = False

    @property
    def adapted(self):
        if self.fused:
            return ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")
        return ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

    def gguf_name(self, name):
        for module, short in OUTER.items():
            if name.startswith(module + "."):
                return short + name.removeprefix(module)
        layer, rest = name.removeprefix("model.layers.").split(".", 1)
        for module, short in {**MODULES, **self.norms}.items():
            if rest.startswith(module + "."):
                return f"blk.{layer}.{short}{rest.removeprefix(module)}"
        raise KeyError(name)

    def parted(self, name, values):
        """Hone's names and values of a parameter: of stacked experts, a matrix each."""
        stem, _, kind = name.rpartition(".experts.")
        if not stem:
            return {self.gguf_name(name): values}
        layer = stem.removeprefix("model.layers.").split(".")[0]
        if kind == "down_proj":
            return {f"blk.{layer}.ffn_down.{e}.weight": part for e, part in enumerate(values)}
        half = values.shape[1] // 2
        return {f"blk.{layer}.ffn_{which}.{e}.weight": part[begin:begin + half]
                for e, part in enumerate(values) for which, begin in (("gate", 0), ("up", half))}

    def gguf_values(self, name, values, heads, kv_heads):
        """In the order that the file has its rows in."""
        permuted = heads if ".attn_q." in name else kv_heads if ".attn_k." in name else 0
        if not permuted or not self.pairs:
            return values
        return (values.reshape(permuted, 2, len(values) // permuted // 2, *values.shape[1:])
                .swapaxes(1, 2).reshape(values.shape))


KINDS = {kind.name: kind for kind in [
    Kind("llama", "llama", "Llama", BETWEEN, pairs=True),
    Kind("mistral", "mistral", "Mistral", BETWEEN, pairs=True),
    Kind("granite", "granite", "Granite", BETWEEN, pairs=True),
    Kind("smollm3", "smollm3", "SmolLM3", BETWEEN, pairs=True),
    Kind("qwen2", "qwen2", "Qwen2", BETWEEN),
    Kind("qwen3", "qwen3", "Qwen3", BETWEEN),
    Kind("qwen3_moe", "qwen3_moe", "Qwen3Moe", BETWEEN, experts=True),
    Kind("olmoe", "olmoe", "Olmoe", BETWEEN, experts=True),
    Kind("phi3", "phi3", "Phi3", BETWEEN, fused=True),
    Kind("olmo2", "olmo2", "Olmo2", AROUND),
    Kind("gemma2", "gemma2", "Gemma2", AROUND),
    Kind("gemma3_text", "gemma3", "Gemma3", AROUND),
]}


@dataclasses.dataclass(frozen=True)
class Decoder:
    kind: str
    layers: int
    width: int
    heads: int
    kv_heads: int
    feed: int
    merges: int
    options: dict = dataclasses.field(default_factory=dict)
    in_llama_cpp: bool = True  # as transformers computes it

    context = 256

    def transformers_model(self):
        kind = KINDS[self.kind]
        module = importlib.import_module(f"transformers.models.{kind.module}")
        text = "Text" if kind.module == "gemma3" else ""
        make_config = getattr(module, f"{kind.prefix}{text}Config")
        options = {"tie_word_embeddings": False, "rms_norm_eps": 1e-5,
                   "max_position_embeddings": self.context, **self.options}
        if kind.experts:
            options["experts_implementation"] = "eager"
        config = make_config(
            vocab_size=len(tiny.tokens(self.merges)), hidden_size=self.width,
            intermediate_size=self.feed, num_hidden_layers=self.layers,
            num_attention_heads=self.heads, num_key_value_heads=self.kv_heads,
            bos_token_id=tiny.END_OF_TEXT, eos_token_id=tiny.MESSAGE_END, pad_token_id=0,
            attn_implementation="eager" if kind.module == "gemma2" else "sdpa", **options)
        torch.manual_seed(0)
        model = getattr(module, f"{kind.prefix}ForCausalLM")(config)
        gemma = kind.module.startswith("gemma")
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                values = torch.randn(parameter.shape, dtype=torch.float32)
                if parameter.ndim == 1:
                    bias = name.endswith(".bias") or gemma
                    parameter.copy_(0.2 * values + (0 if bias else 1))
                elif name.startswith(("model.embed_tokens", "lm_head")):
                    # A head that is the embedding too, where that is multiplied.
                    small = (0.4 / math.sqrt(self.width) if gemma else
                             0.4 * min(1, 40 / self.width))
                    parameter.copy_(values * small)
                else:
                    parameter.copy_(values / math.sqrt(parameter.shape[-1]))
        model.config.use_cache = False
        return model.eval()

    def save(self, folder, **options):
        """transformers' folder; the tokeniser is tiny's."""
        from test_hf_folder import save_tokenizer

        self.transformers_model().save_pretrained(folder, **options)
        save_tokenizer(folder, self.merges, "gpt-2")
        return folder


def sparse_layers(model):
    return [i for i, layer in enumerate(model.model.layers) if hasattr(layer.mlp, "experts")]


def write_expert_adapter(model, folder, rank=4, alpha=8, b_scale=0.1):
    """A PEFT folder that adapts attention and every expert, as PEFT wrote it when each expert was a
    module; today's reads that and stacks the experts'."""
    generator = torch.Generator().manual_seed(0)
    config, tensors = model.config, {}
    inner = getattr(config, "moe_intermediate_size", config.intermediate_size)
    wide = config.hidden_size

    def add(module, out, into):
        a = torch.randn(rank, into, generator=generator) / math.sqrt(into)
        b = torch.randn(out, rank, generator=generator) * b_scale
        tensors[f"base_model.model.{module}.lora_A.weight"] = a
        tensors[f"base_model.model.{module}.lora_B.weight"] = b

    for i, layer in enumerate(model.model.layers):
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            shape = getattr(layer.self_attn, name).weight.shape
            add(f"model.layers.{i}.self_attn.{name}", *shape)
        for e in range(config.num_experts if i in sparse_layers(model) else 0):
            place = f"model.layers.{i}.mlp.experts.{e}"
            add(f"{place}.gate_proj", inner, wide)
            add(f"{place}.up_proj", inner, wide)
            add(f"{place}.down_proj", wide, inner)
    folder.mkdir()
    safetensors.torch.save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": alpha,
        "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj",
                           "down_proj"]}))
    return folder


def expert_halves(name, values, config):
    """Hone's names and values of what PEFT stacks: A (experts·ranks, in), B (out, ranks·experts),
    the ranks of gate and up one after the other."""
    layer = name.split("layers.")[1].split(".")[0]
    count, is_a = config.num_experts, ".lora_A" in name
    parts = (values.reshape(count, -1, values.shape[1]) if is_a else
             np.moveaxis(values.reshape(len(values), -1, count), 2, 0))
    found = {}
    for e, part in enumerate(parts):
        if ".base_layer." not in name:
            halves = {"down": part}
        else:
            rank, out = (len(part) if is_a else part.shape[1]) // 2, len(part) // 2
            halves = ({"gate": part[:rank], "up": part[rank:]} if is_a else
                      {"gate": part[:out, :rank], "up": part[out:, rank:]})
        for which, half in halves.items():
            found[f"blk.{layer}.ffn_{which}.{e}.weight.lora_{'a' if is_a else 'b'}"] = half
    return found


def part_experts(adapted, config):
    """Gate and up are apart in Hone: what stands across their stacked B is not trained."""
    for name, parameter in adapted.named_parameters():
        if ".experts.base_layer.lora_B" in name:
            out, ranks = parameter.shape[0] // 2, parameter.shape[1] // config.num_experts // 2
            mask = torch.zeros(2, out, 2, ranks, config.num_experts, dtype=parameter.dtype)
            mask[0, :, 0] = mask[1, :, 1] = 1
            parameter.register_hook(
                lambda gradient, mask=mask.reshape(parameter.shape): gradient * mask)
    return adapted


def convert(pairs):
    """(folder, GGUF file) each: by llama.cpp's converter."""
    script = pathlib.Path(__file__).with_name("to_gguf.py")
    done = subprocess.run([sys.executable, "-B", script, *(str(path) for pair in pairs
                                                           for path in pair)],
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def rope(kind, theta=10000.0, **scaling):
    return {"rope_parameters": {"rope_type": kind, "rope_theta": theta, **scaling}}


LLAMA3 = rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=32)
YARN = rope("yarn", factor=4.0, original_max_position_embeddings=64)
LONG = {"rope_parameters": {
    "rope_type": "longrope", "rope_theta": 10000.0,
    "short_factor": [1.0, 1.1, 1.3, 1.9], "long_factor": [1.0, 2.0, 3.0, 7.0],
    "original_max_position_embeddings": 256}, "original_max_position_embeddings": 256,
    "max_position_embeddings": 1024}
GEMMA = {"tie_word_embeddings": True}
SHAPES = {
    # biases of q, k and v
    "qwen2": Decoder("qwen2", 2, 36, 6, 2, 50, 13),
    "qwen2-tied-yarn": Decoder("qwen2", 2, 32, 4, 4, 44, 5, {"tie_word_embeddings": True, **YARN}),
    "qwen2-windows": Decoder("qwen2", 3, 30, 3, 1, 40, 7, {
        "use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1}, False),
    # norms of q and k; heads of another size than their share of the width
    "qwen3": Decoder("qwen3", 2, 40, 4, 2, 56, 13, {"head_dim": 14}),
    "qwen3-tied-biases": Decoder("qwen3", 2, 35, 3, 3, 45, 20, {
        "head_dim": 16, "attention_bias": True, "tie_word_embeddings": True,
        **rope("linear", 1e6, factor=2.5)}, False),
    # experts
    "qwen3-moe": Decoder("qwen3_moe", 2, 40, 4, 2, 56, 13, {
        "head_dim": 14, "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 21,
        "norm_topk_prob": True}),
    "qwen3-moe-mixed": Decoder("qwen3_moe", 4, 35, 3, 3, 45, 20, {
        "head_dim": 16, "attention_bias": True, "tie_word_embeddings": True, "num_experts": 5,
        "num_experts_per_tok": 3, "moe_intermediate_size": 19, "norm_topk_prob": False,
        "decoder_sparse_step": 2, "mlp_only_layers": [3], "use_sliding_window": True,
        "sliding_window": 9, **rope("linear", 1e6, factor=2.5)}, False),
    "olmoe": Decoder("olmoe", 2, 36, 6, 6, 23, 13, {
        "num_experts": 7, "num_experts_per_tok": 3, "norm_topk_prob": False}),
    "olmoe-normed": Decoder("olmoe", 2, 32, 4, 2, 20, 2, {
        "num_experts": 4, "num_experts_per_tok": 4, "norm_topk_prob": True,
        "attention_bias": True, "tie_word_embeddings": True, **YARN}, False),
    "llama3": Decoder("llama", 2, 28, 4, 2, 45, 40, {"head_dim": 14, **LLAMA3}),
    "llama-biases-linear": Decoder("llama", 2, 36, 6, 3, 50, 3, {
        "attention_bias": True, "mlp_bias": True, **rope("linear", factor=4.0)}),
    "llama-yarn": Decoder("llama", 2, 32, 2, 1, 30, 9, {"tie_word_embeddings": True, **YARN}),
    "llama-dynamic": Decoder("llama", 1, 32, 2, 1, 30, 9, rope("dynamic", factor=3.0)),
    "mistral": Decoder("mistral", 2, 40, 4, 2, 52, 11, {"sliding_window": 16}, False),
    "smollm3": Decoder("smollm3", 5, 32, 4, 2, 40, 8, {"tie_word_embeddings": True}),
    "smollm3-rope-windows": Decoder("smollm3", 4, 32, 4, 1, 40, 8, {
        "no_rope_layers": [0, 1, 1, 0], "use_sliding_window": True, "sliding_window": 7,
        "mlp_bias": True, "attention_bias": True}, False),
    "granite": Decoder("granite", 2, 36, 6, 2, 50, 13, {
        "embedding_multiplier": 3.0, "attention_multiplier": 0.25, "residual_multiplier": 0.35,
        "logits_scaling": 2.5}),
    "olmo2": Decoder("olmo2", 2, 36, 6, 2, 50, 13),
    "olmo2-whole": Decoder("olmo2", 2, 32, 4, 4, 40, 2, {"tie_word_embeddings": True}, False),
    "gemma2": Decoder("gemma2", 3, 36, 4, 2, 50, 13, {
        **GEMMA, "head_dim": 12, "query_pre_attn_scalar": 12, "sliding_window": 11,
        "attn_logit_softcapping": 5.0, "final_logit_softcapping": 4.0}),
    "gemma2-uncapped": Decoder("gemma2", 2, 24, 3, 1, 40, 4, {
        **GEMMA, "head_dim": 10, "query_pre_attn_scalar": 7, "sliding_window": 200,
        "attn_logit_softcapping": None, "final_logit_softcapping": None}, False),
    "gemma3": Decoder("gemma3_text", 7, 32, 4, 2, 40, 6, {
        **GEMMA, "head_dim": 12, "query_pre_attn_scalar": 12, "sliding_window": 10}),
    "gemma3-linear": Decoder("gemma3_text", 3, 32, 4, 1, 40, 6, {
        **GEMMA, "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 21,
        "final_logit_softcapping": 6.0,
        "layer_types": ["full_attention", "sliding_attention", "full_attention"],
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 50000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 3000.0}}}, False),
    "phi3": Decoder("phi3", 2, 32, 4, 2, 44, 10),
    "phi3-window": Decoder("phi3", 2, 30, 3, 3, 44, 10, {"sliding_window": 13}, False),
    "phi3-long": Decoder("phi3", 2, 32, 4, 2, 44, 10, LONG),
}
