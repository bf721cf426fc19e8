# SPDX-License-Identifier: Apache-2.0
"""tokenizer.json against the library that defines it: tokenisers of each model trained here, under
normalisers, pre-tokenisers, added tokens and post-processors of each kind, id for id."""
import itertools
import json

import pytest

from test_tokenizer import (GENERATORS, LLAMA3, LLAMA_FILES, QWEN2, Vocabulary, hone_many, hone_text,
                            hone_tokens,
                            special_strings, strings_of)
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers,
                        processors, trainers)

N, P = normalizers, pre_tokenizers
SPECIALS = ["<unk>", "<s>", "</s>", "<|x|>"]
# Texts of other kinds, which normalisation changes.
FORMS = ["Å ﬁ Ⅷ ㎏ ½ ﷺ", "e\u0301e\u0323\u0302 a\u0328\u0301", "각 각 ᄀ", "ÀÉÎÕÜ Straße İI ıi",
         "ガガ ｶﾞ ﾊﾟ", "ক্ষো ো ো", "\u0958 \u0344 \u212b \u1e9b\u0323", "ǅ Ǆ ǆ ﬃ ſ", "𝒜𝔅𝕮 ①② ㊿",
         "\u200b\u200d\ufeff\u00a0\u3000x", "שּׁלום مُحَمَّد", "a\u0300\u0327b\u0327\u0300", "\u1100\u1161\u11a8\u11a9",
         "D\u0307\u0323 \u1e0a\u0323 \u1e0c\u0307", "ﷲ ㈀ ㌀ ㍍", "  lead  and trail  ", "\t\n x \r\n", " ", "x",
         "x²+y³=z¹ ¼¾½ ª µ º ² ½"]


def corpus():
    return [text.replace("\0", "") for name in GENERATORS if name not in ("controls", "long words")
            for text in strings_of(name)] + FORMS


def all_texts():
    return [(name, text.replace("\0", "")) for name in GENERATORS for text in strings_of(name)[:200]
            ] + [("forms", text) for text in FORMS] + [
        ("specials", text) for text in special_strings(SPECIALS[1:] + ["<tool>", "Loose", "glue"])]


# ---- what is made ------------------------------------------------------------------------------

def bpe(cut, **options):
    trainer = dict(vocab_size=2500, show_progress=False, special_tokens=SPECIALS[:3],
                   initial_alphabet=P.ByteLevel.alphabet() if "byte" in cut else [])
    model = dict(unk_token=None if "byte" in cut else "<unk>")
    model.update(options.pop("model", {}))
    return models.BPE(**model), trainers.BpeTrainer(**trainer)


def unigram(**options):
    return models.Unigram(), trainers.UnigramTrainer(
        vocab_size=6000, show_progress=False, special_tokens=SPECIALS[:3], unk_token="<unk>")


def wordpiece(**options):
    return models.WordPiece(unk_token="<unk>"), trainers.WordPieceTrainer(
        vocab_size=2500, show_progress=False, special_tokens=SPECIALS[:3])


BYTE_LEVEL = P.ByteLevel(add_prefix_space=False)
PLAIN_BYTES = P.ByteLevel(add_prefix_space=False, use_regex=False)
META = P.Metaspace()
LLAMA_NORMAL = N.Sequence([N.Prepend("▁"), N.Replace(" ", "▁")])

