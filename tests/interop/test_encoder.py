# SPDX-License-Identifier: Apache-2.0
"""Vectors of texts: transformers' hidden states pooled, and sentence-transformers' own.

    HONE_BINARY=build/release/hone HONE_MINILM=$(scripts/get-minilm) \\
        "$(scripts/interop-env)" -m pytest tests/interop/test_encoder.py
"""
import json
import os
import shutil
import subprocess

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("gguf")
import decoders
import encoders
import gguf
import numpy as np
from safetensors.numpy import load_file, save_file


def run(hone, *arguments, text=None):
    done = subprocess.run([hone, *map(str, arguments)], input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def embed(hone, model, folder, texts, *options):
    data = folder / "texts.jsonl"
    data.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    run(hone, "embed", "--model", model, "--data", data, "--out", folder / "v.npy", *options)
    return np.load(folder / "v.npy")


def refused(says, hone, *arguments):
    done = subprocess.run([hone, *map(str, arguments)], input="", capture_output=True, text=True)
    assert done.returncode in (1, 2) and done.stderr.count("\n") == 1, done.stderr
    for part in says:
        assert part in done.stderr, done.stderr


@pytest.mark.parametrize("name", encoders.SHAPES)
def test_vectors(hone, tmp_path, name):
    """Folder and GGUF file, every pooling, cut and whole texts, ragged and side by side."""
    shape = encoders.SHAPES[name]
    folder = shape.save(tmp_path / "hf")
    decoders.convert([(folder, tmp_path / "bert.gguf")])
    model, tokenizer = shape.model().double(), shape.tokenizer()
    for path in (folder, tmp_path / "bert.gguf"):
        for pooling in ("mean", "cls", "max"):
            for normalize in (False, True):
                ours = embed(hone, path, tmp_path, encoders.TEXTS, "--pooling", pooling,
                             "--normalize", "on" if normalize else "off", "--max-length", 40)
                theirs = encoders.vectors(model, tokenizer, encoders.TEXTS, pooling, normalize, 40)
                # Words of more than 100 characters are unknown, which llama.cpp's files do not say.
                rows = [i for i, text in enumerate(encoders.TEXTS)
                        if path == folder or len(text) < 100 or " " in text]
                worst = np.abs(ours - theirs)[rows].max()
                assert worst <= 1e-4, (path, pooling, normalize, worst)
    whole = embed(hone, folder, tmp_path, encoders.TEXTS)
    theirs = encoders.vectors(model, tokenizer, encoders.TEXTS, "mean", False, shape.context)
    assert np.abs(whole - theirs).max() <= 1e-4


def test_forms(hone, tmp_path):
    """Lines, records, a table, standard input, JSON out: the same vectors."""
    folder = encoders.SHAPES["plain"].save(tmp_path / "hf")
    texts = ["the boats", "", "count, \"them\"", "naïve"]
    wanted = embed(hone, folder, tmp_path, texts)
    (tmp_path / "lines").write_text("\n".join(texts) + "\n")
    (tmp_path / "lines.txt").write_text("\r\n".join(texts))
    (tmp_path / "list.json").write_text(json.dumps([{"text": text, "id": 1} for text in texts]))
    (tmp_path / "table.csv").write_text('text,id\nthe boats,1\n,2\n"count, ""them""",3\nnaïve,4\n')
    outputs = [run(hone, "embed", "--model", folder, "--data", tmp_path / name)
               for name in ("lines", "lines.txt", "list.json", "table.csv")]
    outputs.append(run(hone, "embed", "--model", folder, text="\n".join(texts) + "\n"))
    run(hone, "embed", "--model", folder, "--data", tmp_path / "lines", "--out", tmp_path / "o.jsonl")
    outputs.append((tmp_path / "o.jsonl").read_text())
    for output in outputs:
        lines = [json.loads(line) for line in output.splitlines()]
        assert np.abs(np.array([line["embedding"] for line in lines]) - wanted).max() <= 1e-6
    assert [line["line"] for line in lines] == [1, 2, 3, 4]


def test_folder_says_how(hone, tmp_path):
    """modules.json, the pooling's configuration and the longest text, in the place of options."""
    shape = encoders.SHAPES["plain"]
    model, tokenizer = shape.model().double(), shape.tokenizer()
    for pooling, normalize in (("cls", True), ("max", False), ("mean", True)):
        folder = shape.save(tmp_path / pooling)
        encoders.add_modules(folder, pooling, normalize, 12)
        ours = embed(hone, folder, tmp_path, encoders.TEXTS)
        theirs = encoders.vectors(model, tokenizer, encoders.TEXTS, pooling, normalize, 12)
        assert np.abs(ours - theirs).max() <= 1e-4


def test_converted(hone, tmp_path):
    """As a GGUF file, of 8 bits too, and as a folder again, which transformers loads."""
    import torch
    from transformers import BertModel

    shape = encoders.SHAPES["cased"]
    folder = shape.save(tmp_path / "hf")
    wanted = embed(hone, folder, tmp_path, encoders.TEXTS)
    for kind, limit in (("f32", 1e-6), ("q8_0", 0.05)):
        run(hone, "convert", folder, "--to", "gguf", "--type", kind, "--out", tmp_path / "c.gguf")
        ours = embed(hone, tmp_path / "c.gguf", tmp_path, encoders.TEXTS)
        assert np.abs(ours - wanted).max() <= limit, kind
    run(hone, "convert", folder, "--to", "hf", "--out", tmp_path / "again")
    model = BertModel.from_pretrained(tmp_path / "again", dtype=torch.float64).eval()
    theirs = encoders.vectors(model, shape.tokenizer(), encoders.TEXTS, "mean", False, 64)
    assert np.abs(theirs - wanted).max() <= 1e-4
    refused(["GGUF", "bert"], hone, "convert", tmp_path / "c.gguf", "--to", "hf", "--out",
            tmp_path / "third")


def test_threads(hone, tmp_path):
    folder = encoders.SHAPES["plain"].save(tmp_path / "hf")
    one, three = (embed(hone, folder, tmp_path, encoders.TEXTS * 9, "--threads", count)
                  for count in (1, 3))
    assert (one == three).all()


def test_heads_are_read(hone, tmp_path):
    """The vectors are the encoder's, whatever class saved it; old names of norms too."""
    shape = encoders.SHAPES["plain"]
    for kind in ("ForSequenceClassification", "ForTokenClassification", "ForMaskedLM",
                 "ForQuestionAnswering", "ForPreTraining"):
        folder = shape.save(tmp_path / kind, kind)
        model = shape.model(kind).bert.double()
        theirs = encoders.vectors(model, shape.tokenizer(), encoders.TEXTS, "mean", False, 64)
        assert np.abs(embed(hone, folder, tmp_path, encoders.TEXTS) - theirs).max() <= 1e-4, kind
    stored = load_file(folder / "model.safetensors")
    save_file({name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
        "LayerNorm.bias", "LayerNorm.beta"): values for name, values in stored.items()},
        folder / "model.safetensors", {"format": "pt"})
    assert np.abs(embed(hone, folder, tmp_path, encoders.TEXTS) - theirs).max() <= 1e-4


