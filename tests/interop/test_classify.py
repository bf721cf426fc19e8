# SPDX-License-Identifier: Apache-2.0
"""Classes of texts: transformers' and PEFT's gradients, steps, files and labels, in f64.

    HONE_BINARY=build/release/hone "$(scripts/interop-env)" -m pytest tests/interop/test_classify.py
"""
import json
import math
import subprocess

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")
import encoders
import numpy as np
import safetensors.numpy

LABELS = ["calm", "loud", "strange"]
TEXTS = [text for text in encoders.TEXTS if text]
# Ragged, with pairs, one cut by its first and one by its second text.
EXAMPLES = [{"text": text, "label": LABELS[i % 3]} for i, text in enumerate(TEXTS)] + [
    {"text": "counting boats", "text_pair": "one two three", "label": "loud"},
    {"text": TEXTS[3], "text_pair": "ok?", "label": "calm"},
    {"text": "a", "text_pair": TEXTS[3], "label": "strange"},
    {"text": TEXTS[3], "text_pair": TEXTS[3], "label": "loud"}]
OUTER = {"token_embd": "embeddings.word_embeddings", "position_embd": "embeddings.position_embeddings",
         "token_types": "embeddings.token_type_embeddings", "token_embd_norm": "embeddings.LayerNorm",
         "cls": "pooler.dense"}
INNER = {"attn_q": "attention.self.query", "attn_k": "attention.self.key",
         "attn_v": "attention.self.value", "attn_output": "attention.output.dense",
         "attn_output_norm": "attention.output.LayerNorm", "ffn_up": "intermediate.dense",
         "ffn_down": "output.dense", "layer_output_norm": "output.LayerNorm"}


def stored_name(name):
    """transformers' name of a tensor that Hone trains."""
    module, part = name.rsplit(".", 1)
    if module == "cls.output":
        return f"classifier.{part}"
    if module in OUTER:
        return f"bert.{OUTER[module]}.{part}"
    _, layer, inner = module.split(".")
    return f"bert.encoder.layer.{layer}.{INNER[inner]}.{part}"


