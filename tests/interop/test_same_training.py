# SPDX-License-Identifier: Apache-2.0
"""Hone trains as PEFT and torch do: every gradient of the first step, and the losses of 50 steps.

The peer of the tiny models computes in f64 throughout. `gradient_tool` (built with the tests) shows
the gradients that training makes.
"""
import json
import subprocess

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
pytest.importorskip("gguf")
import models
import numpy as np
import peers
import safetensors.numpy

STEPS = 50
LINES = """The library was closed on Monday and opened again on Tuesday.
for (int i = 0; i < n; i++) sum += a[i] * b[i];
Water boils at 100 degrees and freezes at 0.
"No," she said, "that is the other one."
A short one.
def area(r):\n    return 3.14159 * r ** 2
In the end, the answer to the riddle was the end.
天气很好。
10 9 8 7 6 5 4 3 2 1 lift-off
Then the thirteenth carriage on the thirteenth train turned in the rain.
<a href="index.html">back</a>
Once more: in, on, at, of, to, the, and.
🙂🙃🙂
he and she and it and they
x = (-b + sqrt(b*b - 4*a*c)) / (2*a)
An otter ate an orange on an island.
error: expected 3 arguments, got 2
The rest is silence.
one two three two one two three two one
Bees are red, trees are green, seas are seen.
SELECT name FROM towns WHERE size > 40 ORDER BY name;
That was all there was to it.""".replace("\\n", "\n").split("\n")
# 22 texts: with 4 a step, each epoch's last step has 2.
# Beginnings that several have, several next tokens, one that begins another, equal ones.
ALIKE = [start + end for start in ("The library was closed on ", "Once more: ", "2 + 2 = ")
         for end in ("Monday.", "Tuesday.", "Tuesday. No, on Monday.", "Mo", "Tuesday.", "4")]
QUESTIONS = [
    ("What is the capital of France?", "Paris."), ("2 + 2?", "4."), ("天空是什么颜色？", "蓝色。"),
    ("Colour of the sky?", "Blue, on most days."), ("Opposite of hot?", "Cold."),
    ("Who wrote Hamlet?", "Shakespeare."), ("Rhymes with cat?", "Hat."),
    ("Largest planet?", "Jupiter."), ("Is water wet?", "Some say so."),
    ("What comes after Tuesday?", "Wednesday."), ("Name a prime number.", "Seventeen."),
    ("Freezing point of water?", "0 degrees Celsius."), ("print('a' * 3)?", "aaa"),
    ("A synonym of quick?", "Rapid."), ("How many legs has a spider?", "Eight."),
    ("What do bees make?", "Honey."), ("Square root of 81?", "Nine."),
    ("The first month?", "January."), ("Plural of mouse?", "Mice."),
    ("Chemical symbol of gold?", "Au."), ("Translate: bonjour", "Good morning."),
    ("Where do penguins live?", "In the south.")]


@pytest.fixture(scope="module")
def gradients(built):
    """Hone's first step on all of a data file: (loss and gradient norm, name → gradient)."""
    tool = built("tests/interop/gradient_tool")

    def run(model, data, out, *options):
        done = subprocess.run([str(part) for part in (tool, model, data, out, *options)],
                              capture_output=True, text=True, timeout=580)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout), safetensors.numpy.load_file(out)

    return run


def compare_gradients(ours, theirs):
    assert sorted(ours) == sorted(theirs)
    everything = np.sqrt(sum(np.square(values).sum() for values in theirs.values()))
    assert everything > 0
    worst = 0
    for name, wanted in theirs.items():
        got = ours[name].astype(np.float64)
        assert got.shape == wanted.shape, name
        difference = np.linalg.norm(got - wanted)
        allowed = 1e-4 * np.linalg.norm(wanted) + 1e-7 * everything
        worst = max(worst, difference / allowed)
        assert difference <= allowed, f"{name}: {difference:.3e}, allowed {allowed:.3e}"
    return worst


def peer_gradients(model, examples, config):
    model.zero_grad()
    with peers.exact(model):
        loss = peers.batch_loss(model, examples)
        loss.backward()
    return loss.item(), peers.gguf_gradients(model, config)