BAD = [
    (lambda c: c.update(hidden_act="relu"), ['"hidden_act" is "relu"', "gelu"]),
    (lambda c: c.update(position_embedding_type="relative_key"), ["relative_key", "absolute"]),
    (lambda c: c.update(is_decoder=True), ["is_decoder"]),
    (lambda c: c.update(num_attention_heads=5), ["5 heads", "36"]),
    (lambda c: c.update(max_position_embeddings=65), ["position_embd.weight", "64", "65"]),
    (lambda c: c.update(vocab_size=7), ["vocab_size is 7"]),
    (lambda c: c.update(id2label={"0": "a", "2": "b"}), ["id2label", '"1"']),
]


@pytest.mark.parametrize("case", range(len(BAD)))
def test_bad_config(hone, tmp_path, case):
    folder = encoders.SHAPES["plain"].save(tmp_path / "hf")
    config = json.loads((folder / "config.json").read_text())
    BAD[case][0](config)
    (folder / "config.json").write_text(json.dumps(config))
    refused(BAD[case][1], hone, "embed", "--model", folder)


def test_bad_input(hone, tmp_path):
    folder = encoders.SHAPES["plain"].save(tmp_path / "hf")
    data = tmp_path / "d.jsonl"
    for lines, says in (('{"text": "a"}\n{"txt": "b"}\n', ["d.jsonl:2", "'text' is missing"]),
                        ('{"text": 3}\n', ["d.jsonl:1", "not a string"]),
                        ('{"text": "a"}\n{"text"\n', ["d.jsonl:2", "not JSON"]), ("", ["no example"])):
        data.write_text(lines)
        refused(says, hone, "embed", "--model", folder, "--data", data, "--out", tmp_path / "o.npy")
        assert not (tmp_path / "o.npy").exists()
    data.write_bytes(b"fine\n\xff\xfe broken\n")
    refused(["d.jsonl:2", "not UTF-8"], hone, "embed", "--model", folder, "--data", data)
    for command in ("finetune", "eval"):
        refused(["encoder"], hone, command, "--model", folder, "--data", data,
                *(["--out", tmp_path / "o"] if command == "finetune" else []))
    refused(["encoder"], hone, "generate", "--model", folder, "--prompt", "x")
    refused(["encoder"], hone, "attention", "--model", folder, "--prompt", "x", "--out",
            tmp_path / "map.html")
    refused(["encoder"], hone, "bench", "train", "--model", folder, "--length", 16)
    assert "an encoder: embed, finetune --task, convert" in run(hone, "inspect", folder)
    for change, says in (({"type": "sentence_transformers.models.Dense"}, ["Dense", "Normalize"]),
                         ({"path": "../x"}, ["../x"]), ({"type": 3}, ["modules.json", "type"])):
        encoders.add_modules(folder, "mean", False)
        modules = json.loads((folder / "modules.json").read_text())
        modules[1].update(change)
        (folder / "modules.json").write_text(json.dumps(modules))
        refused(says, hone, "embed", "--model", folder)
    encoders.add_modules(folder, "mean", False)
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_lasttoken": true}')
    refused(["1_Pooling/config.json", "mean, cls and max"], hone, "embed", "--model", folder)
    shutil.rmtree(folder / "1_Pooling")
    refused(["1_Pooling/config.json"], hone, "embed", "--model", folder)


