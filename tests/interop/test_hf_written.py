# SPDX-License-Identifier: Apache-2.0
"""Folders that hone writes: transformers reads them without a word, as the model that they were."""
import json
import subprocess
import unicodedata
import warnings

import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")
gguf = pytest.importorskip("gguf")
pytest.importorskip("llama_cpp")
import models
import numpy as np
import peers
import tiny
import torch
from safetensors import safe_open
from test_hf_folder import pair_of, tokens_of
from test_same_files import PROBES
from test_same_training import LINES
from test_tokenizer import GENERATORS, hone_many, pieces, strings_of, trained
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils import logging

CHAT = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "one, two?"},
        {"role": "assistant", "content": "three"}, {"role": "user", "content": " é 你 12"}]


def convert(hone, source, out, *options, to="hf"):
    peers.run_hone(hone, "convert", source, "--to", to, "--out", out, *options)
    return out


def load(folder, capfd, **options):
    """The model, and that neither transformers nor Python said anything."""
    capfd.readouterr()
    logging.disable_progress_bar()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True,
                                                             **options)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        GenerationConfig.from_pretrained(folder)
    said = capfd.readouterr()
    assert not any(report.values()), report
    assert said.err == "" and said.out == ""
    return model.eval(), tokenizer


def tensors_of(path):
    """Bytes of each tensor of a safetensors folder or a GGUF file, with its type and shape."""
    if path.is_dir():
        with safe_open(path / "model.safetensors", "pt") as file:
            held = {name: file.get_tensor(name) for name in file.keys()}
        return {name: (value.dtype, value.shape, value.view(torch.uint8).numpy().tobytes())
                for name, value in held.items()}
    return {t.name: (t.tensor_type, tuple(t.shape), t.data.tobytes())
            for t in gguf.GGUFReader(path).tensors}


def check_tokenizer(hone, model, tokenizer, text):
    """The ids of hone's own tokeniser, special tokens' names left as text or not."""
    wanted = [int(token) for token in tokens_of(hone, model, text)]
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == wanted


@pytest.mark.parametrize("name", models.SHAPES)
def test_from_a_gguf_file(hone, tmp_path, capfd, name):
    shape = models.SHAPES[name]
    path = shape.write_gguf(tmp_path / "tiny.gguf")
    folder = convert(hone, path, tmp_path / "hf")
    model, tokenizer = load(folder, capfd, dtype=torch.float64)
    probes = peers.write_texts(tmp_path / "probes.jsonl", PROBES)
    examples = peers.examples_of(hone, path, probes)
    ours = peers.hone_logprobs(hone, path, probes)
    assert peers.largest_difference(ours, peers.torch_logprobs(model, examples)) <= 1e-4
    check_tokenizer(hone, path, tokenizer, "\n".join(PROBES + LINES) + " 12 345  x\té你\U0001f600")
    assert tokenizer.decode(tokenizer("in the end it was")["input_ids"]) == "in the end it was"
    if tokenizer.chat_template:
        chat = {"messages": CHAT[:3]}
        data = tmp_path / "chat.jsonl"
        data.write_text(json.dumps(chat) + "\n")
        [(tokens, _)] = peers.examples_of(hone, path, data)
        theirs = tokenizer.apply_chat_template(chat["messages"], tokenize=True, return_dict=False)
        assert theirs[:len(tokens)] == tokens

    # And back: the same tensors, bit by bit.
    again = convert(hone, folder, tmp_path / "again.gguf", to="gguf")
    mine, wanted = tensors_of(again), tensors_of(path)
    assert mine == wanted
    twice = convert(hone, again, tmp_path / "twice")
    assert tensors_of(twice) == tensors_of(folder)
    assert (twice / "config.json").read_bytes() == (folder / "config.json").read_bytes()
    assert (twice / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()


@pytest.mark.parametrize("name", models.SHAPES)
@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16])
def test_from_a_folder(hone, tmp_path, capfd, name, kind):
    """What transformers saved comes back: each tensor's bytes, and the files beside them."""
    _, source, _ = pair_of(name, tmp_path)
    AutoModelForCausalLM.from_pretrained(source, dtype=kind).save_pretrained(source)
    folder = convert(hone, source, tmp_path / "out")
    assert tensors_of(folder) == tensors_of(source)
    for file in ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (folder / file).read_bytes() == (source / file).read_bytes()
    model, _ = load(folder, capfd)
    assert model.dtype == kind

    narrow = convert(hone, source, tmp_path / "bf16", "--type", "bf16")
    config = json.loads((narrow / "config.json").read_text())
    assert config["dtype"] == "bfloat16"
    config["dtype"] = str(kind).removeprefix("torch.")
    assert config == json.loads((source / "config.json").read_text())
    wanted = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).bfloat16()
    model, _ = load(narrow, capfd)
    assert model.dtype == torch.bfloat16
    for (key, mine), other in zip(model.state_dict().items(), wanted.state_dict().values(),
                                  strict=True):
        assert torch.equal(mine, other), key


@pytest.mark.parametrize("name", ["grouped", "gpt2-odd"])
def test_merged(hone, tmp_path, capfd, name):
    """PEFT's own merge of the same adapter, from a folder and from a GGUF file."""
    _, source, path = pair_of(name, tmp_path)
    data = peers.write_texts(tmp_path / "texts.jsonl", LINES)
    run = tmp_path / "run"
    peers.finetune(hone, source, data, run, "--rank", 4, "--steps", 6, "--lr", 1e-2, "--batch", 8)
    reference = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float64)
    wanted = peers.with_adapter(reference, run).merge_and_unload().state_dict()
    for number, base in enumerate((source, path)):
        out = tmp_path / f"merged-{number}"
        done, = peers.run_hone(hone, "merge", "--model", base, "--adapter", run, "--out", out,
                               "--to", "hf", "--type", "f32")
        assert done["merged"] > 0 and done["merged"] + done["copied"] <= done["tensors"]
        model, _ = load(out, capfd, dtype=torch.float64)
        held = model.state_dict()
        assert set(held) == set(wanted)
        for key, value in held.items():
            assert torch.norm(value - wanted[key]) <= 1e-6 * torch.norm(wanted[key]), key


