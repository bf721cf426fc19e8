# SPDX-License-Identifier: Apache-2.0
"""Learning from a teacher: loss and every gradient beside PyTorch in f64, steps, and what is refused.

    HONE_BINARY=build/release/hone HONE_MODEL=SmolLM2.gguf "$(scripts/interop-env)" -m pytest \\
        tests/interop/test_distill.py
"""
import json
import subprocess

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
import decoders
import peers
from test_same_training import ALIKE, LINES, compare_gradients, gradients
from transformers import AutoModelForCausalLM
from transformers.utils import logging

assert gradients  # a fixture
# Students and teachers of one vocabulary; odd widths, a wide teacher that can be quantised.
SHAPES = {
    "llama": decoders.Decoder("llama", 2, 28, 4, 2, 45, 13, {"head_dim": 14}),
    "gemma2": decoders.Decoder("gemma2", 2, 24, 3, 1, 40, 13, {
        **decoders.GEMMA, "head_dim": 10, "query_pre_attn_scalar": 7,
        "final_logit_softcapping": 4.0}),
    "qwen3": decoders.Decoder("qwen3", 3, 64, 4, 2, 96, 13, {"head_dim": 16}),
    "other": decoders.Decoder("llama", 1, 32, 4, 2, 45, 14),
    "brief": decoders.Decoder("llama", 1, 32, 4, 2, 45, 13, {"max_position_embeddings": 16}),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    root = tmp_path_factory.mktemp("distill")
    made = {}
    for name, shape in SHAPES.items():
        (root / name).mkdir()
        made[name] = shape.save(root / name)
    return made


def divergence(student, teacher, tau):
    """Of each row, τ²·KL(teacher ‖ student)."""
    p = (teacher / tau).log_softmax(-1)
    return tau * tau * (p.exp() * (p - (student / tau).log_softmax(-1))).sum(-1)


def loss_of(student, teacher, examples, tau, share):
    """Mean over the targets of all examples."""
    total, count = 0, 0
    for tokens, targets in examples:
        ids, rows = torch.tensor([tokens]), torch.tensor(targets) - 1
        with torch.no_grad(), peers.exact(teacher):
            taught = teacher(input_ids=ids).logits[0, rows]
        with peers.exact(student):
            logits = student(input_ids=ids).logits[0, rows]
        learnt = torch.nn.functional.cross_entropy(logits, ids[0, rows + 1], reduction="sum")
        total = total + (1 - share) * learnt + share * divergence(logits, taught, tau).sum()
        count += len(targets)
    return total / count


@pytest.mark.parametrize("student, teacher, method, tau, share, texts, parts", [
    ("llama", "qwen3", "full", 2.0, 0.5, LINES, 1),
    ("llama", "qwen3", "lora", 1.0, 1.0, ALIKE, 1),
    ("gemma2", "llama", "full", 0.8, 0.75, ALIKE, 3),
    ("qwen3", "gemma2", "lora", 3.0, 0.25, LINES, 4),
    ("llama", "qwen3", "full", 2.0, 0.0, LINES, 1),
    ("llama", "quantised", "full", 2.0, 0.9, LINES, 1),
])
def test_gradients(hone, folders, gradients, tmp_path, student, teacher, method, tau, share, texts,
                   parts):
    lines = peers.write_texts(tmp_path / "lines.jsonl", texts)
    examples = peers.examples_of(hone, folders[student], lines)
    model = SHAPES[student].transformers_model()
    if teacher == "quantised": # what its values are once they are read is a folder of f32
        path, read = tmp_path / "q8_0.gguf", tmp_path / "read"
        peers.run_hone(hone, "convert", folders["qwen3"], "--to", "gguf", "--type", "q8_0", "--out",
                       path)
        peers.run_hone(hone, "convert", path, "--to", "hf", "--type", "f32", "--out", read)
        other = AutoModelForCausalLM.from_pretrained(read, dtype=torch.float64)
    else:
        path, other = folders[teacher], SHAPES[teacher].transformers_model().double()
    what = "full"
    if method == "lora":
        what = peers.make_adapter(model, tmp_path / "adapter")
        model = peers.with_adapter(model.double(), what, trainable=True)
    loss = loss_of(model.double(), other.eval(), examples, tau, share)
    loss.backward()
    result, ours = gradients(folders[student], lines, tmp_path / "gradients", what, parts, "distill",
                             path, tau, share)
    assert abs(result["loss"] - loss.item()) < 1e-5 * loss.item()
    # Hone's rows of q and k of a folder are transformers'.
    theirs = peers.gguf_gradients(model, model.config)
    kind = decoders.KINDS[SHAPES[student].kind]
    heads = SHAPES[student].heads, SHAPES[student].kv_heads
    compare_gradients(ours, {name: theirs[name] if not kind.pairs or name.endswith(".lora_a")
                             else restore(name, theirs[name], heads) for name in theirs})


def restore(name, values, heads):
    """gguf_values the other way."""
    permuted = heads[0] if ".attn_q." in name else heads[1] if ".attn_k." in name else 0
    if not permuted:
        return values
    return (values.reshape(permuted, len(values) // permuted // 2, 2, *values.shape[1:])
            .swapaxes(1, 2).reshape(values.shape))


def test_steps(hone, folders, tmp_path):
    """20 steps of AdamW; and memory: the plan has the teacher in it."""
    lines = peers.write_texts(tmp_path / "lines.jsonl", LINES)
    options = ["--loss", "distill", "--teacher", folders["qwen3"], "--temperature", 2,
               "--teacher-share", 0.8]
    ours = peers.finetune(hone, folders["llama"], lines, tmp_path / "run", "--method", "full",
                          "--batch", 4, "--steps", 20, "--lr", 3e-3, "--schedule", "constant",
                          "--warmup", 0, *options)
    model = SHAPES["llama"].transformers_model().double()
    teacher = SHAPES["qwen3"].transformers_model().double()
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0)
    theirs = []
    for examples in peers.steps_of(peers.examples_of(hone, folders["llama"], lines), 4, 20):
        loss = loss_of(model, teacher, examples, 2.0, 0.8)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        theirs.append(loss.item())
    worst = max(abs(a - b) / (1e-3 * b + 1e-3) for a, b in zip(ours, theirs, strict=True))
    assert worst <= 1, f"{worst:.2f} of what is allowed"
    assert theirs[-1] < 0.9 * theirs[0]

    def plan(*more):
        lines_ = peers.run_hone(hone, "finetune", "--model", folders["llama"], "--data", lines,
                                "--dry-run", *more)
        return next(line for line in lines_ if line["event"] == "plan")

    alone, taught = plan(), plan(*options)
    weights = sum(p.numel() for p in teacher.parameters()) * 4
    assert taught["model_bytes"] - alone["model_bytes"] == weights
    assert taught["activation_bytes"] >= alone["activation_bytes"]


@pytest.mark.parametrize("options, says", [
    (["--loss", "distill"], ["--loss distill needs a --teacher"]),
    (["--loss", "distill", "--teacher", "other"], ["tokens", "distillation is over one vocabulary"]),
    (["--loss", "distill", "--teacher", "brief"],
     ["has a context of 16 tokens", "--max-length 16 fits"]),
    (["--loss", "distill", "--teacher", "nowhere"], ["nowhere"]),
    (["--loss", "distill", "--teacher", "qwen3", "--temperature", "-1"], ["--temperature"]),
    (["--loss", "distill", "--teacher", "qwen3", "--teacher-share", "1.5"],
     ["--teacher-share is 1.5, want 0 to 1"]),
])
def test_what_is_refused(hone, folders, tmp_path, options, says):
    lines = peers.write_texts(tmp_path / "lines.jsonl", LINES)
    options = [str(folders.get(option, option)) for option in options]
    done = subprocess.run([str(hone), "finetune", "--model", str(folders["llama"]), "--data",
                           str(lines), "--out", str(tmp_path / "out"), *options],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    for part in says:
        assert part in done.stderr, done.stderr
    assert not (tmp_path / "out").exists()


def test_another_vocabulary_is_named(hone, folders, tmp_path):
    """Of the same size, with one token that is another."""
    folder = tmp_path / "other"
    SHAPES["llama"].save(folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    name = max(vocabulary, key=vocabulary.get)
    vocabulary["qqq"] = vocabulary.pop(name)
    tokenizer["model"]["merges"] = tokenizer["model"]["merges"][:-1]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    lines = peers.write_texts(tmp_path / "lines.jsonl", LINES)
    done = subprocess.run([str(hone), "finetune", "--model", str(folders["llama"]), "--data",
                           str(lines), "--out", str(tmp_path / "out"), "--loss", "distill",
                           "--teacher", str(folder)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    assert 'is "qqq" there' in done.stderr and "one vocabulary" in done.stderr
