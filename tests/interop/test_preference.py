# SPDX-License-Identifier: Apache-2.0
"""DPO and ORPO beside TRL's formulas in PyTorch, in f64: the loss, every gradient, and steps."""
import json

import models
import numpy as np
import peers
import pytest
import torch
from test_same_training import compare_gradients, gradients  # noqa: F401

PROMPTS = ["The capital of France is", "2 + 2 =", "The library was closed on", "Once more:",
           "In the end, the answer", "天空是什么颜色？"]
CHOSEN = [" Paris.", " 4", " Monday and opened on Tuesday.", " in, on, at, of", " was the end.", "蓝色。"]
REJECTED = [" Rome, I think.", " 4 or 5", " Monday.", " to, the", " otter", "绿色。绿色。"]
SHAPES = ["odd", "grouped", "gpt2"]


def pairs_file(folder):
    path = folder / "pairs.jsonl"
    with open(path, "w", encoding="utf8") as file:
        for prompt, chosen, rejected in zip(PROMPTS, CHOSEN, REJECTED, strict=True):
            file.write(json.dumps({"prompt": prompt, "chosen": chosen, "rejected": rejected}) + "\n")
    return path


def answers(hone, model, folder, texts):
    path = folder / "answers.jsonl"
    with open(path, "w", encoding="utf8") as file:
        for prompt, text in zip(PROMPTS, texts, strict=True):
            file.write(json.dumps({"prompt": prompt, "completion": text}) + "\n")
    return peers.examples_of(hone, model, path, "--loss-on", "completion")


def logps(model, examples):
    """The sums of the targets' log-probabilities, and how many they are."""
    sums = []
    for tokens, targets in examples:
        logits = model(input_ids=torch.tensor([tokens])).logits[0].log_softmax(-1)
        rows = torch.tensor(targets)
        sums.append(logits[rows - 1, torch.tensor(tokens)[rows]].sum())
    return torch.stack(sums), torch.tensor([len(targets) for _, targets in examples])


def dpo(model, chosen, rejected, beta):
    """TRL's DPOTrainer.dpo_loss, loss_type "sigmoid"."""
    with torch.no_grad(), model.disable_adapter():
        reference = logps(model, chosen)[0] - logps(model, rejected)[0]
    policy = logps(model, chosen)[0] - logps(model, rejected)[0]
    return -torch.nn.functional.logsigmoid(beta * (policy - reference)).mean()


def orpo(model, chosen, rejected, beta):
    """TRL's ORPOTrainer.odds_ratio_loss and the loss of the chosen answers' own tokens."""
    (good, length), (bad, other) = logps(model, chosen), logps(model, rejected)
    a, b = good / length, bad / other
    odds = (a - b) - (torch.log1p(-torch.exp(a)) - torch.log1p(-torch.exp(b)))
    return -good.sum() / length.sum() - beta * torch.nn.functional.logsigmoid(odds).mean()


LOSSES = {"dpo": dpo, "orpo": orpo}


def peer(shape, folder):
    model = shape.transformers_model()
    path = peers.make_adapter(model, folder / "adapter")
    return peers.with_adapter(model.double(), path, trainable=True), path


@pytest.fixture(scope="module", params=SHAPES)
def shape(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    shape = models.SHAPES[request.param]
    shape.write_gguf(folder / "tiny.gguf")
    return shape, folder


@pytest.mark.parametrize("loss, beta", [("dpo", 0.1), ("dpo", 2.0), ("orpo", 0.1), ("orpo", 1.0)])
@pytest.mark.parametrize("parts", [1, 4])
def test_loss_and_gradients(hone, gradients, shape, tmp_path, loss, beta, parts):  # noqa: F811
    shape, folder = shape
    model, adapter = peer(shape, tmp_path)
    gguf = folder / "tiny.gguf"
    result, ours = gradients(gguf, pairs_file(tmp_path), tmp_path / "g", adapter, parts, loss, beta)
    chosen, rejected = (answers(hone, gguf, tmp_path, texts) for texts in (CHOSEN, REJECTED))
    with peers.exact(model):
        want = LOSSES[loss](model, chosen, rejected, beta)
        want.backward()
    assert result["loss"] == pytest.approx(want.item(), rel=1e-5)
    compare_gradients(ours, peers.gguf_gradients(model, model.get_base_model().config))


def test_steps_of_dpo(hone, tmp_path):
    shape = models.SHAPES["odd"]
    shape.write_gguf(tmp_path / "tiny.gguf")
    model, adapter = peer(shape, tmp_path)
    data = pairs_file(tmp_path)
    got = peers.finetune(hone, tmp_path / "tiny.gguf", data, tmp_path / "out", "--adapter", adapter,
                         "--loss", "dpo", "--beta", 0.5, "--batch", 6, "--steps", 20, "--lr", 1e-3,
                         "--schedule", "constant", "--warmup", 0, "--clip", 0)
    chosen, rejected = (answers(hone, tmp_path / "tiny.gguf", tmp_path, texts)
                        for texts in (CHOSEN, REJECTED))
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3,
                                  weight_decay=0)
    want = []
    with peers.exact(model):
        for _ in range(20):
            loss = dpo(model, chosen, rejected, 0.5)
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            want.append(loss.item())
    assert np.abs(np.array(got) - want).max() < 1e-3
    assert got[-1] < 0.8 * got[0]


def test_conversations_and_what_is_refused(hone, model, tmp_path):
    def run(records, *options):
        path = tmp_path / "pairs.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        import subprocess
        return subprocess.run([hone, "finetune", "--model", model, "--data", path, "--out",
                               tmp_path / "out", "--eval-split", "0", "--dry-run", "--json",
                               *options], capture_output=True, text=True)

    user = [{"role": "user", "content": "Hello?"}]
    good = {"prompt": user, "chosen": [{"role": "assistant", "content": "Hello!"}],
            "rejected": [{"role": "assistant", "content": "No."}]}
    whole = {"chosen": user + good["chosen"], "rejected": user + good["rejected"]}
    plans = [json.loads(run([record], "--loss", "dpo").stdout.splitlines()[0])
             for record in (good, whole)]
    assert plans[0]["tokens"] == plans[1]["tokens"] > plans[0]["tokens_computed"]
    for record, options, says in [
            (good, ["--method", "full"], "--loss orpo"),
            ({"prompt": "a", "chosen": "b"}, [], "'rejected' is missing"),
            ({"prompt": "a", "chosen": "b", "rejected": "b"}, [], "are the same"),
            ({"prompt": "a", "chosen": 1, "rejected": "b"}, [], "'chosen' is a number"),
            ({"prompt": "a", "completion": "b"}, [], "'chosen' is missing")]:
        done = run([record], "--loss", "dpo", *options)
        assert done.returncode == 2 and says in done.stderr, done.stderr
        assert done.stderr.count("\n") == 1