def test_gguf_says_the_pooling(hone, tmp_path):
    """llama.cpp's converter reads the same files, and says it by a number."""
    shape = encoders.SHAPES["plain"]
    folder = shape.save(tmp_path / "hf")
    encoders.add_modules(folder, "cls", False)
    decoders.convert([(folder, tmp_path / "bert.gguf")])
    keys = gguf.GGUFReader(tmp_path / "bert.gguf").fields
    assert keys["bert.pooling_type"].contents() == 2
    texts = encoders.TEXTS[:6]
    theirs = encoders.vectors(shape.model().double(), shape.tokenizer(), texts, "cls", False, 64)
    assert np.abs(embed(hone, tmp_path / "bert.gguf", tmp_path, texts) - theirs).max() <= 1e-4


def test_real_encoder(hone, tmp_path):
    """all-MiniLM-L6-v2: sentence-transformers' vectors."""
    model = os.environ.get("HONE_MINILM")
    if not model:
        pytest.skip("HONE_MINILM is not set")
    library = pytest.importorskip("sentence_transformers")
    texts = encoders.TEXTS + ["word " * 400]
    theirs = library.SentenceTransformer(model, device="cpu").encode(texts)
    ours = embed(hone, model, tmp_path, texts)
    assert np.abs(ours - theirs).max() <= 1e-4
