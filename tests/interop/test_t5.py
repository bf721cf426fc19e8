# SPDX-License-Identifier: Apache-2.0
"""T5 from a GGUF file and from a folder beside transformers' in f64: tokens, log-probabilities, every
gradient with that of the bias by distance, steps of AdamW, what is generated, adapters from and to PEFT."""
import json
import shutil
import subprocess

import gguf
import numpy as np
import peers
import peft
import pytest
import safetensors.numpy
import t5
import torch
from transformers import AutoTokenizer

KINDS = {"1.0": (False, True), "1.1": (True, False), "gated-tied": (True, True)}


def records(count=30):
    draw = np.random.default_rng(5)
    made = []
    for _ in range(count):
        words = list(draw.choice(t5.WORDS, draw.integers(1, 12)))
        made.append({"source": " ".join(words), "target": " ".join(words[::-1][:6])})
    made[1]["source"] = made[0]["source"]
    made[3] = {"source": made[2]["source"], "target": made[2]["target"] + " sleep"}
    return made


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("t5")
    pieces = t5.vocabulary(folder)
    data = folder / "pairs.jsonl"
    data.write_text("".join(json.dumps(record) + "\n" for record in records()))
    pairs = [([*pieces.encode(one["source"]), 1], [0, *pieces.encode(one["target"]), 1])
             for one in records()]
    found = {}

    def make(kind):
        if kind not in found:
            model = t5.make(pieces, *KINDS[kind])
            found[kind] = model, t5.write_gguf(model, pieces, folder / f"{kind}.gguf")
        return *found[kind], data, pairs

    make.pieces = pieces
    return make


@pytest.mark.parametrize("kind", KINDS)
def test_logprobs(hone, tiny, kind):
    model, path, data, pairs = tiny(kind)
    ours = peers.hone_logprobs(hone, path, data)
    for values, (source, target) in zip(ours, pairs, strict=True):
        with torch.no_grad():
            rows = t5.logits(model, [(source, target)])[0][0].log_softmax(-1)
        want = rows[torch.arange(len(rows)), torch.tensor(target[1:])].numpy()
        assert np.abs(values - want).max() < 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_gradients(built, tiny, tmp_path, kind):
    model, path, data, pairs = tiny(kind)
    model.zero_grad()
    loss = t5.loss(model, pairs)
    loss.backward()
    theirs = {ours: model.get_parameter(name).grad.numpy() for name, ours in t5.gguf_names(model).items()}
    for parts in ("1", "4"):
        out = tmp_path / "gradients.safetensors"
        done = subprocess.run([built("tests/interop/gradient_tool"), path, data, out, "full", parts],
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["loss"] == pytest.approx(loss.item(), rel=1e-6)
        ours = safetensors.numpy.load_file(out)
        everything = np.sqrt(sum(np.square(value).sum() for value in theirs.values()))
        assert sorted(ours) == sorted(theirs)
        for name, want in theirs.items():
            apart = np.linalg.norm(ours[name] - want)
            assert apart <= 1e-4 * np.linalg.norm(want) + 1e-7 * everything, name


@pytest.mark.parametrize("kind", ["1.0", "1.1"])
def test_steps_follow_torch(hone, tiny, tmp_path, kind):
    _, path, data, pairs = tiny(kind)
    lines = peers.run_hone(hone, "finetune", "--model", path, "--data", data, "--out", tmp_path,
                           "--method", "full", "--type", "f32", "--eval-split", 0, "--shuffle",
                           "off", "--batch", 6, "--steps", 20, "--lr", 1e-3, "--schedule",
                           "constant", "--warmup", 0, "--checkpoint-layers", "all")
    ours = [line["loss"] for line in lines if line["event"] == "step"]
    model = t5.make(tiny.pieces, *KINDS[kind])
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.999), weight_decay=0)
    theirs = []
    for batch in peers.steps_of(pairs, 6, 20):
        optimiser.zero_grad()
        loss = t5.loss(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1)
        optimiser.step()
        theirs.append(loss.item())
    assert theirs[-1] < theirs[0]
    assert np.abs(np.array(ours) - np.array(theirs)).max() < 2e-4
    trained = {one.name: one.data for one in gguf.GGUFReader(tmp_path / "model.gguf").tensors}
    for name, own in t5.gguf_names(model).items():
        want = model.get_parameter(name).detach().numpy()
        assert np.abs(trained[own] - want).max() < 2e-4, name