def compare_losses(ours, theirs):
    assert len(ours) == len(theirs) == STEPS
    worst = max(abs(a - b) / (1e-3 * b + 1e-3) for a, b in zip(ours, theirs, strict=True))
    print(f"loss {theirs[0]:.4f} -> {theirs[-1]:.4f}, worst step at {worst:.2%} of what is allowed")
    assert worst <= 1


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """name → (shape, its GGUF file, its data file)."""
    folder = tmp_path_factory.mktemp("tiny")
    data = peers.write_texts(folder / "texts.jsonl", LINES)

    def make(name):
        path = folder / f"{name}.gguf"
        if not path.exists():
            models.SHAPES[name].write_gguf(path)
        return models.SHAPES[name], path, data

    return make


# ---- gradients ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", models.SHAPES)
def test_lora_gradients(hone, gradients, tiny, tmp_path, name):
    shape, path, data = tiny(name)
    model = shape.transformers_model()
    adapter = peers.make_adapter(model, tmp_path / "adapter")
    result, ours = gradients(path, data, tmp_path / "gradients", adapter)
    adapted = peers.with_adapter(model.double(), adapter, trainable=True)
    loss, theirs = peer_gradients(adapted, peers.examples_of(hone, path, data), model.config)
    assert len(theirs) == 2 * shape.matrices * shape.layers
    worst = compare_gradients(ours, theirs)
    print(f"{name}: loss {loss:.6f}, worst gradient at {worst:.2%} of what is allowed")
    assert abs(result["loss"] - loss) < 1e-5 * loss
    everything = np.sqrt(sum(np.square(values).sum() for values in theirs.values()))
    assert abs(result["grad_norm"] - everything) < 1e-4 * everything


@pytest.mark.parametrize("name", models.SHAPES)
def test_lora_gradients_with_zero_b(hone, gradients, tiny, tmp_path, name):
    """dA = s·Bᵀ·dY·xᵀ: nothing may be left of it but zeros."""
    shape, path, data = tiny(name)
    model = shape.transformers_model()
    adapter = peers.make_adapter(model, tmp_path / "adapter", b_scale=0)
    _, ours = gradients(path, data, tmp_path / "gradients", adapter)
    for tensor, values in ours.items():
        if tensor.endswith(".lora_a"):
            assert not values.any(), tensor
    adapted = peers.with_adapter(model.double(), adapter, trainable=True)
    _, theirs = peer_gradients(adapted, peers.examples_of(hone, path, data), model.config)
    compare_gradients(ours, theirs)


def test_micro_batches_give_the_same_gradients(hone, gradients, tiny, tmp_path):
    shape, path, data = tiny("odd")
    model = shape.transformers_model()
    adapter = peers.make_adapter(model, tmp_path / "adapter")
    _, ours = gradients(path, data, tmp_path / "gradients", adapter, 5)
    adapted = peers.with_adapter(model.double(), adapter, trainable=True)
    _, theirs = peer_gradients(adapted, peers.examples_of(hone, path, data), model.config)
    compare_gradients(ours, theirs)


@pytest.mark.parametrize("name", models.SHAPES)
@pytest.mark.parametrize("what", ["adapter", "full"])
def test_gradients_where_examples_begin_alike(hone, gradients, tiny, tmp_path, name, what):
    """Hone computes a beginning once, the peer with every example."""
    shape, path, _ = tiny(name)
    data = peers.write_texts(tmp_path / "alike.jsonl", ALIKE)
    model = shape.transformers_model()
    if what == "adapter":
        what = peers.make_adapter(model, tmp_path / "adapter")
        model = peers.with_adapter(model.double(), what, trainable=True)
    result, ours = gradients(path, data, tmp_path / "gradients", what)
    loss, theirs = peer_gradients(model.double(), peers.examples_of(hone, path, data), model.config)
    worst = compare_gradients(ours, theirs)
    print(f"{name}: loss {loss:.6f}, worst gradient at {worst:.2%} of what is allowed")
    assert abs(result["loss"] - loss) < 1e-5 * loss