MADE = {
    "gpt2": ("bpe byte", None, BYTE_LEVEL),
    "prefix space": ("bpe byte", None, P.ByteLevel(add_prefix_space=True)),
    "llama3": ("bpe byte", None, P.Sequence([P.Split(Regex(LLAMA3), "isolated"), PLAIN_BYTES])),
    "qwen2": ("bpe byte", N.NFC(), P.Sequence([P.Split(Regex(QWEN2), "isolated"), PLAIN_BYTES])),
    "smollm": ("bpe byte", None, P.Sequence([P.Digits(individual_digits=True), BYTE_LEVEL])),
    "digit runs": ("bpe byte", N.NFKD(), P.Sequence([P.Digits(), P.Punctuation(), BYTE_LEVEL])),
    "starts": ("bpe byte", N.Strip(), P.Sequence([P.Split(r" ", "merged_with_next"), PLAIN_BYTES])),
    "ends": ("bpe byte", N.Strip(right=False),
             P.Sequence([P.Split(Regex(r"\s+"), "merged_with_previous"), PLAIN_BYTES])),
    "words": ("bpe byte", N.NFD(), P.Sequence([P.Split(Regex(r"\w+"), "contiguous"), PLAIN_BYTES])),
    "only words": ("bpe byte", N.NFKC(),
                   P.Sequence([P.Split(Regex(r"\w+|\S"), "removed", invert=True), PLAIN_BYTES])),
    "llama2": ("bpe chars", LLAMA_NORMAL, None),
    "gemma": ("bpe chars", N.Replace(" ", "▁"), P.Split(" ", "merged_with_previous")),
    "bpe words": ("bpe chars", N.Lowercase(), P.Whitespace()),
    "bpe fused": ("bpe chars", N.Sequence([N.NFD(), N.StripAccents()]), P.WhitespaceSplit()),
    "word-class": ("bpe byte", N.Replace(Regex(r"[^\w ]+"), "x"),
                   P.Sequence([P.Split(Regex(r"[\w!]+"), "isolated"), PLAIN_BYTES])),
    "t5": ("unigram", N.Sequence([N.Nmt(), N.NFKC(), N.Replace(Regex(" {2,}"), " ")]), META),
    "first": ("unigram", N.Nmt(), P.Metaspace(prepend_scheme="first")),
    "never": ("unigram", None, P.Metaspace(prepend_scheme="never")),
    "unsplit": ("unigram", None, P.Metaspace(split=False)),
    "whole": ("unigram", N.Replace(" ", "▁"), None),
    "bert": ("wordpiece", N.BertNormalizer(), P.BertPreTokenizer()),
    "cased": ("wordpiece", N.BertNormalizer(lowercase=False), P.BertPreTokenizer()),
    "accents": ("wordpiece", N.BertNormalizer(strip_accents=False, clean_text=False,
                                              handle_chinese_chars=False),
                P.Sequence([P.WhitespaceSplit(), P.Punctuation("merged_with_previous")])),
    "delimited": ("wordpiece", N.Sequence([N.Lowercase(), N.NFKC()]), P.CharDelimiterSplit("a")),
}


def add_tokens(peer):
    peer.add_special_tokens(["<|x|>"])
    peer.add_tokens([AddedToken("<tool>", normalized=False, lstrip=True, rstrip=True),
                     AddedToken("Loose", normalized=True, single_word=True),
                     AddedToken("glue", normalized=True, lstrip=True)])


@pytest.fixture(scope="module", params=MADE)
def made(request, tmp_path_factory):
    kind, normalizer, cutter = MADE[request.param]
    options = dict(model=dict(fuse_unk=True)) if "fused" in request.param else {}
    model, trainer = {"bpe": lambda: bpe(kind, **options), "unigram": unigram,
                      "wordpiece": wordpiece}[kind.split()[0]]()
    peer = Tokenizer(model)
    if normalizer:
        peer.normalizer = normalizer
    if cutter:
        peer.pre_tokenizer = cutter
    peer.train_from_iterator(corpus(), trainer)
    add_tokens(peer)
    return write(peer, tmp_path_factory.mktemp("json"))


def write(peer, folder, change=None):
    stored = json.loads(peer.to_str())
    if change:
        change(stored)
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(stored, ensure_ascii=False), encoding="utf-8")
    return str(path), Tokenizer.from_file(str(path))


def check(hone, path, peer, texts, special=True):
    peer.encode_special_tokens = not special
    is_unigram = isinstance(peer.model, models.Unigram)
    for name, text in texts:
        ours = hone_tokens(hone, path, text.encode(), special)
        theirs = peer.encode(text, add_special_tokens=False).ids
        # Of the same tokens in another order none is likelier: rounding decides.
        tied = is_unigram and sorted(ours) == sorted(theirs)
        assert ours == theirs or tied, (name, text, [peer.id_to_token(i) for i in ours],
                                [peer.id_to_token(i) for i in theirs])