@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("kind", ["1.0", "1.1"])
def test_same_tokens(hone, tiny, kind, beams):
    model, path, data, pairs = tiny(kind)
    lines = peers.run_hone(hone, "translate", "--model", path, "--data", data, "--beams", beams,
                           "--max-tokens", 20, "--batch", 7)
    for line, (source, _) in zip(lines, pairs, strict=True):
        with torch.no_grad():  # its cache wants as many decoder layers as there are of the encoder
            made = model.generate(torch.tensor([source]), num_beams=beams, max_new_tokens=20, use_cache=False,
                                  do_sample=False, attention_mask=torch.ones(1, len(source)).long(),
                                  return_dict_in_generate=True, output_scores=True)
        want = made.sequences[0, 1:].tolist()
        end = want.index(1) if 1 in want else len(want)
        assert line["tokens"] == want[:end]
        assert line["target"] == tiny.pieces.decode([one for one in want[:end] if one > 2]) or 2 in want
        if beams > 1:
            assert line["score"] == pytest.approx(made.sequences_scores[0].item(), abs=1e-4)


def test_what_is_refused(hone, tiny, tmp_path):
    model, _, data, _ = tiny("1.0")

    def refused(says, leave_out=(), **instead):
        path = t5.write_gguf(model, tiny.pieces, tmp_path / "bad.gguf", leave_out, **instead)
        done = subprocess.run([hone, "eval", "--model", path, "--data", data], capture_output=True,
                              text=True)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        for part in says:
            assert part in done.stderr

    refused(["attn_rel_b"], ["enc.blk.0.attn_rel_b.weight"])
    refused(["attn_rel_b", "shape"], **{"attention.relative_buckets_count": 16})
    refused(["relative_buckets_count", "2"], **{"attention.relative_buckets_count": 2})
    refused(["relative_buckets_count"], ["attention.relative_buckets_count"])
    refused(["decoder_start_token_id", "36"], decoder_start_token_id=36)
    refused(["decoder_block_count"], decoder_block_count=0)


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    made = {}

    def get(kind):
        if kind not in made:
            made[kind] = t5.save(tiny(kind)[0], tiny.pieces, tmp_path_factory.mktemp("folder") / kind)
        return made[kind]

    return get


def check_logprobs(hone, path, data, pairs, model, *options):
    ours = peers.hone_logprobs(hone, path, data, *options)
    for values, (source, target) in zip(ours, pairs, strict=True):
        with torch.no_grad():
            rows = t5.logits(model, [(source, target)])[0][0].log_softmax(-1)
        want = rows[torch.arange(len(rows)), torch.tensor(target[1:])].numpy()
        assert np.abs(values - want).max() < 1e-4
    return ours


@pytest.mark.parametrize("kind", ["1.0", "1.1"])
def test_folder(hone, tiny, folder, kind):
    """The same values to the bit as from GGUF; what transformers 4 wrote too."""
    _, path, data, pairs = tiny(kind)
    peer = t5.load(folder(kind))
    ours = check_logprobs(hone, folder(kind), data, pairs, peer)
    for a, b in zip(ours, peers.hone_logprobs(hone, path, data), strict=True):
        assert np.array_equal(a, b)
    config = folder(kind) / "config.json"
    said = json.loads(config.read_text())
    older = {key: value for key, value in said.items() if key != "scale_decoder_outputs"}
    config.write_text(json.dumps({**older, "tie_word_embeddings": kind == "1.0"}))
    again = peers.hone_logprobs(hone, folder(kind), data)
    config.write_text(json.dumps(said))
    assert all(np.array_equal(a, b) for a, b in zip(ours, again, strict=True))


def test_tokens_of_a_folder(hone, tiny, tmp_path):
    texts = ["the cat sat", " the  cat ", "a mat. Was it\tgood?", "ünknown cat", "", "nothing"]
    for words in (True, False):
        made = t5.save(tiny("1.0")[0], tiny.pieces, tmp_path / str(words), words)
        peer = AutoTokenizer.from_pretrained(made)
        for text in texts if words else [one for one in texts if "  " not in one and "\t" not in one]:
            done = subprocess.run([hone, "tokenize", "--model", made, "--json"], input=text,
                                  capture_output=True, text=True, check=True)
            ours = json.loads(done.stdout)["tokens"]
            assert ours == peer(text, add_special_tokens=False).input_ids, text


