# SPDX-License-Identifier: Apache-2.0
"""Encoders beside their Python peers, on two threads or --threads.

    HONE_BINARY=build/release/hone HONE_MINILM=$(scripts/get-minilm) bench/run encoder [embed|train]

embed: 1,000 paragraphs of the Python library's documentation, all-MiniLM-L6-v2, hone embed beside
sentence-transformers (batches of 32), the model loaded already on the peer's side.
train: BERT-base with random weights, 16 of the longer paragraphs a step, cut to 128 tokens, two
classes, every weight, AdamW, no dropout: hone finetune beside PyTorch and transformers, which pads a step to its
longest text. Seconds of a step are the median behind the first; memory is the peak of the process.
"""
import argparse
import importlib
import inspect
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

STEPS = 4
MODULES = """argparse asyncio base64 bisect calendar collections concurrent.futures configparser csv
ctypes datetime decimal difflib email.message enum fractions functools gettext hashlib heapq html http
http.client http.server imaplib inspect io ipaddress json locale logging mailbox math multiprocessing
optparse os pathlib pickle platform random re sched shutil smtplib socket sqlite3 ssl statistics string
subprocess tarfile tempfile textwrap threading time tkinter turtle types typing unittest urllib.parse
urllib.request uuid wave weakref xml.dom.minidom xml.etree.ElementTree zipfile""".split()


def paragraphs(count, least=40):
    """Real texts that every Python brings along, in a fixed order, each once."""
    found = {}

    def walk(thing, depth):
        text = inspect.getdoc(thing) or ""
        for part in text.split("\n\n"):
            part = " ".join(part.split())
            if least <= len(part) <= 1500:
                found.setdefault(part)
        if depth:
            for name in sorted(vars(thing)) if hasattr(thing, "__dict__") else ():
                value = vars(thing)[name]
                if inspect.isclass(value) or inspect.isroutine(value):
                    walk(value, depth - 1)

    for name in MODULES:
        try:
            walk(importlib.import_module(name), 2)
        except ImportError:
            pass
    texts = list(found)[::max(1, len(found) // count)][:count]
    assert len(texts) == count, len(texts)
    return texts


def write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def peer(name, folder, data, threads):
    done = subprocess.run([sys.executable, "-B", __file__, "--peer", name, folder, data, "--threads",
                           str(threads)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def peer_embed(folder, data):
    from sentence_transformers import SentenceTransformer

    texts = [json.loads(line)["text"] for line in open(data)]
    model = SentenceTransformer(folder, device="cpu")
    model.encode(texts[:32])
    start = time.perf_counter()
    model.encode(texts, batch_size=32)
    return {"seconds": time.perf_counter() - start}


def peer_train(folder, data):
    import torch
    import transformers

    records = [json.loads(line) for line in open(data)]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.BertForSequenceClassification.from_pretrained(
        folder, num_labels=2).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, weight_decay=0)
    seconds = []
    for step in range(STEPS):
        part = records[16 * step:16 * step + 16]
        start = time.perf_counter()
        batch = tokenizer([r["text"] for r in part], truncation=True, max_length=128, padding=True,
                          return_tensors="pt")
        optimizer.zero_grad()
        model(**batch, labels=torch.tensor([r["label"] for r in part])).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1)
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    return {"seconds": statistics.median(seconds[1:])}


def embed(hone, minilm, folder, threads):
    data = write(folder / "texts.jsonl", [{"text": text} for text in paragraphs(1000)])
    theirs = peer("embed", minilm, data, threads)
    start = time.perf_counter()
    subprocess.run([hone, "embed", "--model", minilm, "--data", data, "--out", folder / "v.npy",
                    "--threads", str(threads)], check=True, capture_output=True)
    ours = time.perf_counter() - start # loading and writing too
    print(f"embed  1000 texts: hone {ours:.2f} s, sentence-transformers {theirs['seconds']:.2f} s: "
          f"{theirs['seconds'] / ours:.2f} times")


def train(hone, minilm, folder, threads):
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.BertConfig(hidden_dropout_prob=0, attention_probs_dropout_prob=0)
    transformers.BertModel(config).save_pretrained(folder / "bert")
    transformers.AutoTokenizer.from_pretrained(minilm).save_pretrained(folder / "bert")
    records = [{"text": text, "label": i % 2} for i, text in enumerate(paragraphs(16 * STEPS, 250))]
    data = write(folder / "d.jsonl", records)
    theirs = peer("train", folder / "bert", data, threads)
    done = subprocess.run([hone, "finetune", "--model", folder / "bert", "--data", data, "--out",
                           folder / "o", "--task", "classify", "--method", "full", "--batch", "16",
                           "--steps", str(STEPS), "--max-length", "128", "--shuffle", "off",
                           "--eval-split", "0", "--checkpoint-every", "1000", "--threads",
                           str(threads), "--json"], check=True, capture_output=True, text=True)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    steps = [event for event in events if event["event"] == "step"]
    ours = statistics.median(step["seconds"] for step in steps[1:])
    memory = max(step["rss_bytes"] for step in steps)
    print(f"train  BERT-base, 16 texts a step, {statistics.mean(s['tokens'] for s in steps):.0f} "
          f"tokens: hone {ours:.2f} s and {memory / 2**30:.2f} GiB, PyTorch "
          f"{theirs['seconds']:.2f} s and {theirs['bytes'] / 2**30:.2f} GiB: "
          f"{theirs['seconds'] / ours:.2f} times, {memory / theirs['bytes']:.2f} of the memory")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="?", choices=["embed", "train"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peer", nargs=3)
    given = parser.parse_args()
    if given.peer:
        import torch

        torch.set_num_threads(given.threads)
        name, folder, data = given.peer
        result = {"embed": peer_embed, "train": peer_train}[name](folder, data)
        result["bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps(result))
        return
    hone, minilm = os.environ["HONE_BINARY"], os.environ["HONE_MINILM"]
    with tempfile.TemporaryDirectory() as folder:
        for name, run in (("embed", embed), ("train", train)):
            if given.what in (None, name):
                run(hone, minilm, pathlib.Path(folder), given.threads)


if __name__ == "__main__":
    main()
