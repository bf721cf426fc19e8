# SPDX-License-Identifier: Apache-2.0
"""The Transformer of 2017 out of PyTorch's own layers, with the weights of a GGUF file of Hone's."""
import math

import gguf
import numpy as np
import torch
from torch import nn

END = 0  # <|endoftext|>: begins and ends targets, ends sources


def _norm_names(name, ours):
    return {f"{name}.weight": f"{ours}.weight", f"{name}.bias": f"{ours}.bias"}


def _linear_names(name, ours):
    return _norm_names(name, ours)


def layer_names(side, number):
    """torch's parameter of a layer → Hone's tensor, or a list of those that are stacked in it."""
    block, found = f"{side}.blk.{number}", {}
    parts = [("self_attn", "attn", "norm1")]
    if side == "dec":
        parts.append(("multihead_attn", "cross_attn", "norm2"))
    for module, ours, norm in parts:
        for kind in ("weight", "bias"):
            found[f"{module}.in_proj_{kind}"] = [f"{block}.{ours}_{letter}.{kind}" for letter in "qkv"]
        found |= _linear_names(f"{module}.out_proj", f"{block}.{ours}_o")
        found |= _norm_names(norm, f"{block}.{ours}_norm")
    found |= _linear_names("linear1", f"{block}.ffn_up") | _linear_names("linear2", f"{block}.ffn_down")
    return found | _norm_names(f"norm{len(parts) + 1}", f"{block}.ffn_norm")


class Transformer(nn.Module):
    def __init__(self, path, dropout=0.0, dtype=torch.float64):
        super().__init__()
        reader = gguf.GGUFReader(path)
        tensors = {tensor.name: np.array(tensor.data) for tensor in reader.tensors}

        def key(name):
            return reader.fields[f"transformer.{name}"].contents()

        self.width, self.heads = key("embedding_length"), key("attention.head_count")
        first, eps = bool(key("norm_first")), key("attention.layer_norm_epsilon")
        options = {"d_model": self.width, "nhead": self.heads, "batch_first": True,
                   "dim_feedforward": key("feed_forward_length"), "dropout": dropout,
                   "layer_norm_eps": eps, "norm_first": first, "dtype": dtype}

        def side(make, count):
            layers = [make(**options) for _ in range(count)]
            for layer in layers:  # what Hone drops: the outputs of parts alone
                layer.dropout.p = layer.self_attn.dropout = 0.0
                if hasattr(layer, "multihead_attn"):
                    layer.multihead_attn.dropout = 0.0
            return nn.ModuleList(layers)

        self.embedding = nn.Embedding(*tensors["token_embd.weight"].shape, dtype=dtype)
        self.encoder = side(nn.TransformerEncoderLayer, key("block_count"))
        self.decoder = side(nn.TransformerDecoderLayer, key("decoder_block_count"))
        self.norms = nn.ModuleList(nn.LayerNorm(self.width, eps, dtype=dtype)
                                   for _ in range(2 if first else 0))
        self.head = None
        if "output.weight" in tensors:
            self.head = nn.Linear(self.width, len(tensors["output.weight"]), False, dtype=dtype)
        self.drop = nn.Dropout(dropout)
        self.names = self._names()
        parameters = dict(self.named_parameters())
        assert sorted(parameters) == sorted(self.names)
        used = [ours for name in self.names.values() for ours in np.ravel(name)]
        assert sorted(used) == sorted(tensors)
        with torch.no_grad():
            for name, parameter in parameters.items():
                parts = [tensors[ours] for ours in np.ravel(self.names[name])]
                parameter.copy_(torch.from_numpy(np.concatenate(parts).astype(np.float64)))

    def _names(self):
        found = {"embedding.weight": "token_embd.weight"}
        for ours, side in (("enc", "encoder"), ("dec", "decoder")):
            for i in range(len(getattr(self, side))):
                found |= {f"{side}.{i}.{name}": name_ours
                          for name, name_ours in layer_names(ours, i).items()}
        for i in range(len(self.norms)):
            found |= _norm_names(f"norms.{i}", f"{('enc', 'dec')[i]}.output_norm")
        return found | ({} if self.head is None else {"head.weight": "output.weight"})

    def by_gguf_name(self, values):
        """torch name → array, as Hone's names → arrays."""
        found = {}
        for name, value in values.items():
            ours = np.ravel(self.names[name])
            found |= dict(zip(ours, np.split(value, len(ours)), strict=True))
        return found

    def embed(self, ids):
        positions = torch.arange(ids.shape[1], dtype=torch.float64)[:, None]
        channel = torch.arange(0, self.width, 2, dtype=torch.float64)
        angle = positions / 10000 ** (channel / self.width)
        table = torch.stack([angle.sin(), angle.cos()], -1).flatten(1)[:, :self.width]
        return self.drop(math.sqrt(self.width) * self.embedding(ids) + table)

    def forward(self, pairs):
        """Logits of padded (source, target) pairs, targets (rows, length-1)."""
        source, hidden = padded([pair[0] for pair in pairs])
        target, after = padded([pair[1][:-1] for pair in pairs])
        memory = self.embed(source)
        for layer in self.encoder:
            memory = layer(memory, src_key_padding_mask=hidden)
        if len(self.norms):
            memory = self.norms[0](memory)
        x = self.embed(target)
        causal = torch.ones(target.shape[1], target.shape[1], dtype=torch.bool).triu(1)
        for layer in self.decoder:
            x = layer(x, memory, tgt_mask=causal, tgt_key_padding_mask=after,
                      memory_key_padding_mask=hidden)
        if len(self.norms):
            x = self.norms[1](x)
        return x @ (self.embedding.weight if self.head is None else self.head.weight).T

    def loss(self, pairs, smoothing=0.0):
        labels, after = padded([pair[1][1:] for pair in pairs])
        labels[after] = -100
        return nn.functional.cross_entropy(self(pairs).flatten(0, 1), labels.flatten(),
                                           label_smoothing=smoothing)

    def logprobs(self, pair):
        with torch.no_grad():
            rows = self([pair])[0].log_softmax(-1)
        return rows[torch.arange(len(rows)), torch.tensor(pair[1][1:])].numpy()


