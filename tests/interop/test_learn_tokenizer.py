# SPDX-License-Identifier: Apache-2.0
"""Vocabularies that `hone train` learns beside those of Hugging Face's tokenizers."""
import json
import math
import random
import subprocess

import llama_cpp
import peers
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

END = "<|endoftext|>"
SMALL = ["--layers", 1, "--channels", 16, "--heads", 2, "--context", 32, "--steps", 1,
         "--batch", 4, "--eval-split", 0]


def ties():
    """Every pair of letters as often as every other one."""
    letters = "abcdef"
    return [f"{a}{b}{c} {c}{b}{a}" for a in letters for b in letters for c in letters]


def unicode():
    draw = random.Random(1)
    letters = "aàéßñ漢字かな한글ёжעש😀👩‍💻  \n\t'’012½"
    return ["".join(draw.choice(letters) for _ in range(draw.randrange(1, 60))) for _ in range(300)]


def words():
    """Zipf's words, with what contractions, digits, marks and spaces do to them."""
    draw = random.Random(2)
    syllables = ["ba", "na", "tor", "in", "the", "er", "st", "lo", "qu", "x"]
    known = ["".join(draw.choice(syllables) for _ in range(draw.randrange(1, 5))) for _ in range(400)]
    glue = [" ", " ", " ", ", ", ". ", "  ", "\n\n", "'s ", "-", " 42 ", "... ", END]
    return ["".join(known[int(draw.paretovariate(0.7)) % 400] + draw.choice(glue)
                    for _ in range(draw.randrange(5, 80))) for _ in range(400)]


def runs():
    """aaaa…: a pair overlaps with itself; and spellings that two different pairs make."""
    draw = random.Random(3)
    return ["".join(draw.choice("aab") * draw.randrange(1, 7) for _ in range(9)) for _ in range(200)]


def peer(texts, vocabulary, min_frequency):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=vocabulary, min_frequency=min_frequency, special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    return tokenizer


def learnt(hone, folder, texts, vocabulary, min_frequency):
    data = peers.write_texts(folder / "data.jsonl", texts)
    peers.run_hone(hone, "train", "--data", data, "--out", folder / "out", "--vocabulary", vocabulary,
                   "--min-frequency", min_frequency, *SMALL)
    return folder / "out"


def learnt_unigram(hone, folder, texts, vocabulary):
    data = peers.write_texts(folder / "data.jsonl", texts)
    peers.run_hone(hone, "train", "--data", data, "--out", folder / "out", "--tokenizer", "unigram",
                   "--vocabulary", vocabulary, *SMALL)
    return folder / "out"


def unigram_peer(like, texts, vocabulary):
    """tokenizers' trainer on the same words."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer, tokenizer.pre_tokenizer = like.normalizer, like.pre_tokenizer
    tokenizer.train_from_iterator(texts, trainers.UnigramTrainer(
        vocab_size=vocabulary, unk_token="<unk>", special_tokens=[END, "<unk>"], show_progress=False))
    return tokenizer


def measure(tokenizer, texts):
    """Tokens a byte, and bits a byte by the model's own scores."""
    model = json.loads(tokenizer.to_str())["model"]
    scores = [score for _, score in model["vocab"]]
    ids = [i for text in texts for i in tokenizer.encode(text, add_special_tokens=False).ids]
    assert model["unk_id"] not in ids
    size = sum(len(text.encode()) for text in texts)
    return len(ids) / size, -sum(scores[i] for i in ids) / math.log(2) / size


def hone_tokens(hone, path, text):
    done = subprocess.run([hone, "tokenize", "--model", str(path), "--json"], input=text.encode(),
                          capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)["tokens"]


def pairs_of(merges):
    return [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in merges]


@pytest.mark.parametrize("make", [ties, unicode, words, runs])
@pytest.mark.parametrize("vocabulary, min_frequency", [(300, 1), (700, 2), (2500, 5)])
def test_merges_equal_those_of_tokenizers(hone, tmp_path, make, vocabulary, min_frequency):
    texts = make()
    want = json.loads(peer(texts, vocabulary, min_frequency).to_str())["model"]
    out = learnt(hone, tmp_path, texts, vocabulary, min_frequency)
    got = json.loads((out / "tokenizer.json").read_text(encoding="utf8"))["model"]
    assert pairs_of(got["merges"]) == pairs_of(want["merges"])
    assert got["vocab"] == want["vocab"]
    assert len(want["merges"]) > 20


def test_a_text_has_the_same_tokens(hone, tmp_path):
    texts = words()
    out = learnt(hone, tmp_path, texts, 600, 2)
    theirs, ours = peer(texts, 600, 2), Tokenizer.from_file(str(out / "tokenizer.json"))
    for text in texts[:50] + unicode()[:50]:
        assert ours.encode(text, add_special_tokens=False).ids == theirs.encode(text).ids


