# SPDX-License-Identifier: Apache-2.0
"""Tiny random T5s: in transformers, and the same weights as a GGUF file by llama.cpp's names."""
import copy

import gguf
import numpy as np
import sentencepiece
import torch
from tokenizers import pre_tokenizers
from transformers import T5Config, T5ForConditionalGeneration, T5Tokenizer

WORDS = "the cat sat on a mat and saw that it was good for nothing but sleep".split()
PARTS = {"q": "q", "k": "k", "v": "v", "o": "o"}


def vocabulary(folder):
    """A unigram model of 36 pieces, with T5's special tokens: padding 0, end 1, unknown 2."""
    texts = [" ".join(np.random.default_rng(seed).choice(WORDS, 12)) for seed in range(200)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_prefix=str(folder / "spiece"), vocab_size=36,
        model_type="unigram", pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2)
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "spiece.model"))


def make(pieces, gated, tied, seed=0, **more):
    torch.manual_seed(seed)
    config = T5Config(vocab_size=len(pieces), d_model=24, d_kv=7, d_ff=40, num_layers=2,
                      num_decoder_layers=3, num_heads=4, relative_attention_num_buckets=8,
                      feed_forward_proj="gated-gelu" if gated else "relu", dropout_rate=0.0,
                      decoder_start_token_id=0, pad_token_id=0, eos_token_id=1, n_positions=64,
                      tie_word_embeddings=tied, **more)
    model = T5ForConditionalGeneration(config)
    if not tied:
        model.lm_head.weight = torch.nn.Parameter(0.3 * torch.randn(len(pieces), 24))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("layer_norm.weight"):
                parameter.add_(0.2 * torch.randn_like(parameter))
            elif "relative_attention_bias" in name:
                parameter.copy_(torch.randn_like(parameter))
            elif name != "lm_head.weight":
                parameter.copy_(torch.randn_like(parameter) / parameter.shape[-1] ** 0.5)
    model = exact(model)
    assert (model.lm_head.weight is model.shared.weight) == tied
    return model


def exact(model):
    """In f64, ready."""
    model = model.double().eval()
    for module in model.modules():  # norms that do not go through f32
        if type(module).__name__ == "T5LayerNorm":
            module.forward = lambda x, m=module: m.weight * x * torch.rsqrt(
                x.pow(2).mean(-1, keepdim=True) + m.variance_epsilon)
    return model


def gguf_names(model):
    """transformers' names → Hone's, of the tensors that a file has."""
    found = {"shared.weight": "token_embd.weight"}
    if model.lm_head.weight is not model.shared.weight:
        found["lm_head.weight"] = "output.weight"
    gated = model.config.is_gated_act
    feed = {"wi_0": "ffn_gate", "wi_1": "ffn_up"} if gated else {"wi": "ffn_up"}
    for theirs, ours, count in (("encoder", "enc", model.config.num_layers),
                                ("decoder", "dec", model.config.num_decoder_layers)):
        for i in range(count):
            block, own = f"{theirs}.block.{i}.layer", f"{ours}.blk.{i}"
            parts = [("SelfAttention", "attn")]
            if ours == "dec":
                parts.append(("EncDecAttention", "cross_attn"))
            for n, (module, name) in enumerate(parts):
                found[f"{block}.{n}.layer_norm.weight"] = f"{own}.{name}_norm.weight"
                for letter in "qkvo":
                    found[f"{block}.{n}.{module}.{letter}.weight"] = f"{own}.{name}_{letter}.weight"
            if i == 0:
                found[f"{block}.0.SelfAttention.relative_attention_bias.weight"] = (
                    f"{own}.attn_rel_b.weight")
            n = len(parts)
            found[f"{block}.{n}.layer_norm.weight"] = f"{own}.ffn_norm.weight"
            for module, name in {**feed, "wo": "ffn_down"}.items():
                found[f"{block}.{n}.DenseReluDense.{module}.weight"] = f"{own}.{name}.weight"
        found[f"{theirs}.final_layer_norm.weight"] = f"{ours}.output_norm.weight"
    return found


def write_gguf(model, pieces, path, leave_out=(), **instead):
    config = model.config
    writer = gguf.GGUFWriter(path, "t5")
    keys = {"context_length": 64, "embedding_length": config.d_model,
            "feed_forward_length": config.d_ff, "block_count": config.num_layers,
            "decoder_block_count": config.num_decoder_layers, "attention.head_count": config.num_heads,
            "attention.key_length": config.d_kv, "attention.value_length": config.d_kv,
            "attention.relative_buckets_count": config.relative_attention_num_buckets,
            "decoder_start_token_id": config.decoder_start_token_id, **instead}
    for key, value in keys.items():
        if key not in leave_out:
            writer.add_uint32(f"t5.{key}", value)
    writer.add_float32("t5.attention.layer_norm_epsilon", config.layer_norm_epsilon)
    writer.add_float32("t5.attention.layer_norm_rms_epsilon", config.layer_norm_epsilon)
    writer.add_tokenizer_model("t5")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([pieces.id_to_piece(i) for i in range(len(pieces))])
    writer.add_token_scores([pieces.get_score(i) for i in range(len(pieces))])
    kinds = {0: gguf.TokenType.CONTROL, 1: gguf.TokenType.CONTROL, 2: gguf.TokenType.UNKNOWN}
    writer.add_token_types([kinds.get(i, gguf.TokenType.NORMAL) for i in range(len(pieces))])
    writer.add_add_space_prefix(True)
    writer.add_remove_extra_whitespaces(True)
    writer.add_eos_token_id(1)
    writer.add_pad_token_id(0)
    writer.add_unk_token_id(2)
    writer.add_add_eos_token(True)
    writer.add_add_bos_token(False)
    names, state = gguf_names(model), model.state_dict()
    for name, ours in names.items():
        if ours not in leave_out:
            writer.add_tensor(ours, state[name].float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def logits(model, pairs):
    """Of padded pairs."""
    longest = max(len(source) for source, _ in pairs), max(len(target) - 1 for _, target in pairs)
    source = torch.zeros(len(pairs), longest[0], dtype=torch.long)
    seen = torch.zeros_like(source)
    target = torch.zeros(len(pairs), longest[1], dtype=torch.long)
    labels = torch.full_like(target, -100)
    for row, (tokens, after) in enumerate(pairs):
        source[row, :len(tokens)] = torch.tensor(tokens)
        seen[row, :len(tokens)] = 1
        target[row, :len(after) - 1] = torch.tensor(after[:-1])
        labels[row, :len(after) - 1] = torch.tensor(after[1:])
    made = model(input_ids=source, attention_mask=seen, decoder_input_ids=target).logits
    return made, labels


def loss(model, pairs):
    made, labels = logits(model, pairs)
    return torch.nn.functional.cross_entropy(made.flatten(0, 1), labels.flatten())


def save(model, pieces, folder, words=True):
    """As a folder: weights in f32, tokenizer.json as transformers makes it of the pieces (words), or as
    older ones do."""
    tokenizer = T5Tokenizer(vocab=[(pieces.id_to_piece(i), pieces.get_score(i))
                                   for i in range(len(pieces))], extra_ids=0)
    if not words:
        tokenizer._tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="always")
    tokenizer.save_pretrained(folder)
    copy.deepcopy(model).float().save_pretrained(folder)
    return folder


def load(folder):
    """Of a folder, in f64."""
    return exact(T5ForConditionalGeneration.from_pretrained(folder))
