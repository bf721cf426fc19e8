# SPDX-License-Identifier: Apache-2.0
"""Muon, the gradient-norm penalty, the z-loss and the schedules beside their formulas in PyTorch."""
import json
import math

import numpy as np
import peers
import pytest
import torch
from test_train import loaded, texts, train, windows

STEPS = 20


class Muon(torch.optim.Optimizer):
    """Jordan's formulas in the parameter's own precision, AdamW for what is no matrix of a layer."""

    def __init__(self, groups, lr):
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                state, lr, decay = self.state[p], group["lr"], group["weight_decay"]
                state["step"] = state.get("step", 0) + 1
                p.mul_(1 - lr * decay)
                if p.hidden:
                    m = state.setdefault("m", torch.zeros_like(p))
                    m.lerp_(p.grad, 1 - 0.95)
                    p.sub_(lr * 0.2 * math.sqrt(max(p.shape)) * newton_schulz(p.grad.lerp(m, 0.95)))
                else:
                    m = state.setdefault("m", torch.zeros_like(p))
                    v = state.setdefault("v", torch.zeros_like(p))
                    m.lerp_(p.grad, 1 - 0.9)
                    v.lerp_(p.grad ** 2, 1 - 0.95)
                    n = state["step"]
                    p.sub_(lr * (m / (1 - 0.9 ** n)) / ((v / (1 - 0.95 ** n)).sqrt() + 1e-8))


def newton_schulz(g):
    x = g.T if g.shape[0] > g.shape[1] else g
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.T if g.shape[0] > g.shape[1] else x


def start(hone, tmp_path, architecture):
    data = peers.write_texts(tmp_path / "data.jsonl", texts())
    train(hone, data, tmp_path / "start", architecture, "--steps", 1, "--lr", 1e-30,
          "--weight-decay", 0)
    return data, loaded(hone, tmp_path / "start").double()


def compare(hone, tmp_path, model, examples, want):
    trained = loaded(hone, tmp_path / "out").double()
    peer = dict(model.named_parameters())
    begun = dict(loaded_once(hone, tmp_path).named_parameters())
    got = [json.loads(line)["loss"] for line in open(tmp_path / "out" / "metrics.jsonl")]
    assert np.abs(np.array(got) - np.array(want)).max() < 2e-4
    for name, value in trained.named_parameters():
        apart, moved = (value - peer[name]).norm(), (peer[name] - begun[name]).norm()
        assert apart <= 0.02 * moved + 1e-5, name


def loaded_once(hone, tmp_path):
    from transformers import AutoModelForCausalLM
    return AutoModelForCausalLM.from_pretrained(tmp_path / "start" / "hf", dtype=torch.float64)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_muon_follows_its_formula(hone, tmp_path, architecture):
    data, model = start(hone, tmp_path, architecture)
    train(hone, data, tmp_path / "out", architecture, "--steps", STEPS, "--lr", 2e-3,
          "--optimizer", "muon", "--schedule", "constant", "--warmup", 2)
    examples = windows(tmp_path / "out", texts())
    for name, p in model.named_parameters():
        p.hidden = p.ndim == 2 and ".layers." in name or p.ndim == 2 and ".h." in name
    want = peers.train(model, peers.steps_of(examples, 4, STEPS), 2e-3, "constant", 2, 0.1, Muon)
    compare(hone, tmp_path, model, examples, want)


def step_of(hone, data, out, *options):
    """The gradient of the first step, as plain SGD at rate 1 shows it."""
    train(hone, data, out, "llama", "--steps", 1, "--optimizer", "sgd", "--beta1", 0, "--lr", 1,
          "--schedule", "constant", "--warmup", 0, "--clip", 0, "--weight-decay", 0, *options)
    return loaded(hone, out).double()


def gradient(loss, parameters, again=False):
    return torch.autograd.grad(loss, parameters, create_graph=again)