@pytest.mark.parametrize("kind", ["1.0", "1.1"])
@pytest.mark.parametrize("method", ["lora", "dora"])
def test_adapter(hone, tiny, folder, tmp_path, kind, method):
    """Of a run: PEFT's numbers of the folder, the same by its GGUF form and merged."""
    _, path, data, pairs = tiny(kind)
    base, out, merged = folder(kind), tmp_path / "run", tmp_path / "merged"
    peers.run_hone(hone, "finetune", "--model", base, "--data", data, "--out", out, "--rank", 3,
                   "--method", method, "--steps", 12, "--batch", 5, "--lr", 0.02, "--eval-split", 0)
    config = json.loads((out / "adapter_config.json").read_text())
    assert config["task_type"] == "SEQ_2_SEQ_LM"
    feed = ["wi_0", "wi_1"] if kind == "1.1" else ["wi"]
    assert sorted(config["target_modules"]) == sorted(["q", "k", "v", "o", "wo", *feed])
    peer = peft.PeftModel.from_pretrained(t5.load(base), out)
    ours = check_logprobs(hone, base, data, pairs, peer, "--adapter", out)
    plain = peers.hone_logprobs(hone, base, data)
    assert peers.largest_difference(ours, plain) > 0.05
    if method == "lora":
        same = peers.hone_logprobs(hone, path, data, "--adapter", out / "adapter.gguf")
        assert peers.largest_difference(ours, same) < 1e-6
    peers.run_hone(hone, "merge", "--model", base, "--adapter", out, "--to", "hf", "--out", merged)
    check_logprobs(hone, merged, data, pairs, t5.load(merged))
    assert peers.largest_difference(ours, peers.hone_logprobs(hone, merged, data)) < 1e-4
    assert (AutoTokenizer.from_pretrained(merged)("the cat").input_ids
            == tiny.pieces.encode("the cat") + [1])


def test_adapter_of_peft(hone, built, tiny, folder, tmp_path):
    """Drawn by PEFT: its numbers, and every gradient."""
    _, _, data, pairs = tiny("1.1")
    torch.manual_seed(3)
    settings = peft.LoraConfig(r=3, lora_alpha=7, target_modules=["q", "v", "wi_1", "wo"],
                               init_lora_weights=False, task_type="SEQ_2_SEQ_LM")
    peft.get_peft_model(t5.load(folder("1.1")).float(), settings).save_pretrained(tmp_path / "a")
    peer = peft.PeftModel.from_pretrained(t5.load(folder("1.1")), tmp_path / "a", is_trainable=True)
    check_logprobs(hone, folder("1.1"), data, pairs, peer.eval(), "--adapter", tmp_path / "a")
    t5.loss(peer, pairs).backward()
    out = tmp_path / "gradients.safetensors"
    done = subprocess.run([built("tests/interop/gradient_tool"), folder("1.1"), data, out,
                           tmp_path / "a", "2"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ours, names = safetensors.numpy.load_file(out), t5.gguf_names(t5.load(folder("1.1")))
    theirs = {}
    for name, parameter in peer.named_parameters():
        if parameter.requires_grad:
            module, part = name.removeprefix("base_model.model.").split(".lora_")
            theirs[f"{names[module + '.weight']}.lora_{part[0].lower()}"] = parameter.grad.numpy()
    assert sorted(ours) == sorted(theirs)
    everything = np.sqrt(sum(np.square(value).sum() for value in theirs.values()))
    for name, want in theirs.items():
        assert np.linalg.norm(ours[name] - want) <= 1e-4 * np.linalg.norm(want) + 1e-7 * everything


def test_what_is_refused_of_a_folder(hone, tiny, folder, tmp_path):
    _, _, data, _ = tiny("1.0")
    for number, (changes, says) in enumerate((
            ({"feed_forward_proj": "gated-silu"}, ["feed_forward_proj", "gated-silu"]),
            ({"feed_forward_proj": "gated-gelu"}, ["wi_0", "gated-gelu"]),
            ({"relative_attention_max_distance": 64}, ["relative_attention_max_distance", "64"]),
            ({"decoder_start_token_id": 36}, ["decoder_start_token_id", "36"]),
            ({"decoder_start_token_id": "x"}, ["decoder_start_token_id", "x"]),
            ({"d_kv": 8}, ["attn_q", "shape"]))):
        bad = tmp_path / str(number)
        shutil.copytree(folder("1.0"), bad)
        said = json.loads((bad / "config.json").read_text())
        (bad / "config.json").write_text(json.dumps({**said, **changes}))
        done = subprocess.run([hone, "eval", "--model", bad, "--data", data], capture_output=True,
                              text=True)
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
        assert all(part in done.stderr for part in says), done.stderr
    done = subprocess.run([hone, "finetune", "--model", folder("1.0"), "--data", data, "--out",
                           tmp_path / "run", "--targets", "q,head"], capture_output=True, text=True)
    assert done.returncode == 2 and "scaled" in done.stderr