def padded(lists):
    """ids (rows, longest) and where there is nothing."""
    longest = max(map(len, lists))
    ids = torch.zeros(len(lists), longest, dtype=torch.long)
    empty = torch.ones(len(lists), longest, dtype=torch.bool)
    for row, tokens in enumerate(lists):
        ids[row, :len(tokens)] = torch.tensor(tokens)
        empty[row, :len(tokens)] = False
    return ids, empty


def tokens_of(tokenizer, record):
    source, target = (tokenizer.encode(record[side], add_special_tokens=False).ids
                      for side in ("source", "target"))
    return [*source, END], [END, *target, END]


def as_marian(path):
    """The same model as transformers' Marian, which has norms behind and sinusoids, but all sines
    before all cosines: the channels of what runs through the layers are moved."""
    from transformers import MarianConfig, MarianMTModel
    reader = gguf.GGUFReader(path)
    tensors = {tensor.name: torch.from_numpy(np.array(tensor.data)) for tensor in reader.tensors}

    def key(name):
        return reader.fields[f"transformer.{name}"].contents()

    V, C = tensors["token_embd.weight"].shape
    F, H, longest = key("feed_forward_length"), key("attention.head_count"), key("context_length")
    model = MarianMTModel(MarianConfig(
        vocab_size=V, d_model=C, encoder_layers=key("block_count"),
        decoder_layers=key("decoder_block_count"), encoder_attention_heads=H,
        decoder_attention_heads=H, encoder_ffn_dim=F, decoder_ffn_dim=F, max_position_embeddings=longest,
        activation_function="relu", scale_embedding=True, pad_token_id=0, eos_token_id=0,
        decoder_start_token_id=0, forced_eos_token_id=None)).double().eval()
    move = torch.cat([torch.arange(0, C, 2), torch.arange(1, C, 2)])
    parts = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "out_proj"}
    state = {"model.shared.weight": tensors["token_embd.weight"][:, move]}
    for side, module, count in (("enc", "encoder", "block_count"),
                                ("dec", "decoder", "decoder_block_count")):
        for i in range(key(count)):
            ours, theirs = f"{side}.blk.{i}", f"model.{module}.layers.{i}"
            kinds = [("attn", "self_attn")] + [("cross_attn", "encoder_attn")] * (side == "dec")
            for kind, name in kinds:
                for letter, part in parts.items():
                    weight, bias = (tensors[f"{ours}.{kind}_{letter}.{end}"]
                                    for end in ("weight", "bias"))
                    out = letter == "o"
                    state[f"{theirs}.{name}.{part}.weight"] = weight[move] if out else weight[:, move]
                    state[f"{theirs}.{name}.{part}.bias"] = bias[move] if out else bias
            norms = [(kind, f"{name}_layer_norm") for kind, name in kinds]
            for kind, name in [*norms, ("ffn", "final_layer_norm")]:
                for end in ("weight", "bias"):
                    state[f"{theirs}.{name}.{end}"] = tensors[f"{ours}.{kind}_norm.{end}"][move]
            state[f"{theirs}.fc1.weight"] = tensors[f"{ours}.ffn_up.weight"][:, move]
            state[f"{theirs}.fc1.bias"] = tensors[f"{ours}.ffn_up.bias"]
            state[f"{theirs}.fc2.weight"] = tensors[f"{ours}.ffn_down.weight"][move]
            state[f"{theirs}.fc2.bias"] = tensors[f"{ours}.ffn_down.bias"][move]
    missing, unexpected = model.load_state_dict({k: v.double() for k, v in state.items()}, strict=False)
    assert not unexpected
    tied = ("embed_tokens.weight", "embed_positions.weight", "lm_head.weight", "final_logits_bias")
    assert all(name.endswith(tied) for name in missing)
    model.tie_weights()
    return model
