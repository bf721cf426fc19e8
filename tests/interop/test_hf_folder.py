# SPDX-License-Identifier: Apache-2.0
"""Model folders as transformers saves them: read, trained and merged as the same model in a GGUF file."""
import json
import subprocess

import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")
gguf = pytest.importorskip("gguf")
pytest.importorskip("llama_cpp")
import models
import numpy as np
import peers
import tiny
import torch
from safetensors import safe_open
from test_same_files import PROBES, flat
from test_same_training import LINES
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import (AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM,
                          PreTrainedTokenizerFast)


def save_tokenizer(folder, merges, rule):
    """The tiny vocabulary as transformers saves it."""
    names = tiny.tokens(merges)
    made = Tokenizer(BPE({name: i for i, name in enumerate(names)},
                         [tuple(merge.split(" ")) for merge in tiny.MERGES[:merges]]))
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    digits = pre_tokenizers.Digits(individual_digits=True)
    made.pre_tokenizer = pre_tokenizers.Sequence([digits, level]) if rule == "smollm" else level
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(name, special=True) for name in tiny.SPECIAL])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=tiny.SPECIAL[0], eos_token=tiny.SPECIAL[2],
        unk_token=tiny.SPECIAL[0], pad_token=tiny.SPECIAL[0])
    fast.chat_template = tiny.TEMPLATE
    fast.save_pretrained(folder)


def save(shape, folder, rule, **options):
    model = shape.transformers_model()
    for parameter in model.parameters():
        if shape.half and parameter.ndim == 2:
            parameter.data = parameter.data.half()
    model.save_pretrained(folder, **options)
    save_tokenizer(folder, shape.merges, rule)
    return folder


def pair_of(name, path, **options):
    """The same model as a folder and as a GGUF file."""
    shape = models.SHAPES[name]
    path.mkdir(exist_ok=True)
    rule = "gpt-2" if name.startswith("gpt2") else "smollm"
    return shape, save(shape, path / "hf", rule, **options), shape.write_gguf(path / "tiny.gguf")


