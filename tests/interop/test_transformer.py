# SPDX-License-Identifier: Apache-2.0
"""The Transformer of 2017 beside PyTorch's layers in f64: log-probabilities, every gradient, steps of
AdamW, what it begins with and what it drops."""
import json
import math
import subprocess

import numpy as np
import peers
import pytest
import safetensors.numpy
import torch
import transformer
from tokenizers import Tokenizer

WORDS = "the cat sat on a mat and saw that it was good for nothing but sleep".split()
STEPS = 20


def records(count=40):
    """Ragged; two of them have one source, and two more begin alike."""
    draw = np.random.default_rng(5)
    made = []
    for _ in range(count):
        words = list(draw.choice(WORDS, draw.integers(1, 9)))
        made.append({"source": " ".join(words), "target": " ".join(words[::-1])})
    made[1]["source"] = made[0]["source"]
    made[3] = {"source": made[2]["source"], "target": made[2]["target"] + " sleep"}
    return made


KINDS = {"post": ["--norm", "post"],
         "pre": ["--norm", "pre", "--encoder-layers", 3],
         "apart": ["--norm", "post", "--tied-head", "off", "--feed-forward", 40]}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records()))
    return path


@pytest.fixture(scope="module")
def fresh(hone, data, tmp_path_factory):
    """kind → a model that has not moved from its first weights but for nothing, and its pairs."""
    found = {}

    def make(kind):
        if kind not in found:
            out = tmp_path_factory.mktemp(kind)
            peers.run_hone(hone, "train", "--architecture", "transformer", "--data", data, "--out",
                           out, "--layers", 2, "--channels", 24, "--heads", 3, "--context", 40,
                           "--vocabulary", 290, "--eval-split", 0, "--type", "f32", "--steps", 1,
                           "--lr", 1e-30, "--weight-decay", 0, *KINDS[kind])
            # Gains and biases that are not all alike.
            path = out / "model.gguf"
            disturb(path)
            tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
            found[kind] = path, [transformer.tokens_of(tokenizer, record) for record in records()]
        return found[kind]

    return make


def disturb(path):
    import gguf
    reader, draw = gguf.GGUFReader(path, "r+"), np.random.default_rng(3)
    for tensor in reader.tensors:
        if tensor.data.ndim == 1:
            tensor.data[:] += draw.normal(0, 0.2, tensor.data.shape).astype(np.float32)
    reader.data.flush()


@pytest.mark.parametrize("kind", KINDS)
def test_logprobs(hone, data, fresh, kind):
    path, pairs = fresh(kind)
    model = transformer.Transformer(path).eval()
    ours = peers.hone_logprobs(hone, path, data)
    theirs = [model.logprobs(pair) for pair in pairs]
    assert peers.largest_difference(ours, theirs) < 1e-4


@pytest.mark.parametrize("smoothing", [0, 0.1])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients(built, data, fresh, tmp_path, kind, smoothing):
    path, pairs = fresh(kind)
    model = transformer.Transformer(path)
    loss = model.loss(pairs, smoothing)
    loss.backward()
    theirs = model.by_gguf_name({name: value.grad.numpy() for name, value in model.named_parameters()})
    for parts in (1, 3):
        out = tmp_path / "gradients.safetensors"
        done = subprocess.run([built("tests/interop/gradient_tool"), path, data, out, "full",
                               str(parts), "smooth", str(smoothing)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["loss"] == pytest.approx(loss.item(), rel=1e-6)
        ours = safetensors.numpy.load_file(out)
        everything = np.sqrt(sum(np.square(value).sum() for value in theirs.values()))
        assert sorted(ours) == sorted(theirs)
        for name, want in theirs.items():
            apart = np.linalg.norm(ours[name] - want)
            assert apart <= 1e-4 * np.linalg.norm(want) + 1e-7 * everything, name


@pytest.mark.parametrize("kind", KINDS)
def test_steps_follow_torch(hone, data, fresh, tmp_path, kind):
    path, pairs = fresh(kind)
    lines = peers.run_hone(hone, "finetune", "--model", path, "--data", data, "--out", tmp_path,
                           "--method", "full", "--type", "f32", "--eval-split", 0, "--shuffle",
                           "off", "--batch", 8, "--steps", STEPS, "--lr", 1e-3, "--schedule",
                           "inverse-sqrt", "--warmup", 5, "--label-smoothing", 0.1)
    ours = [line["loss"] for line in lines if line["event"] == "step"]
    model = transformer.Transformer(path)
    first = {name: value.detach().clone() for name, value in model.named_parameters()}
    optimiser = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.999), weight_decay=0)
    theirs = []
    for step, batch in enumerate(peers.steps_of(pairs, 8, STEPS)):
        for group in optimiser.param_groups:
            group["lr"] = 1e-3 * min((step + 1) / 5, math.sqrt(5 / (step + 1)))
        optimiser.zero_grad()
        loss = model.loss(batch, 0.1)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1)
        optimiser.step()
        theirs.append(loss.item())
    assert theirs[-1] < theirs[0]
    assert np.abs(np.array(ours) - np.array(theirs)).max() < 1e-4
    trained = dict(transformer.Transformer(tmp_path / "model.gguf").named_parameters())
    # A key's bias moves all scores of a query alike: its gradient is zero but for rounding.
    for name, value in model.named_parameters():
        if name.endswith("in_proj_bias"):
            continue
        moved = (value - first[name]).norm()
        assert (value - trained[name]).norm() <= 0.02 * moved + 1e-6, name


def test_what_is_dropped(hone, data, fresh, tmp_path):
    """The losses of many draws: their mean and their spread are those of torch's."""
    path, pairs = fresh("post")
    lines = peers.run_hone(hone, "finetune", "--model", path, "--data", data, "--out", tmp_path,
                           "--method", "full", "--eval-split", 0, "--batch", len(pairs), "--steps",
                           150, "--lr", 1e-30, "--dropout", 0.25)
    ours = np.array([line["loss"] for line in lines if line["event"] == "step"])
    torch.manual_seed(1)
    model = transformer.Transformer(path, dropout=0.25).train()
    with torch.no_grad():
        theirs = np.array([model.loss(pairs).item() for _ in range(150)])
        plain = model.eval().loss(pairs).item()
    error = math.hypot(ours.std(), theirs.std()) / math.sqrt(len(ours))
    assert abs(ours.mean() - theirs.mean()) < 4 * error
    assert abs(ours.mean() - plain) > 8 * error
    assert ours.std() == pytest.approx(theirs.std(), rel=0.3)


def test_first_weights(hone, data, tmp_path):
    peers.run_hone(hone, "train", "--architecture", "transformer", "--data", data, "--out", tmp_path,
                   "--layers", 1, "--channels", 32, "--heads", 2, "--context", 40, "--vocabulary",
                   290, "--eval-split", 0, "--type", "f32", "--steps", 1, "--lr", 1e-30,
                   "--weight-decay", 0)
    for name, value in transformer.Transformer(tmp_path / "model.gguf").named_parameters():
        value, count = value.detach(), value.numel()
        if value.ndim == 1:
            want = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            assert (value - want).abs().max() < 1e-29, name
        elif name == "embedding.weight":
            assert value.std() == pytest.approx(1 / math.sqrt(32), rel=5 / math.sqrt(count))
        else:
            rows = value.shape[0] // (3 if "in_proj" in name else 1)
            bound = math.sqrt(6 / (rows + value.shape[1]))
            assert value.abs().max() <= bound
            assert value.std() == pytest.approx(bound / math.sqrt(3), rel=5 / math.sqrt(count)), name