def run(hone, *arguments, text=None, status=0):
    done = subprocess.run([hone, *map(str, arguments)], input=text, capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    return done.stdout if status == 0 else done.stderr


def write(path, examples):
    path.write_text("".join(json.dumps(example) + "\n" for example in examples))
    return path


def save(shape, folder, **options):
    names = dict(enumerate(LABELS))
    return shape.save(folder, "ForSequenceClassification", id2label=names,
                      label2id={name: i for i, name in names.items()}, **options)


def peer_of(folder, kind=None):
    return (kind or transformers.BertForSequenceClassification).from_pretrained(
        folder, dtype=torch.float64).eval()


def logits_of(model, tokenizer, example, length):
    made = tokenizer(example["text"], example.get("text_pair"), truncation=True, max_length=length,
                     return_tensors="pt")
    return model(**made).logits[0]


def loss_of(model, tokenizer, examples, length, labels=LABELS):
    logits = torch.stack([logits_of(model, tokenizer, each, length) for each in examples])
    wanted = torch.tensor([labels.index(each["label"]) for each in examples])
    return torch.nn.functional.cross_entropy(logits, wanted)


def gradient(built, model, data, out, *options):
    done = subprocess.run([str(part) for part in (built("tests/interop/gradient_tool"), model, data,
                                                  out, *options)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), safetensors.numpy.load_file(out)


def compare(ours, theirs):
    assert sorted(ours) == sorted(theirs)
    everything = np.sqrt(sum(np.square(values).sum() for values in theirs.values()))
    for name, wanted in theirs.items():
        difference = np.linalg.norm(ours[name].astype(np.float64).reshape(wanted.shape) - wanted)
        allowed = 1e-4 * np.linalg.norm(wanted) + 1e-7 * everything
        assert difference <= allowed, f"{name}: {difference:.3e}, allowed {allowed:.3e}"


@pytest.mark.parametrize("name", encoders.SHAPES)
@pytest.mark.parametrize("parts", [1, 3])
def test_gradients(built, tmp_path, name, parts):
    """Every weight's, of texts and pairs, whole and cut, in one micro-batch and in three."""
    shape = encoders.SHAPES[name]
    folder = save(shape, tmp_path / "hf")
    examples = [e for e in EXAMPLES if "text_pair" not in e] if name == "one type" else EXAMPLES
    data = write(tmp_path / "d.jsonl", examples)
    said, ours = gradient(built, folder, data, tmp_path / "g", "full", parts, "task", "classify")
    model = peer_of(folder)
    loss = loss_of(model, shape.tokenizer(), examples, shape.context)
    loss.backward()
    assert abs(said["loss"] - loss.item()) <= 1e-5 * loss.item()
    theirs = {n: p.grad.numpy() for n, p in model.named_parameters()}
    compare({stored_name(n): g for n, g in ours.items()}, theirs)


def make_adapter(base, folder, targets):
    torch.manual_seed(1)
    model = peft.get_peft_model(base, peft.LoraConfig(
        task_type=peft.TaskType.SEQ_CLS, r=4, lora_alpha=8, target_modules=targets,
        init_lora_weights=False)).float()
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("targets", [["query", "value"], ["query", "key", "value", "dense"]])
def test_adapter_gradients(built, tmp_path, targets):
    """PEFT's adapter gone on from: each A and B, the classifier beside them; "dense" names the pooler
    too."""
    shape = encoders.SHAPES["plain"]
    folder = save(shape, tmp_path / "hf")
    model = make_adapter(peer_of(folder), tmp_path / "adapter", targets).double()
    data = write(tmp_path / "d.jsonl", EXAMPLES)
    said, ours = gradient(built, folder, data, tmp_path / "g", tmp_path / "adapter", 1, "task",
                          "classify")
    loss = loss_of(model.eval(), shape.tokenizer(), EXAMPLES, shape.context)
    loss.backward()
    assert abs(said["loss"] - loss.item()) <= 1e-5 * loss.item()
    theirs = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is None:
            continue
        name = name.removeprefix("base_model.model.").replace("modules_to_save.default.", "")
        for part in "AB":
            name = name.replace(f"lora_{part}.default.weight", f"weight.lora_{part.lower()}")
        theirs[name] = parameter.grad.numpy()
    named = {}
    for name, values in ours.items():
        whole, *part = name.split(".lora_")
        named[stored_name(whole) + "".join(f".lora_{p}" for p in part)] = values
    compare(named, theirs)


def evals(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return ([line["loss"] for line in lines if line["event"] == "step"],
            [line for line in lines if line["event"] == "eval"])


def classes(hone, *arguments):
    return [json.loads(line) for line in run(hone, "classify", *arguments).splitlines()]


def check_classes(lines, model, tokenizer, examples, length, names=LABELS):
    with torch.no_grad():
        for line, example in zip(lines, examples, strict=True):
            wanted = logits_of(model, tokenizer, example, length).softmax(0)
            got = [line["probability"][name] for name in names]
            assert np.abs(np.array(got) - wanted.numpy()).max() <= 1e-4
            assert line["label"] == names[int(wanted.argmax())]


def test_steps(hone, tmp_path):
    """20 steps of AdamW on all weights: torch's losses; the folder is transformers'."""
    shape = encoders.SHAPES["plain"]
    folder = save(shape, tmp_path / "hf")
    data = write(tmp_path / "d.jsonl", EXAMPLES)
    run(hone, "finetune", "--model", folder, "--data", data, "--eval-data", data, "--out",
        tmp_path / "o", "--task", "classify", "--method", "full", "--steps", 20, "--batch", 4,
        "--accumulate", 2, "--lr", 1e-3, "--schedule", "constant", "--warmup", 0, "--shuffle",
        "off", "--weight-decay", 0.1, "--max-length", shape.context)
    model, tokenizer = peer_of(folder), shape.tokenizer()
    decays = [p for p in model.parameters() if p.ndim > 1]
    optimizer = torch.optim.AdamW([{"params": decays}, {
        "params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0}], lr=1e-3,
        weight_decay=0.1)
    theirs = []
    for step in range(20):
        per_epoch = math.ceil(len(EXAMPLES) / 4)
        first = step % per_epoch * 4
        loss = loss_of(model, tokenizer, EXAMPLES[first:first + 4], shape.context)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1)
        optimizer.step()
        theirs.append(loss.item())
    ours, held_out = evals(tmp_path / "o")
    assert np.abs(np.array(ours) - theirs).max() <= 1e-4 * max(theirs)
    with torch.no_grad():
        loss = loss_of(model, tokenizer, EXAMPLES, shape.context).item()
        said = [int(logits_of(model, tokenizer, e, shape.context).argmax()) for e in EXAMPLES]
    wanted = [LABELS.index(e["label"]) for e in EXAMPLES]
    scores = []
    for k in set(said) | set(wanted):
        hit = sum(s == w == k for s, w in zip(said, wanted))
        scores.append(2 * hit / (said.count(k) + wanted.count(k)))
    assert abs(held_out[-1]["loss"] - loss) <= 2e-4 * loss
    assert abs(held_out[-1]["accuracy"] - np.mean(np.array(said) == wanted)) <= 1e-6
    assert abs(held_out[-1]["f1"] - np.mean(scores)) <= 1e-6
    written = peer_of(tmp_path / "o" / "model")
    assert written.config.id2label == dict(enumerate(LABELS))
    assert written.config.label2id == {name: i for i, name in enumerate(LABELS)}
    # Where a gradient is 0 in theory its sign is chance, and Adam's step as long as any other's:
    # what is compared is what the weights make.
    with torch.no_grad():
        again = loss_of(written, tokenizer, EXAMPLES, shape.context).item()
    assert abs(again - loss) <= 2e-4 * loss
    lines = classes(hone, "--model", tmp_path / "o" / "model", "--data", data)
    check_classes(lines, written, tokenizer, EXAMPLES, shape.context)


@pytest.mark.parametrize("kind", ["ForMaskedLM", "Model"])
def test_new_classes(hone, tmp_path, kind):
    """A base without classes, or with a pooler and others: the data's labels; PEFT loads the
    adapter, and what is merged is transformers'."""
    shape = encoders.SHAPES["cased"]
    folder = shape.save(tmp_path / "hf", kind)
    examples = [{**e, "label": (7, 12, 101)[i % 3]} for i, e in enumerate(EXAMPLES)]
    data = write(tmp_path / "d.jsonl", examples)
    run(hone, "finetune", "--model", folder, "--data", data, "--out", tmp_path / "o", "--task",
        "classify", "--targets", "q,v,o,down", "--epochs", 3, "--lr", 1e-2, "--batch", 4)
    names = ["7", "12", "101"]
    config = json.loads((tmp_path / "o" / "adapter_config.json").read_text())
    assert config["task_type"] == "SEQ_CLS"
    assert config["modules_to_save"] == (["bert.pooler.dense", "classifier"] if kind == "ForMaskedLM"
                                         else ["classifier"])
    torch.manual_seed(5)
    base = transformers.BertForSequenceClassification.from_pretrained(
        folder, num_labels=3, dtype=torch.float64)
    model = peft.PeftModelForSequenceClassification.from_pretrained(base, tmp_path / "o").eval()
    tokenizer = shape.tokenizer()
    lines = classes(hone, "--model", folder, "--adapter", tmp_path / "o", "--data", data)
    check_classes(lines, model, tokenizer, examples, shape.context, names)
    run(hone, "merge", "--model", folder, "--adapter", tmp_path / "o", "--to", "hf", "--type", "f32",
        "--out", tmp_path / "merged")
    merged = peer_of(tmp_path / "merged")
    assert merged.config.id2label == dict(enumerate(names))
    check_classes(classes(hone, "--model", tmp_path / "merged", "--data", data), merged, tokenizer,
                  examples, shape.context, names)


def test_forms(hone, tmp_path):
    """Records, tables, lines and standard input; labels given; a run gone on with."""
    shape = encoders.SHAPES["plain"]
    folder = shape.save(tmp_path / "hf")
    (tmp_path / "d.csv").write_text("text,label\n" + "".join(
        f'"{"boats " * i}","{"ab"[i % 2]}"\n' for i in range(1, 9)))
    options = ["--model", folder, "--data", tmp_path / "d.csv", "--task", "classify", "--labels",
               "b,a,c", "--steps", 4, "--eval-split", 2, "--checkpoint-every", 2]
    run(hone, "finetune", *options, "--out", tmp_path / "o")
    assert json.loads((tmp_path / "o" / "labels.json").read_text())["id2label"] == {
        "0": "b", "1": "a", "2": "c"}
    run(hone, "finetune", "--config", tmp_path / "o" / "config.yaml", "--out", tmp_path / "again")
    one, two = ((tmp_path / o / "adapter_model.safetensors").read_bytes() for o in ("o", "again"))
    assert one == two
    asked = ["--model", folder, "--adapter", tmp_path / "o"]
    (tmp_path / "lines").write_text("boats\nlights, counted\n")
    lines = classes(hone, *asked, "--data", tmp_path / "lines")
    typed = [json.loads(line) for line in run(
        hone, "classify", *asked, text="boats\nlights, counted\n").splitlines()]
    for one, two in zip(lines, typed, strict=True):
        assert (one["line"], one["label"]) == (two["line"], two["label"])
        assert all(abs(one["probability"][n] - two["probability"][n]) <= 1e-5 for n in "abc")
    run(hone, "classify", *asked, "--data", tmp_path / "lines", "--out", tmp_path / "out.jsonl")
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == lines
    assert abs(sum(lines[0]["probability"].values()) - 1) <= 1e-5


def test_dropout(hone, tmp_path):
    """Mean and deviation of one text's loss over many draws, as transformers drops."""
    shape = encoders.SHAPES["plain"]
    rate, draws = 0.125, 600
    folder = save(shape, tmp_path / "hf", hidden_dropout_prob=rate, classifier_dropout=rate,
                  attention_probs_dropout_prob=0.0)
    data = write(tmp_path / "d.jsonl", EXAMPLES[:1])
    run(hone, "finetune", "--model", folder, "--data", data, "--eval-split", 0, "--out",
        tmp_path / "o", "--task", "classify", "--method", "full", "--steps", draws, "--lr", 1e-12,
        "--dropout", rate, "--checkpoint-every", 10000)
    ours = np.array(evals(tmp_path / "o")[0])
    model, tokenizer = peer_of(folder).train(), shape.tokenizer()
    with torch.no_grad():
        torch.manual_seed(2)
        theirs = np.array([loss_of(model, tokenizer, EXAMPLES[:1], shape.context).item()
                           for _ in range(draws)])
    error = math.sqrt((ours.var() + theirs.var()) / draws)
    assert ours.std() > 0.01 and abs(ours.mean() - theirs.mean()) <= 5 * error
    assert abs(ours.std() / theirs.std() - 1) <= 0.25


BAD = [('{"text": "a", "label": "calm"}\n{"text": "b", "label": "odd"}\n',
        ["d.jsonl:2", '"odd"', "calm, loud, strange"]),
       ('{"text": "a"}\n', ["d.jsonl:1", "'label' is missing"]),
       ('{"text": "", "label": 1}\n', ["d.jsonl:1", "'text' is empty"]),
       ('{"text": "a", "label": 3}\n', ["d.jsonl:1", '"3"', "none of the 3"]),
       ('{"text": "a", "label": 1.5}\n', ["d.jsonl:1", "whole number"]),
       ('{"text": "a", "label": ""}\n', ["d.jsonl:1", "'label' is empty"]),
       ('{"text": "a\\u0000b", "label": 1}\n', ["d.jsonl:1"]),
       ('{"text": "a", "text_pair": 4, "label": 1}\n', ["d.jsonl:1", "'text_pair'"]),
       ('{"text": "a", "text_pair": "", "label": 1}\n', ["d.jsonl:1", "'text_pair' is empty"])]


@pytest.mark.parametrize("case", range(len(BAD)))
def test_bad_records(hone, tmp_path, case):
    folder = save(encoders.SHAPES["plain"], tmp_path / "hf")
    (tmp_path / "d.jsonl").write_text(BAD[case][0])
    said = run(hone, "finetune", "--model", folder, "--data", tmp_path / "d.jsonl", "--task",
               "classify", "--out", tmp_path / "o", status=2)
    assert said.count("\n") == 1 and all(part in said for part in BAD[case][1]), said
    assert not (tmp_path / "o").exists()


def test_bad_runs(hone, tmp_path):
    folder = encoders.SHAPES["plain"].save(tmp_path / "hf")
    data = write(tmp_path / "d.jsonl", EXAMPLES)
    alike = write(tmp_path / "alike.jsonl", EXAMPLES[:1] * 3)
    other = write(tmp_path / "other.jsonl", [{"text": "a", "label": "new"}])
    begin = ["finetune", "--model", folder, "--out", tmp_path / "o"]
    for arguments, says in (
            (["--data", data], ["--task classify"]),
            (["--data", alike, "--task", "classify"], ['"calm"', "nothing to tell apart"]),
            (["--data", data, "--task", "classify", "--labels", "a,,b"], ["label 2 is empty"]),
            (["--data", data, "--task", "classify", "--labels", "a,a"], ['"a" is there twice']),
            (["--data", data, "--task", "classify", "--sample", "x"], ["--sample"]),
            (["--data", data, "--task", "classify", "--loss", "dpo"], ["--task"]),
            (["--data", data, "--eval-data", other, "--task", "classify"], ["other.jsonl:1", '"new"'])):
        done = subprocess.run([hone, *map(str, begin + arguments)], capture_output=True, text=True)
        assert done.returncode in (1, 2) and done.stderr.count("\n") == 1, done.stderr
        assert all(part in done.stderr for part in says), done.stderr
        assert not (tmp_path / "o").exists()
    said = run(hone, "classify", "--model", folder, text="x\n", status=2)
    assert "no classes" in said and said.count("\n") == 1