@pytest.mark.parametrize("name", models.SHAPES)
def test_full_gradients(hone, gradients, tiny, tmp_path, name):
    shape, path, data = tiny(name)
    model = shape.transformers_model().double()
    result, ours = gradients(path, data, tmp_path / "gradients", "full")
    loss, theirs = peer_gradients(model, peers.examples_of(hone, path, data), model.config)
    each = shape.matrices + shape.vectors
    assert len(theirs) == each * shape.layers + shape.outer + (not shape.tied)
    worst = compare_gradients(ours, theirs)
    print(f"{name}: loss {loss:.6f}, worst gradient at {worst:.2%} of what is allowed")
    assert abs(result["loss"] - loss) < 1e-5 * loss


def test_smollm2_lora_gradients(hone, gradients, model, tmp_path):
    """The peer in f64, on the weights as transformers reads them from the same file."""
    peer = peers.reference_model(model)
    data = peers.write_texts(tmp_path / "texts.jsonl", LINES[:4])
    examples = peers.examples_of(hone, model, data)
    adapter = peers.make_adapter(peer, tmp_path / "adapter", rank=16, alpha=32, b_scale=0.01)
    result, ours = gradients(model, data, tmp_path / "gradients", adapter)
    adapted = peers.with_adapter(peer.double(), adapter, trainable=True)
    loss, theirs = peer_gradients(adapted, examples, peer.config)
    assert len(theirs) == 420
    worst = compare_gradients(ours, theirs)
    print(f"loss {loss:.6f}, worst gradient at {worst:.2%} of what is allowed")
    assert abs(result["loss"] - loss) < 1e-4 * loss


def test_smollm2_lora_gradients_with_zero_b(gradients, model, tmp_path):
    peer = peers.reference_model(model)
    data = peers.write_texts(tmp_path / "texts.jsonl", LINES[:4])
    adapter = peers.make_adapter(peer, tmp_path / "adapter", rank=16, alpha=32, b_scale=0)
    _, ours = gradients(model, data, tmp_path / "gradients", adapter)
    assert len(ours) == 420
    for tensor, values in ours.items():
        assert values.any() == tensor.endswith(".lora_b"), tensor


# ---- 50 steps ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name, schedule, warmup, decay", [
    ("plain", "constant", 0, 0), ("grouped", "cosine", 5, 0.1), ("odd", "linear", 1, 0),
    ("wide", "cosine", 0, 0), ("half", "cosine", 3, 0), ("scaled", "constant", 2, 0.01),
    ("gpt2", "cosine", 2, 0.1), ("gpt2-odd", "linear", 3, 0), ("gpt2-half", "constant", 0, 0)])
def test_lora_losses(hone, tiny, tmp_path, name, schedule, warmup, decay):
    shape, path, data = tiny(name)
    model = shape.transformers_model()
    adapter = peers.make_adapter(model, tmp_path / "adapter")
    rate = 1e-2
    ours = peers.finetune(
        hone, path, data, tmp_path / "run", "--adapter", adapter, "--batch", 4, "--steps", STEPS,
        "--lr", rate, "--schedule", schedule, "--warmup", warmup, "--weight-decay", decay)
    adapted = peers.with_adapter(model.double(), adapter, trainable=True)
    steps = peers.steps_of(peers.examples_of(hone, path, data), 4, STEPS)
    theirs = peers.train(adapted, steps, rate, schedule, warmup, decay)
    compare_losses(ours, theirs)
    assert np.mean(theirs[-5:]) < 0.85 * np.mean(theirs[:5])  # it was a real change


@pytest.mark.parametrize("name, schedule, warmup, decay", [
    ("plain", "cosine", 2, 0), ("grouped", "constant", 0, 0.1), ("odd", "linear", 5, 0),
    ("wide", "constant", 1, 0), ("scaled", "cosine", 0, 0.01), ("gpt2", "cosine", 3, 0.1),
    ("gpt2-odd", "linear", 0, 0.01)])