def test_the_real_model(hone, model, tmp_path, capfd):
    """SmolLM2 in Q4_1: its values in f16, its tokeniser on a text with everything in it."""
    folder = convert(hone, model, tmp_path / "hf")
    loaded, tokenizer = load(folder, capfd, dtype=torch.float32)
    probes = peers.write_texts(tmp_path / "probes.jsonl", PROBES)
    examples = peers.examples_of(hone, model, probes)
    ours = peers.hone_logprobs(hone, model, probes)
    # Q4_1's values d·q + m have more bits than f16 has.
    assert peers.largest_difference(ours, peers.torch_logprobs(loaded, examples)) <= 2e-2
    check_tokenizer(hone, model, tokenizer, "\n".join(PROBES + LINES) + " 12 345  x\té你\U0001f600\n\n  \t")
    text = tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True)
    assert text.startswith("<|im_start|>system\nBe short.<|im_end|>\n")
    assert tokenizer.eos_token == "<|im_end|>" and tokenizer.pad_token is not None


# ---- vocabularies ------------------------------------------------------------------------------


def check_vocabulary(hone, vocabulary, folder, may_differ=lambda text: False):
    """The folder's tokenizer.json has the GGUF file's ids for the strings of test_tokenizer.py."""
    convert(hone, vocabulary.path, folder)
    peer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    separator = vocabulary.separator(True)
    for generator in GENERATORS:
        texts = [text.replace("\0", "") for text in strings_of(generator)]
        lists = hone_many(hone, vocabulary.path, [t.encode() for t in texts], True, separator)
        for text, ours in zip(texts, lists):
            if not may_differ(text):
                assert peer.encode(text, add_special_tokens=False).ids == ours, text


def test_byte_level_vocabularies(hone, trained, tmp_path):
    """Qwen2 is published with a normaliser that GGUF files leave out."""
    composed = trained.rule == "qwen2"
    check_vocabulary(hone, trained, tmp_path / "hf", lambda text: trained.lacks_a_byte_of(text) or
                     (composed and not unicodedata.is_normalized("NFC", text)))


def test_sentencepiece_vocabularies(hone, pieces, tmp_path):
    keys = gguf.GGUFReader(pieces.path).fields
    if "tokenizer.ggml.precompiled_charsmap" in keys:
        said = refused(hone, "convert", pieces.path, "--to", "hf", "--out", tmp_path / "hf")
        assert "precompiled_charsmap" in said and not (tmp_path / "hf").exists()
    else:
        check_vocabulary(hone, pieces, tmp_path / "hf")


# ---- what is refused ---------------------------------------------------------------------------


def refused(hone, *arguments, status=2):
    done = subprocess.run([str(part) for part in (hone, *arguments)], capture_output=True,
                          text=True, timeout=60)
    assert done.returncode == status and len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def copy_gguf(writer, reader, without=()):
    """All keys but some, and the tensors."""
    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key not in ("general.architecture", *without):
            writer.add_key_value(key, field.contents(), field.types[0],
                                 field.types[-1] if len(field.types) > 1 else None)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data)


def test_what_cannot_be_said(hone, tmp_path):
    """Refused before anything is written."""
    path = models.SHAPES["plain"].write_gguf(tmp_path / "tiny.gguf")
    out = tmp_path / "out"

    def says(change, *parts):
        reader = gguf.GGUFReader(path)
        made = tmp_path / "changed.gguf"
        writer = gguf.GGUFWriter(made, "llama")
        change(writer, reader)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        said = refused(hone, "convert", made, "--to", "hf", "--out", out)
        assert all(part in said for part in (str(made), *parts)), said
        assert not out.exists()

    def rule(writer, reader):
        copy_gguf(writer, reader, without=("tokenizer.ggml.pre",))
        writer.add_tokenizer_pre("deepseek-llm")
    says(rule, "tokenizer.ggml.pre", "deepseek-llm", "qwen2")

    def factors(writer, reader):
        copy_gguf(writer, reader)
        half = models.SHAPES["plain"].head_size // 2
        writer.add_tensor("rope_freqs.weight", np.linspace(1, 5, half, dtype=np.float32))
    says(factors, "rope_freqs.weight", "config.json")


def test_folders_that_are_not_written(hone, tmp_path):
    path = models.SHAPES["plain"].write_gguf(tmp_path / "tiny.gguf")
    held = tmp_path / "held"
    held.mkdir()
    (held / "note.txt").write_text("mine")
    assert "holds note.txt" in refused(hone, "convert", path, "--to", "hf", "--out", held)
    assert [file.name for file in held.iterdir()] == ["note.txt"]
    assert "is a file" in refused(hone, "convert", path, "--to", "hf", "--out", path)
    assert "f32, f16 or bf16" in refused(hone, "convert", path, "--to", "hf", "--out",
                                         tmp_path / "new", "--type", "q8_0")
    assert not (tmp_path / "new").exists()
    assert "--to hf writes models" in refused(
        hone, "convert", "run", "--model", path, "--to", "hf", "--out", tmp_path / "new")
    assert tiny.TEMPLATE  # the folder's template is the file's
    convert(hone, path, tmp_path / "new")
    assert (tmp_path / "new" / "chat_template.jinja").read_text() == tiny.TEMPLATE