def sentences(seed, count):
    """Words of stems and endings, as often as Zipf's: what pieces can be found in."""
    draw = random.Random(0)
    stems = ["".join(draw.choice("bcdfglmnprstv") + draw.choice("aeiouäé") for _ in range(draw.randrange(1, 4)))
             for _ in range(300)]
    endings = ["", "", "s", "ing", "ed", "ness", "ment", "ity", "able", "ish"]
    draw = random.Random(seed)
    return [" ".join(stems[int(draw.paretovariate(0.6)) % 300] + draw.choice(endings)
                     for _ in range(draw.randrange(4, 25))) for _ in range(count)]


@pytest.mark.parametrize("vocabulary", [150, 600])
def test_a_unigram_model_is_as_good_as_that_of_tokenizers(hone, tmp_path, vocabulary):
    """Other pieces, but held-out texts are as short and as likely: not worse by half a percent."""
    texts, held_out = sentences(1, 1000), sentences(2, 200)
    ours = Tokenizer.from_file(str(learnt_unigram(hone, tmp_path, texts, vocabulary) / "tokenizer.json"))
    theirs = unigram_peer(ours, texts, vocabulary)
    (tokens, bits), (their_tokens, their_bits) = measure(ours, held_out), measure(theirs, held_out)
    print(f"tokens a byte {tokens:.4f}, theirs {their_tokens:.4f}; bits {bits:.4f}, theirs {their_bits:.4f}")
    assert tokens <= 1.005 * their_tokens
    assert bits <= 1.005 * their_bits
    assert ours.get_vocab_size() == vocabulary
    pieces = json.loads(ours.to_str())["model"]["vocab"][2:]
    assert sum(math.exp(score) for _, score in pieces) <= 1 + 1e-6  # they are probabilities


def test_a_unigram_model_is_read_alike_by_all(hone, tmp_path):
    out = learnt_unigram(hone, tmp_path, sentences(1, 800) + unicode(), 700)
    peer = Tokenizer.from_file(str(out / "tokenizer.json"))
    llama = llama_cpp.Llama(str(out / "model.gguf"), vocab_only=True, verbose=False)
    texts = sentences(3, 60) + [text.replace("\0", "") for text in unicode()[:60]] + ["", " ", "  a", "Ж☃ b"]
    for text in texts:
        want = peer.encode(text, add_special_tokens=False).ids
        for place in ("tokenizer.json", "model.gguf"):
            assert hone_tokens(hone, out / place, text) == want, (place, text)
        if text.strip(" "):  # llama.cpp puts no space before spaces alone
            assert llama.tokenize(text.encode(), add_bos=False, special=False) == want, text
        known = peer.decode(want, skip_special_tokens=False)
        assert known == text or "<unk>" in known


def test_a_unigram_model_comes_back_as_a_folder(hone, tmp_path):
    from transformers import AutoTokenizer
    out = learnt_unigram(hone, tmp_path, sentences(1, 800), 300)
    peers.run_hone(hone, "convert", out / "model.gguf", "--to", "hf", "--out", tmp_path / "hf")
    peers.run_hone(hone, "convert", tmp_path / "hf", "--to", "gguf", "--out", tmp_path / "back.gguf")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "hf")
    ours = Tokenizer.from_file(str(out / "tokenizer.json"))
    for text in sentences(3, 20):
        assert theirs(text).input_ids == ours.encode(text).ids
    text = "  a " + "\n".join(sentences(4, 20)) + " Ж☃<unk>"
    assert hone_tokens(hone, tmp_path / "back.gguf", text) == hone_tokens(hone, out / "model.gguf", text)


def test_a_unigram_model_that_changes_its_text_is_refused(hone, tmp_path):
    out = learnt_unigram(hone, tmp_path, sentences(1, 100), 100)
    peers.run_hone(hone, "convert", out / "model.gguf", "--to", "hf", "--out", tmp_path / "hf")
    place = tmp_path / "hf" / "tokenizer.json"
    whole = json.loads(place.read_text())

    def refused(change):
        one = json.loads(json.dumps(whole))
        change(one)
        place.write_text(json.dumps(one))
        done = subprocess.run([hone, "convert", str(tmp_path / "hf"), "--to", "gguf", "--out",
                               str(tmp_path / "back.gguf")], capture_output=True, text=True, timeout=120)
        assert done.returncode != 0 and not (tmp_path / "back.gguf").exists()
        return done.stderr
    assert "normalizer" in refused(lambda one: one.update(normalizer={"type": "NFKC"}))
    assert "pre_tokenizer" in refused(lambda one: one.update(pre_tokenizer={"type": "WhitespaceSplit"}))
    assert "entry 7" in refused(lambda one: one["model"]["vocab"].__setitem__(7, ["a"]))
    assert "no JSON array" in refused(lambda one: one["model"].update(vocab={"a": 1}))


def test_a_vocabulary_smaller_than_the_alphabet_is_refused(hone, tmp_path):
    data = peers.write_texts(tmp_path / "data.jsonl", unicode())
    command = [hone, "train", "--data", data, "--out", tmp_path / "out", "--tokenizer", "unigram",
               "--vocabulary", 20, *SMALL]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120)
    assert done.returncode != 0 and "different characters" in done.stderr
    assert not (tmp_path / "out" / "model.gguf").exists()