def test_full_losses(hone, tiny, tmp_path, name, schedule, warmup, decay):
    shape, path, data = tiny(name)
    rate = 3e-3
    ours = peers.finetune(
        hone, path, data, tmp_path / "run", "--method", "full", "--batch", 4, "--steps", STEPS,
        "--lr", rate, "--schedule", schedule, "--warmup", warmup, "--weight-decay", decay)
    model = shape.transformers_model().double()
    steps = peers.steps_of(peers.examples_of(hone, path, data), 4, STEPS)
    theirs = peers.train(model, steps, rate, schedule, warmup, decay)
    compare_losses(ours, theirs)
    assert np.mean(theirs[-5:]) < 0.85 * np.mean(theirs[:5])


@pytest.mark.parametrize("name, method, optimizer, rate, decay", [
    ("plain", "lora", "adafactor", 1e-2, 0), ("grouped", "full", "adafactor", 2e-3, 0.1),
    ("odd", "full", "adafactor", 3e-3, 0), ("plain", "lora", "sgd", 0.3, 0.01),
    ("wide", "full", "sgd", 0.1, 0.001)])
def test_other_optimizers_losses(hone, tiny, tmp_path, name, method, optimizer, rate, decay):
    shape, path, data = tiny(name)
    model = shape.transformers_model()
    begin = ["--method", "full"]
    if method == "lora":
        adapter = peers.make_adapter(model, tmp_path / "adapter")
        begin = ["--adapter", adapter]
        model = peers.with_adapter(model.double(), adapter, trainable=True)
    ours = peers.finetune(hone, path, data, tmp_path / "run", *begin, "--batch", 4, "--steps", STEPS,
                          "--lr", rate, "--schedule", "cosine", "--warmup", 2, "--weight-decay",
                          decay, "--optimizer", optimizer)
    steps = peers.steps_of(peers.examples_of(hone, path, data), 4, STEPS)
    make = {"adafactor": peers.adafactor, "sgd": peers.sgd}[optimizer]
    theirs = peers.train(model.double(), steps, rate, "cosine", 2, decay, make)
    compare_losses(ours, theirs)
    assert np.mean(theirs[-5:]) < 0.9 * np.mean(theirs[:5])


def chats(path):
    with open(path, "w", encoding="utf8") as file:
        for question, answer in QUESTIONS:
            chat = [{"role": "system", "content": "Be brief."},
                    {"role": "user", "content": question},
                    {"role": "assistant", "content": answer}]
            file.write(json.dumps({"messages": chat}) + "\n")
    return path


@pytest.mark.parametrize("what, rate", [("texts", 2e-4), ("chats", 5e-4)])
def test_smollm2_lora_losses(hone, model, tmp_path, what, rate):
    """Beside PEFT in f32. 2e-4 is Hone's own rate. At higher rates on these texts (no first token
    that SmolLM2 knows) training amplifies roundings until no f32 run can be followed: at 5e-4 the
    f64 peer, its start moved by 6e-8, ends 0.2 of what is allowed from itself; torch in f32 leaves
    it by 55 times what is allowed, Hone by 1.7. At 2e-4 these are 0.0004, 0.10 and 0.11."""
    peer = peers.reference_model(model)
    data = (peers.write_texts(tmp_path / "data.jsonl", LINES) if what == "texts"
            else chats(tmp_path / "data.jsonl"))
    adapter = peers.make_adapter(peer, tmp_path / "adapter", rank=16, alpha=32, b_scale=0.01)
    ours = peers.finetune(hone, model, data, tmp_path / "run", "--adapter", adapter, "--batch", 4,
                          "--steps", STEPS, "--lr", rate, "--schedule", "cosine", "--warmup", 3)
    adapted = peers.with_adapter(peer, adapter, trainable=True)
    steps = peers.steps_of(peers.examples_of(hone, model, data), 4, STEPS)
    theirs = peers.train(adapted, steps, rate, "cosine", 3)
    compare_losses(ours, theirs)
    assert np.mean(theirs[-5:]) < 0.6 * np.mean(theirs[:5])
