# SPDX-License-Identifier: Apache-2.0
"""`hone train`: what it begins with, the steps beside PyTorch's, and files that others load."""
import json
import math

import numpy as np
import peers
import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

CONTEXT = 24
WORDS = "the cat sat on a mat and saw that it was good for nothing but sleep"


def texts(count=40):
    words = WORDS.split()
    draw = np.random.default_rng(5)
    return [" ".join(draw.choice(words, draw.integers(2, 60))) for _ in range(count)]


def sizes(architecture):
    more = ["--kv-heads", 2] if architecture == "llama" else []
    return ["--architecture", architecture, "--layers", 3, "--channels", 32, "--heads", 4, *more,
            "--context", CONTEXT, "--vocabulary", 290, "--eval-split", 0, "--shuffle", "off",
            "--type", "f32", "--batch", 4, "--seed", 7]


def train(hone, data, out, architecture, *options):
    lines = peers.run_hone(hone, "train", "--data", data, "--out", out, *sizes(architecture), *options)
    return [line["loss"] for line in lines if line["event"] == "step"]


def loaded(hone, out):
    folder = out / "hf"
    peers.run_hone(hone, "convert", out / "model.gguf", "--to", "hf", "--out", folder)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def windows(out, documents):
    """BOS, the text, EOS; each window begins with the last token of the one before."""
    tokenizer, found = Tokenizer.from_file(str(out / "tokenizer.json")), []
    end = tokenizer.token_to_id("<|endoftext|>")
    for document in documents:
        tokens = [end, *tokenizer.encode(document, add_special_tokens=False).ids, end]
        for first in range(0, len(tokens) - 1, CONTEXT - 1):
            part = tokens[first:first + CONTEXT]
            found.append((part, list(range(1, len(part)))))
    return found


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_steps_follow_torch(hone, tmp_path, architecture):
    documents = texts()
    data = peers.write_texts(tmp_path / "data.jsonl", documents)
    train(hone, data, tmp_path / "start", architecture, "--steps", 1, "--lr", 1e-30,
          "--weight-decay", 0)
    model = loaded(hone, tmp_path / "start")
    names = {name: value.detach() for name, value in model.named_parameters()}
    for name, value in names.items():
        if value.ndim == 1:
            want = 0.0 if name.endswith("bias") else 1.0
            assert (value - want).abs().max() < 1e-29
            continue
        residual = name.endswith(("o_proj.weight", "down_proj.weight", "c_proj.weight"))
        want = 0.02 / math.sqrt(2 * 3) if residual else 0.02
        assert value.std() == pytest.approx(want, rel=5 / math.sqrt(value.numel())), name
        assert abs(value.mean()) < 5 * want / math.sqrt(value.numel()), name

    got = train(hone, data, tmp_path / "out", architecture, "--steps", 20, "--lr", 1e-3,
                "--schedule", "linear", "--warmup", 2)
    examples = windows(tmp_path / "out", documents)
    assert any(len(tokens) == CONTEXT for tokens, _ in examples)

    def adamw(groups, lr):
        return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95))

    want = peers.train(model, peers.steps_of(examples, 4, 20), 1e-3, "linear", 2, 0.1, adamw)
    assert np.abs(np.array(got) - np.array(want)).max() < 2e-4
    trained = loaded(hone, tmp_path / "out")
    for name, value in trained.named_parameters():
        moved = (value - names[name]).norm()
        apart = (value - dict(model.named_parameters())[name]).norm()
        assert apart <= 0.02 * moved + 1e-5, name


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_others_load_what_was_trained(hone, tmp_path, architecture):
    documents = texts()
    data = peers.write_texts(tmp_path / "data.jsonl", documents)
    out = tmp_path / "out"
    train(hone, data, out, architecture, "--steps", 30, "--lr", 3e-3)
    model = loaded(hone, out)
    examples = windows(out, documents)[:6]
    want = peers.torch_logprobs_of(model, examples)
    ours = peers.hone_logprobs(hone, out / "model.gguf",
                               peers.write_texts(tmp_path / "few.jsonl", documents[:6]),
                               "--max-length", CONTEXT)
    tokenizer = AutoTokenizer.from_pretrained(out / "hf")
    for document, values in zip(documents[:6], ours):
        tokens = [*tokenizer(document).input_ids, tokenizer.eos_token_id][:CONTEXT]
        reference = peers.torch_logprobs_of(model, [(tokens, list(range(1, len(tokens))))])
        assert peers.largest_difference([values], reference) < 1e-4
    assert peers.largest_difference(peers.llama_logprobs(out / "model.gguf", examples), want) < 1e-3


def test_a_vocabulary_of_another_model(hone, model, tmp_path):
    data = peers.write_texts(tmp_path / "data.jsonl", texts(8))
    train(hone, data, tmp_path / "gguf", "llama", "--tokenizer", model, "--steps", 2)
    folder = tmp_path / "json"
    train(hone, data, folder, "llama", "--tokenizer", tmp_path / "gguf" / "tokenizer.json",
          "--steps", 2)
    losses = [[json.loads(line)["loss"] for line in open(tmp_path / name / "metrics.jsonl")]
              for name in ("gguf", "json")]
    assert losses[0] == losses[1]
