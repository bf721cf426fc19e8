# SPDX-License-Identifier: Apache-2.0
"""Vocabularies that `hone train` learns beside those of Hugging Face's tokenizers."""
import json
import random

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