# ---- tests -------------------------------------------------------------------------------------

def batches(texts, size=100):
    """Few runs of the program: texts of a kind together, and each of some alone."""
    for name, group in itertools.groupby(texts, lambda item: item[0]):
        group = [text for _, text in group]
        for i in range(0, len(group), size):
            yield name, "\n".join(group[i:i + size])
        for text in group[:3]:
            yield name, text


def test_trained_tokenizer(hone, made):
    path, peer = made
    check(hone, path, peer, batches(all_texts()))
    for text in FORMS:
        check(hone, path, peer, [("forms", text)])


def test_special_tokens(hone, made):
    path, peer = made
    texts = [("specials", text) for name, text in all_texts() if name == "specials"]
    check(hone, path, peer, texts[:30])


# ---- published vocabularies --------------------------------------------------------------------

def published_peer(vocabulary, name):
    """The vocabulary of a GGUF file as the model's own tokenizer.json has it."""
    ids = {token: i for i, token in enumerate(vocabulary.tokens)}
    if vocabulary.model == "gpt2":
        peer = Tokenizer(models.BPE(vocab=ids, merges=vocabulary.merges,
                                    ignore_merges=name == "llama-bpe"))
        peer.pre_tokenizer = {"gpt-2": BYTE_LEVEL,
                              "llama-bpe": MADE["llama3"][2], "qwen2": MADE["qwen2"][2],
                              "starcoder": MADE["smollm"][2]}[name]
        peer.normalizer = N.NFC() if name == "qwen2" else None
        peer.decoder = decoders.ByteLevel()
    elif vocabulary.model == "bert":
        words = {t[1:] if t.startswith("▁") else t if kind == 3 else "##" + t: i
                 for i, (t, kind) in enumerate(zip(vocabulary.tokens, vocabulary.types))}
        peer = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
        peer.normalizer, peer.pre_tokenizer = N.BertNormalizer(), P.BertPreTokenizer()
        peer.decoder = decoders.WordPiece()
    else:
        read = lambda key: vocabulary.fields["tokenizer.ggml." + key].contents()
        peer = Tokenizer(models.Unigram(list(zip(vocabulary.tokens, read("scores"))),
                                        read("unknown_token_id"), False))
        peer.normalizer = N.Precompiled(bytes(b & 255 for b in read("precompiled_charsmap")))
        peer.pre_tokenizer = P.Sequence([P.WhitespaceSplit(), P.Metaspace()])
        peer.decoder = decoders.Metaspace()
    peer.add_special_tokens([AddedToken(t, normalized=False) for t in vocabulary.controls])
    peer.add_tokens([AddedToken(t, normalized=False) for t in vocabulary.users])
    return peer


@pytest.mark.parametrize("name", ["gpt-2", "llama-bpe", "qwen2", "starcoder", "bert-bge",
                                  "nomic-bert-moe"])
def test_published_vocabulary(hone, name, tmp_path):
    path = LLAMA_FILES / f"ggml-vocab-{name}.gguf"
    if not path.exists():
        pytest.skip(f"{path} is not there: scripts/interop-env fetches it")
    vocabulary = Vocabulary(str(path))
    path, peer = write(published_peer(vocabulary, name), tmp_path)
    texts = [(name, text) for name, text in all_texts()
             if not any(vocabulary.missing & set(spelt) for spelt, _ in
                        PLAIN_BYTES.pre_tokenize_str(text)) or vocabulary.model != "gpt2"]
    spelling = next(token for token in vocabulary.controls if token not in SPECIALS)
    separator = spelling, vocabulary.tokens.index(spelling)
    lists = hone_many(hone, path, [text.encode() for _, text in texts], True, separator)
    for (_, text), ours in zip(texts, lists):
        assert ours == peer.encode(text, add_special_tokens=False).ids, text
    text = "It's 12 o'clock, isn't it? don't"
    ours = hone_tokens(hone, str(tmp_path), text.encode(), True)  # the folder
    assert hone_text(hone, path, ours, True).decode() == peer.decode(ours)
