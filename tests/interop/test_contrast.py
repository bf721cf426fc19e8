# SPDX-License-Identifier: Apache-2.0
"""Vectors learnt from pairs: torch's gradients and steps in f64, files that sentence-transformers and
PEFT load.

    HONE_BINARY=build/release/hone "$(scripts/interop-env)" -m pytest tests/interop/test_contrast.py
"""
import json
import subprocess

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")
import encoders
import numpy as np
from test_classify import compare, evals, gradient, run, stored_name, write

TEXTS = [text for text in encoders.TEXTS if text]
PAIRS = [{"anchor": text, "positive": TEXTS[(i * 5 + 2) % len(TEXTS)]} for i, text in enumerate(TEXTS)]


def peer_of(folder):
    return transformers.BertModel.from_pretrained(folder, dtype=torch.float64).eval()


def vectors(model, tokenizer, texts, pooling, length):
    made = []
    for text in texts:
        ids = tokenizer(text, truncation=True, max_length=length, return_tensors="pt").input_ids
        made.append(encoders.pooled(model(ids).last_hidden_state[0], pooling))
    return torch.stack(made)


def loss_of(model, tokenizer, pairs, pooling, length):
    a, p = (torch.nn.functional.normalize(
        vectors(model, tokenizer, [pair[key] for pair in pairs], pooling, length), dim=1)
        for key in ("anchor", "positive"))
    return torch.nn.functional.cross_entropy(20 * a @ p.T, torch.arange(len(pairs)))


def embed(hone, tmp_path, *options):
    data = write(tmp_path / "texts.jsonl", [{"text": text} for text in TEXTS])
    run(hone, "embed", "--data", data, "--out", tmp_path / "v.npy", *options)
    return np.load(tmp_path / "v.npy")


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
@pytest.mark.parametrize("parts", [1, 3])
def test_gradients(built, tmp_path, pooling, parts):
    """Every weight's; the negatives are the whole step's, in one micro-batch and in three."""
    shape = encoders.SHAPES["plain"]
    folder = shape.save(tmp_path / "hf")
    encoders.add_modules(folder, pooling, True)
    data = write(tmp_path / "d.jsonl", PAIRS)
    said, ours = gradient(built, folder, data, tmp_path / "g", "full", parts, "task", "embed")
    model = peer_of(folder)
    loss = loss_of(model, shape.tokenizer(), PAIRS, pooling, shape.context)
    loss.backward()
    assert abs(said["loss"] - loss.item()) <= 1e-5 * loss.item()
    theirs = {n: p.grad.numpy() for n, p in model.named_parameters() if p.grad is not None}
    named = {stored_name(n).removeprefix("bert."): g for n, g in ours.items()}
    for name in [n for n in named if n.startswith("pooler.")]: # of classes alone
        assert not named.pop(name).any()
    compare(named, theirs)


def test_steps(hone, tmp_path):
    """20 steps of AdamW on all weights; sentence-transformers loads the folder: the same vectors."""
    shape = encoders.SHAPES["cased"]
    folder = shape.save(tmp_path / "hf")
    data = write(tmp_path / "d.jsonl", PAIRS)
    run(hone, "finetune", "--model", folder, "--data", data, "--eval-data", data, "--out",
        tmp_path / "o", "--task", "embed", "--method", "full", "--steps", 20, "--batch", len(PAIRS),
        "--accumulate", 2, "--lr", 1e-3, "--schedule", "constant", "--warmup", 0, "--shuffle", "off")
    model, tokenizer = peer_of(folder), shape.tokenizer()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0)
    theirs = []
    for _ in range(20):
        loss = loss_of(model, tokenizer, PAIRS, "mean", shape.context)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.grad is not None], 1)
        optimizer.step()
        theirs.append(loss.item())
    ours, held_out = evals(tmp_path / "o")
    assert np.abs(np.array(ours) - theirs).max() <= 1e-4 * max(theirs)
    assert abs(held_out[0]["loss"] - theirs[0]) <= 1e-4 * theirs[0]
    # How far it falls depends on the vocabulary, which the trainer makes a little different each time.
    assert ours[-1] < ours[0] and held_out[-1]["loss"] < held_out[0]["loss"]
    written = tmp_path / "o" / "model"
    got = embed(hone, tmp_path, "--model", written)
    with torch.no_grad():
        wanted = vectors(peer_of(written), tokenizer, TEXTS, "mean", shape.context).numpy()
    assert np.abs(got - wanted).max() <= 1e-4
    library = pytest.importorskip("sentence_transformers")
    theirs = library.SentenceTransformer(str(written), device="cpu")
    assert theirs.max_seq_length == shape.context
    assert np.abs(theirs.encode(TEXTS) - got).max() <= 1e-4


def test_adapter(hone, tmp_path):
    """PEFT loads what was learnt, on the model without a head."""
    shape = encoders.SHAPES["plain"]
    folder = shape.save(tmp_path / "hf")
    encoders.add_modules(folder, "cls", True, 12)
    data = write(tmp_path / "d.jsonl", PAIRS)
    run(hone, "finetune", "--model", folder, "--data", data, "--out", tmp_path / "o", "--task",
        "embed", "--epochs", 5, "--lr", 1e-2, "--batch", 4, "--eval-split", 2)
    config = json.loads((tmp_path / "o" / "adapter_config.json").read_text())
    assert config["task_type"] == "FEATURE_EXTRACTION" and not config["modules_to_save"]
    model = peft.PeftModel.from_pretrained(peer_of(folder), tmp_path / "o").eval()
    with torch.no_grad():
        wanted = torch.nn.functional.normalize(
            vectors(model, shape.tokenizer(), TEXTS, "cls", 12), dim=1).numpy()
    got = embed(hone, tmp_path, "--model", folder, "--adapter", tmp_path / "o")
    assert np.abs(got - wanted).max() <= 1e-4
    assert np.abs(got - embed(hone, tmp_path, "--model", folder)).max() > 1e-3


def test_bad_input(hone, tmp_path):
    folder = encoders.SHAPES["plain"].save(tmp_path / "hf")
    for line, says in (('{"anchor": "a"}', "'positive' is missing"),
                       ('{"anchor": "", "positive": "b"}', "'anchor' is empty"),
                       ('{"anchor": "a", "positive": 3}', "'positive' is not a string")):
        (tmp_path / "d.jsonl").write_text(f'{{"anchor": "x", "positive": "y"}}\n{line}\n')
        done = subprocess.run([hone, "finetune", "--model", folder, "--data", tmp_path / "d.jsonl",
                               "--task", "embed", "--out", tmp_path / "o"], capture_output=True,
                              text=True)
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
        assert "d.jsonl:2" in done.stderr and says in done.stderr
        assert not (tmp_path / "o").exists()