@pytest.mark.parametrize("strength", [0.1, 1.0])
def test_penalty_of_the_gradients_norm(hone, tmp_path, strength):
    data, model = start(hone, tmp_path, "llama")
    after = step_of(hone, data, tmp_path / "out", "--gradient-penalty", strength)
    plain = step_of(hone, data, tmp_path / "plain")
    examples = windows(tmp_path / "out", texts())[:4]
    parameters = list(model.parameters())
    model.config._attn_implementation = "eager"  # has a second derivative
    with peers.exact(model):
        first = gradient(peers.batch_loss(model, examples), parameters, again=True)
        norm = torch.cat([g.flatten() for g in first]).norm()
        second = gradient(strength * norm, parameters)
    want = torch.cat([h.flatten() for h in second])
    got = torch.cat([(b - a).detach().flatten()
                     for a, b in zip(after.parameters(), plain.parameters(), strict=True)])
    assert want.norm() > 1e-3 * norm
    assert (got - want).norm() < 1e-2 * want.norm()


def test_z_loss(hone, tmp_path):
    data, model = start(hone, tmp_path, "llama")
    after = step_of(hone, data, tmp_path / "out", "--z-loss", 0.01)
    examples = windows(tmp_path / "out", texts())[:4]
    total, count = 0, 0
    with peers.exact(model):
        for tokens, targets in examples:
            logits = model(input_ids=torch.tensor([tokens])).logits[0, :-1]
            all_ = logits.logsumexp(-1)
            chosen = logits[torch.arange(len(targets)), torch.tensor(tokens)[targets]]
            total = total + (all_ - chosen + 0.01 * all_ ** 2).sum()
            count += len(targets)
        want = gradient(total / count, list(model.parameters()))
    logged = json.loads(open(tmp_path / "out" / "metrics.jsonl").readline())
    assert logged["loss"] == pytest.approx((total / count).item(), rel=1e-5)
    everything = math.sqrt(sum(float(g.norm()) ** 2 for g in want))
    for g, before, now in zip(want, loaded_once(hone, tmp_path).parameters(), after.parameters()):
        assert (before - now - g).norm() <= 1e-4 * g.norm() + 1e-6 * everything


def test_schedules(hone, tmp_path):
    data = peers.write_texts(tmp_path / "data.jsonl", texts())
    for schedule, options, want in [
            ("wsd", ["--decay", 4], [0.5, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2]),
            ("wsd", ["--decay", 0.2], [0.5, 1, 1, 1, 1, 1, 1, 1, 2 / 3, 1 / 3]),
            ("constant", [], [0.5] + [1] * 9),
            ("linear", [], [0.5, 1] + [1 - i / 8 for i in range(8)])]:
        train(hone, data, tmp_path / "out", "llama", "--steps", 10, "--warmup", 2, "--lr", 1e-3,
              "--schedule", schedule, *options)
        lines = [json.loads(line) for line in open(tmp_path / "out" / "metrics.jsonl")]
        assert [line["lr"] / 1e-3 for line in lines] == pytest.approx(want)


def test_norms_of_layers(hone, tmp_path):
    data, model = start(hone, tmp_path, "llama")
    after = step_of(hone, data, tmp_path / "out", "--log-norms", 1)
    line = json.loads(open(tmp_path / "out" / "metrics.jsonl").readline())
    assert line["layers"] == ["embedding", "0", "1", "2", "output"]
    # At rate 1, SGD's update is the gradient.
    assert line["layer_grad_norm"] == pytest.approx(line["layer_update_norm"], rel=1e-4)
    before, moved = dict(loaded_once(hone, tmp_path).named_parameters()), {}
    for name, value in after.named_parameters():
        group = "embedding" if "embed" in name else name.split(".")[2] if ".layers." in name else "output"
        moved[group] = moved.get(group, 0) + float((value - before[name]).detach().norm()) ** 2
    assert line["layer_update_norm"] == pytest.approx(
        [math.sqrt(moved[group]) for group in line["layers"]], rel=1e-4)