def matrices(run):
    with safe_open(run / "adapter_model.safetensors", "np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}


def check_same_gguf(ours, wanted, limit):
    """Names, shapes and values of two GGUF files' tensors, up to the last bits of training."""
    ours, wanted = (({t.name: t.data for t in gguf.GGUFReader(path).tensors}) for path in
                    (ours, wanted))
    assert set(ours) == set(wanted)
    for name, data in ours.items():
        assert np.linalg.norm(data - wanted[name]) <= limit * np.linalg.norm(wanted[name]), name


@pytest.mark.parametrize("name", models.SHAPES)
def test_same_as_the_gguf_file(hone, tmp_path, name):
    shape, folder, path = pair_of(name, tmp_path)
    data = peers.write_texts(tmp_path / "texts.jsonl", LINES)
    probes = peers.write_texts(tmp_path / "probes.jsonl", PROBES)
    assert peers.examples_of(hone, folder, probes) == peers.examples_of(hone, path, probes)
    base, same = (peers.hone_logprobs(hone, model, probes) for model in (folder, path))
    assert peers.largest_difference(base, same) <= 1e-5

    options = ["--rank", 4, "--alpha", 8, "--steps", 6, "--lr", 1e-2, "--batch", 8]
    runs = [tmp_path / "run-hf", tmp_path / "run-gguf"]
    losses = [peers.finetune(hone, model, data, run, *options)
              for model, run in zip((folder, path), runs)]
    assert np.abs(np.subtract(*losses)).max() <= 1e-4
    # q's and k's rows lie in another order in the two models, and in the same in both adapters.
    mine, other = (matrices(run) for run in runs)
    assert set(mine) == set(other)
    for key, value in mine.items():
        if "lora_B" in key:  # what is drawn for A is the same from the start
            assert np.linalg.norm(value - other[key]) <= 5e-3 * np.linalg.norm(other[key]), key
    check_same_gguf(runs[0] / "adapter.gguf", runs[1] / "adapter.gguf", 5e-3)

    # Either run's adapter, from either of its files, on either model.
    ours = peers.hone_logprobs(hone, folder, probes, "--adapter", runs[0])
    assert np.abs(flat(ours) - flat(base)).mean() > 0.02
    for model in (folder, path):
        for adapter in (runs[0], runs[0] / "adapter.gguf"):
            again = peers.hone_logprobs(hone, model, probes, "--adapter", adapter)
            assert peers.largest_difference(ours, again) <= 1e-5

    merged, other = tmp_path / "merged.gguf", tmp_path / "merged-gguf.gguf"
    for model, out in ((folder, merged), (path, other)):
        peers.run_hone(hone, "merge", "--model", model, "--adapter", runs[0], "--out", out, "--type",
                       "f32")
    check_same_gguf(merged, other, 1e-6)
    assert peers.largest_difference(ours, peers.hone_logprobs(hone, merged, probes)) <= 1e-4
    examples = peers.examples_of(hone, path, probes)
    theirs = peers.llama_logprobs(merged, examples)
    if name.startswith("gpt2"):
        # llama.cpp looks GELU up in a table of 16-bit numbers
        assert peers.largest_difference(theirs, peers.llama_logprobs(other, examples)) <= 1e-3
        return
    assert peers.largest_difference(ours, theirs) <= 1e-3
    reference = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    reference = peers.with_adapter(reference, runs[0])
    assert peers.largest_difference(ours, peers.torch_logprobs(reference, examples)) <= 1e-4


@pytest.mark.parametrize("name", ["grouped", "gpt2-odd"])
def test_full_fine_tuning(hone, tmp_path, name):
    """model.gguf of a full run is that of the same run from the GGUF file."""
    _, folder, path = pair_of(name, tmp_path)
    data = peers.write_texts(tmp_path / "texts.jsonl", LINES)
    for model, run in ((folder, "run-hf"), (path, "run-gguf")):
        peers.finetune(hone, model, data, tmp_path / run, "--method", "full", "--type", "f32",
                       "--steps", 6, "--lr", 1e-3, "--batch", 8)
    check_same_gguf(tmp_path / "run-hf" / "model.gguf", tmp_path / "run-gguf" / "model.gguf", 5e-3)


@pytest.mark.parametrize("name", ["plain", "gpt2"])
def test_shards(hone, tmp_path, name):
    """Several files and their index."""
    shape, folder, path = pair_of(name, tmp_path, max_shard_size="20KB")
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 2
    probes = peers.write_texts(tmp_path / "probes.jsonl", PROBES)
    ours, same = (peers.hone_logprobs(hone, model, probes) for model in (folder, path))
    assert peers.largest_difference(ours, same) <= 1e-5
    peers.finetune(hone, folder, peers.write_texts(tmp_path / "texts.jsonl", LINES),
                   tmp_path / "run", "--steps", 2, "--batch", 4, "--memory", "64M")


def test_a_converted_folder(hone, tmp_path):
    """It has the keys, values and tensors of the GGUF file of the same model."""
    _, folder, _ = pair_of("plain", tmp_path)
    out = tmp_path / "converted.gguf"
    peers.run_hone(hone, "convert", folder, "--to", "gguf", "--out", out)
    keys = gguf.GGUFReader(out).fields
    assert keys["general.name"].contents() == "hf"
    wanted = gguf.GGUFReader(tmp_path / "tiny.gguf").fields
    for key, field in wanted.items():
        if key.startswith("GGUF.") or key in ("general.name", "tokenizer.ggml.pre"):
            continue
        assert key in keys, key
        mine, other = keys[key].contents(), field.contents()
        if isinstance(other, float):
            assert mine == pytest.approx(other, rel=1e-6), key
        else:
            assert mine == other, key
    tensors = {t.name: t.data for t in gguf.GGUFReader(out).tensors}
    for tensor in gguf.GGUFReader(tmp_path / "tiny.gguf").tensors:
        assert np.array_equal(tensors[tensor.name], tensor.data), tensor.name


def tokens_of(hone, model, text):
    done = subprocess.run([str(hone), "tokenize", "--model", str(model)], input=text.encode(),
                          capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_tokenize_reads_the_folder(hone, model, tmp_path):
    """By tokenizer.json itself, where training goes by the keys that are made of it."""
    import gguf_to_hf
    folder = gguf_to_hf.converted(model)
    text = "\n".join(PROBES + LINES) + " 12 345  x\t\u00e9\u4f60\U0001f600"
    assert tokens_of(hone, folder, text) == tokens_of(hone, model, text)


def test_the_real_model(hone, model, tmp_path):
    """SmolLM2 as transformers has it: the same log-probabilities as from the GGUF file."""
    import gguf_to_hf
    folder = gguf_to_hf.converted(model)
    probes = peers.write_texts(tmp_path / "probes.jsonl", PROBES)
    assert peers.examples_of(hone, folder, probes) == peers.examples_of(hone, model, probes)
    ours, same = (peers.hone_logprobs(hone, where, probes) for where in (folder, model))
    assert peers.largest_difference(ours, same) <= 2e-3


LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
          r"\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")


def cut_by(pattern, behaviour, invert=False):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), behaviour, invert=invert),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def byte_level(cut, normalizer=None, whole=False):
    """A vocabulary trained on a few lines, cut as a family's tokenizer.json does it."""
    made = Tokenizer(BPE(ignore_merges=whole))
    if normalizer:
        made.normalizer = normalizer
    made.pre_tokenizer, made.decoder = cut, decoders.ByteLevel()
    made.train_from_iterator(LINES * 3, trainers.BpeTrainer(
        vocab_size=420, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|end|>"], show_progress=False))
    return made


def byte_fallback(normalizer, cut=None):
    """One that came from sentencepiece: merges are all pairs of tokens that make a token."""
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    trained = Tokenizer(BPE(unk_token="<unk>"))
    trained.normalizer = normalizer
    trained.train_from_iterator(LINES * 3, trainers.BpeTrainer(
        vocab_size=480, special_tokens=special, show_progress=False))
    ids = trained.get_vocab()
    merges = [(token[:i], token[i:]) for token in sorted(ids, key=ids.get)
              if token not in special for i in range(1, len(token))
              if token[:i] in ids and token[i:] in ids]
    made = Tokenizer(BPE(ids, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.normalizer = normalizer
    if cut:
        made.pre_tokenizer = cut
    made.add_special_tokens([AddedToken(name, special=True) for name in special[:3]])
    return made


# As the families publish them.
PUBLISHED = {
    "llama3": lambda: byte_level(cut_by(LLAMA3, "isolated"), whole=True),
    "olmo2": lambda: byte_level(cut_by(LLAMA3, "removed", True)),
    "qwen2": lambda: byte_level(cut_by(QWEN2, "isolated"), normalizers.NFC()),
    "granite": lambda: byte_level(pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])),
    "gemma": lambda: byte_fallback(normalizers.Replace(" ", "\u2581"),
                                   pre_tokenizers.Split(" ", "merged_with_previous")),
    "phi3": lambda: byte_fallback(normalizers.Sequence([
        normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_tokenisers_of_the_families(hone, tmp_path, name):
    """Training, which goes by GGUF's keys, sees the ids of tokenizers; and so it does in the GGUF file
    and in the folder that is made of that."""
    made = PUBLISHED[name]()
    end = "</s>" if name in ("gemma", "phi3") else "<|end|>"
    folder, path, again = tmp_path / "hf", tmp_path / "made.gguf", tmp_path / "again"
    LlamaForCausalLM(LlamaConfig(
        vocab_size=made.get_vocab_size(), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, eos_token_id=made.token_to_id(end))).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=made, eos_token=end, bos_token=None).save_pretrained(
        folder)
    texts = [text for text in PROBES + LINES if text] + [" two  spaces", "a\n\n\n b 12345 6",
                                                         "it's WE'LL 'd \u00e9\u4f60\U0001f600"]
    data = peers.write_texts(tmp_path / "texts.jsonl", texts)
    peers.run_hone(hone, "convert", folder, "--to", "gguf", "--out", path)
    peers.run_hone(hone, "convert", path, "--to", "hf", "--out", again)
    for model in (folder, path, again):
        for text, (tokens, _) in zip(texts, peers.examples_of(hone, model, data, "--no-eos")):
            assert tokens == made.encode(text, add_special_tokens=False).ids, (model, text)


# ---- what is refused ---------------------------------------------------------------------------


def refused(hone, folder, *says):
    done = subprocess.run([str(hone), "eval", "--model", str(folder), "--data", __file__],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    for part in says:
        assert part in done.stderr, done.stderr


def edited(file, change):
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


CONFIGS = [
    ({"model_type": "bloom"}, ["bloom", "llama"]),
    ({"hidden_act": "relu"}, ["hidden_act", "relu"]),
    ({"attention_bias": True}, ["q_proj.bias", "missing"]),
    ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, ["original_max_position_embeddings"]),
    ({"num_hidden_layers": 0}, ["num_hidden_layers", "whole number"]),
    ({"num_hidden_layers": 3}, ["blk.2"]),
    ({"num_hidden_layers": 1}, ["blk.1", "llama"]),
    ({"num_hidden_layers": "two"}, ["num_hidden_layers"]),
    ({"hidden_size": 48}, ["token_embd.weight", "48"]),
    ({"num_attention_heads": 7}, ["head"]),
    ({"vocab_size": 7}, ["embed_tokens", "vocab_size", "7"]),
    ({"vocab_size": 1 << 30}, ["vocab_size", "1073741824"]),
    ({"rms_norm_eps": -1}, ["rms_norm_eps"]),
    ({"model_type": "mistral", "sliding_window": 0}, ["sliding_window"]),
]


@pytest.mark.parametrize("change,says", CONFIGS)
def test_configs_that_are_refused(hone, tmp_path, change, says):
    _, folder, _ = pair_of("plain", tmp_path)
    edited(folder / "config.json", lambda content: content.update(change))
    refused(hone, folder, str(folder), *says)


def test_folders_that_are_refused(hone, tmp_path):
    _, folder, _ = pair_of("plain", tmp_path)
    weights = folder / "model.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(kept[:-7])
    refused(hone, folder, str(weights), "cut short")
    weights.unlink()
    refused(hone, folder, str(weights), "missing")
    (folder / "pytorch_model.bin").write_bytes(b"PK\x03\x04")
    refused(hone, folder, str(weights), "pytorch_model.bin", "safe_serialization")
    index = folder / "model.safetensors.index.json"
    for name in ("../x.safetensors", "/etc/passwd", "", "..", 7):
        index.write_text(json.dumps({"weight_map": {"lm_head.weight": name}}))
        refused(hone, folder, str(index), "not the name of a file")
    index.write_text("{}")
    refused(hone, folder, str(index), "names no file")
    index.write_text('{"weight_map"')
    refused(hone, folder, str(index), "not JSON")
    index.unlink()
    weights.write_bytes(kept)

    tokenizer = folder / "tokenizer.json"
    text = tokenizer.read_text()
    for change, says in [
            (lambda c: c["model"].update(type="Unigram"), ["pre_tokenizer is not T5's"]),
            (lambda c: c["model"]["vocab"].update(zz=5), ["zz", "id 5"]),
            (lambda c: c["model"]["vocab"].update(zz=10**6), ["zz", "1000000"]),
            (lambda c: c["model"]["vocab"].update(zz=-1), ["zz", "-1"]),
            (lambda c: c["model"].update(vocab=[1]), ["model.vocab"]),
            (lambda c: c["model"].update(merges=[7]), ["merge 0"]),
            (lambda c: c["model"].update(merges={}), ["model.merges"]),
            (lambda c: c.update(pre_tokenizer={"type": "Whitespace"}), ["pre_tokenizer"]),
            (lambda c: c.update(normalizer={"type": "Lowercase"}), ["normalizer"])]:
        edited(tokenizer, change)
        refused(hone, folder, str(tokenizer), *says)
        tokenizer.write_text(text)
    tokenizer.write_text(text[:-30])
    refused(hone, folder, str(tokenizer), "not JSON")
    tokenizer.unlink()
    refused(hone, folder, str(tokenizer), "cannot open")
    (folder / "config.json").unlink()
    refused(hone, folder, "config.json")
