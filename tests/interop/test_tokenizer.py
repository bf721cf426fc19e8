# SPDX-License-Identifier: Apache-2.0
"""`hone tokenize` against tokenizers, sentencepiece and llama.cpp, id for id.

The reference model's vocabulary is compared as it is (rule smollm), and so are the vocabularies
that llama.cpp's source package carries. For four rules of byte-level BPE and for sentencepiece's
two models small vocabularies are trained here, written to GGUF files and compared too.
"""
import fractions
import io
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import unicodedata

import pytest

np = pytest.importorskip("numpy")
gguf = pytest.importorskip("gguf")
llama_cpp = pytest.importorskip("llama_cpp")
tokenizers = pytest.importorskip("tokenizers")
sentencepiece = pytest.importorskip("sentencepiece")
from sentencepiece import sentencepiece_model_pb2
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers,
                        trainers)

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
          r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
RULES = ["smollm", "gpt-2", "llama-bpe", "qwen2"]
# One name of each further rule, which llama.cpp alone has by that name.
LLAMA_RULES = ["glm4", "dbrx", "minicpm5", "qwen35", "laguna", "ufakzeka", "seed-coder", "bailingmoe",
               "exaone-moe", "jais-2", "deepseek-llm", "deepseek-coder", "deepseek-v3", "spark2_5",
               "afmoe", "falcon", "default", "bloom", "viking", "tekken", "gpt-4o",
               "granite-embed-multi-97m", "tiny_aya", "youtu", "superbpe", "chameleon"]
STRINGS_EACH = int(os.environ.get("HONE_TOKENIZER_STRINGS", 120))  # of each kind of text
NORMAL, UNKNOWN, CONTROL, USER, BYTE = 1, 2, 3, 4, 6
LLAMA_FILES = pathlib.Path(sys.prefix) / "llama.cpp" / "models"
# The vocabularies in llama.cpp's source package that Hone reads.
PACKAGED = ["gpt-2", "llama-bpe", "qwen2", "qwen35", "starcoder", "refact", "command-r", "falcon",
            "mpt", "deepseek-coder", "deepseek-llm", "aquila", "gpt-neox", "llama-spm", "phi-3",
            "baichuan", "bert-bge", "nomic-bert-moe"]


# ---- strings -----------------------------------------------------------------------------------

ENGLISH = """It's what they've said: we'll see, I'm sure you'd agree. The package contains the
shared library, its headers and a manual; don't install both. He'S WE'LL I'VE 'tis
rock'n'roll ''quoted''
Internationalisation e.g. naïve café, 3rd of May 2024 at 10:45, $1,234.56 (12%) -- and so on...
""".split(" ")
CODE = """for (int i = 0; i < n; i++) {\n\tsum += a[i] * b[i];\n    }\n\ndef f(x):\n\t  return x**2
#include <stdio.h>\r\n// comment\r\n/* == */ if (!x && y->z != NULL) x |= 0xFF; "s\\n"
self.__init__(**kwargs)\n\n\n    @property\n    lambda x: {x: 1}, [0.5e-3, 1_000]; a_b_c
<div id="a">\t\t</div> CamelCaseName""".split(" ")
CHINESE = "这个软件包包含共享库及其头文件。中文，标点！「引号」" "人工智能模型训练数据 第１２章 三百二十一 ㊿"
EMOJI = ["👩‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇩🇪", "❤️", "😀", "🧑‍💻", "1️⃣", " ", "a", "!", "é"]
SPACES = [" ", "  ", "   ", "\t", "\n", "\r\n", "\n\n", "\u00a0", "\u3000", "\u2009", "\u2028",
          "\u0085", "\u180e", "\u200b", "\x0b", "\x0c"]
NUMERALS = ["1", "22", "333", "4444", "1234567", "٣", "５", "½", "Ⅷ", "²", "三", "९९"]


def joined(rng, parts, least, most, between=""):
    return between.join(rng.choice(parts) for _ in range(rng.randint(least, most)))


def assigned_characters():
    """Characters whose category never changed, so that each library's Unicode version agrees."""
    old = unicodedata.ucd_3_2_0
    return [chr(c) for c in range(0x110000)
            if old.category(chr(c)) not in ("Cn", "Cs", "Co")
            and old.category(chr(c)) == unicodedata.category(chr(c))]


CHARACTERS = assigned_characters()
CONTROLS = [chr(c) for c in range(0x20)] + ["\x7f", "a", "b", " ", "!"]
SUFFIXES = ["'", "s", "S", "ll", "LL", "re", "VE", "t", "d", "M", " ", "x", "\n", "\u2019", "1"]

GENERATORS = {
    "english": lambda rng: joined(rng, ENGLISH, 1, 30, " "),
    "code": lambda rng: joined(rng, CODE, 1, 30, rng.choice([" ", "  ", "\n", "\t"])),
    "chinese": lambda rng: joined(rng, CHINESE, 1, 40),
    "emoji": lambda rng: joined(rng, EMOJI, 1, 15),
    "digits": lambda rng: joined(rng, NUMERALS + [" ", ".", ",", "a", "-"], 1, 20),
    "spaces": lambda rng: joined(rng, SPACES + NUMERALS[:4] + ["x", "'s", "é", "!"], 1, 20),
    "controls": lambda rng: joined(rng, CONTROLS, 1, 20),
    "unicode": lambda rng: joined(rng, CHARACTERS, 1, 25),
    "suffixes": lambda rng: joined(rng, SUFFIXES, 1, 15),
    "numerals": lambda rng: joined(rng, NUMERALS + ["1", "2", "a ", " ", "."], 1, 20),
    "letters": lambda rng: joined(rng, ["a", "B", "é", "É", "Ж", "ж", "\u0301", "ª", "中", "가", "ｶ", "ก",
                                        "ǅ", "_", " ", "'s", "'LL", "\n", "/", "!", "„", "。", "´"],
                                  1, 20),
    "long words": lambda rng: joined(rng, ["a", "b", "th", "e", "in", "g"], 100, 300),
}


def strings_of(name):
    rng = random.Random(f"hone {name}")
    return [GENERATORS[name](rng) for _ in range(STRINGS_EACH)]


def special_strings(specials):
    """Special tokens among words, doubled, cut short and touching each other."""
    rng = random.Random("specials")
    parts = specials + [s[:-1] for s in specials] + ["<", "|", ">", " ", "\n", "word", "12", "<|"]
    return specials + [joined(rng, parts, 1, 12) for _ in range(STRINGS_EACH)]


def invalid_strings():
    """Bytes that are not UTF-8, such that each library counts the same number of errors."""
    rng = random.Random("invalid")
    bad = [b"\x80", b"\xbf", b"\xff", b"\xfe", b"\x80\x80\x80", b"\xa9\xff"]
    good = [b" ", b"a", b"the", b" word", b"1", b"  ", b"\n", b"'s", b"!", "é".encode(),
            "中".encode()]
    return [b"".join(rng.choice(bad if rng.random() < 0.4 else good)
                     for _ in range(rng.randint(1, 14))) for _ in range(STRINGS_EACH)]


# ---- the three tokenisers ----------------------------------------------------------------------

def hone_tokens(hone, path, text, special):
    command = [hone, "tokenize", "--model", path, "--json"] + (["--special"] if special else [])
    done = subprocess.run(command, input=text, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return json.loads(done.stdout)["tokens"]


def hone_many(hone, path, texts, special, separator):
    """All texts in one run, with a special token between them: it separates text wholly."""
    spelling, token = separator
    ids = hone_tokens(hone, path, b"".join(text + spelling.encode() for text in texts), special)
    lists = [[]]
    for i in ids:
        if i == token:
            lists.append([])
        else:
            lists[-1].append(i)
    assert len(lists) == len(texts) + 1 and not lists.pop()
    return lists


class Vocabulary:
    """A GGUF file's vocabulary with the peers that tokenise by it."""

    def __init__(self, path):
        self.fields = fields = gguf.GGUFReader(path).fields
        key = lambda name: fields.get("tokenizer.ggml." + name)
        read = lambda name: key(name).contents() if key(name) else None
        self.path, self.rule, self.model = path, read("pre"), read("model")
        self.tokens, self.types = read("tokens"), read("token_type")
        self.controls = [t for t, kind in zip(self.tokens, self.types) if kind == CONTROL]
        self.users = [t for t, kind in zip(self.tokens, self.types) if kind == USER]
        self.merges = [tuple(merge.split(" ")) for merge in read("merges") or []]
        self.missing = {character for character in pre_tokenizers.ByteLevel.alphabet()
                        if character not in set(self.tokens)}
        self.peer = hugging_face(self) if self.rule in RULES else None
        self.llama = llama_cpp.Llama(path, vocab_only=True, verbose=False)

    def separator(self, special):
        spelling = (self.controls if special else self.users)[0]
        return spelling, self.tokens.index(spelling)

    def by_llama(self, text, special):
        return self.llama.tokenize(text, add_bos=False, special=special)

    def by_tokenizers(self, text, special):
        self.peer.encode_special_tokens = not special
        return self.peer.encode(text, add_special_tokens=False).ids

    def lacks_a_byte_of(self, text):
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        return any(self.missing & set(spelt) for spelt, _ in byte_level.pre_tokenize_str(text))


def splitter(rule):
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False,
                                          use_regex=rule in ("smollm", "gpt-2"))
    first = {"smollm": pre_tokenizers.Digits(individual_digits=True),
             "gpt-2": None,
             "llama-bpe": pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
             "qwen2": pre_tokenizers.Split(Regex(QWEN2), "isolated")}[rule]
    return pre_tokenizers.Sequence([first, byte_level] if first else [byte_level])


def hugging_face(vocabulary):
    peer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(vocabulary.tokens)},
                                merges=vocabulary.merges,
                                ignore_merges=vocabulary.rule == "llama-bpe"))
    peer.pre_tokenizer = splitter(vocabulary.rule)
    peer.add_special_tokens([AddedToken(t, normalized=False) for t in vocabulary.controls])
    peer.add_tokens([AddedToken(t, normalized=False) for t in vocabulary.users])
    return peer


def train(rule, path):
    """A GGUF file with 3,000 tokens made from the strings above and Python's own library."""
    peer = Tokenizer(models.BPE())
    peer.pre_tokenizer = splitter(rule)
    library = pathlib.Path(os.__file__).parent
    corpus = [(library / name).read_text(encoding="utf-8")
              for name in ("argparse.py", "typing.py", "inspect.py")]
    corpus += [text for name in GENERATORS if name != "long words" for text in strings_of(name)]
    peer.train_from_iterator(corpus, trainers.BpeTrainer(
        vocab_size=3000, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    model = json.loads(peer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    merges = [" ".join(pair) for pair in model["merges"]]
    if rule == "llama-bpe":  # whole pieces that no merge makes: they are tokens all the same
        merges = [merge for i, merge in enumerate(merges) if i % 7]
    controls, users = ["<|end|>", "<|begin|>", "<pad>"], ["<|between|>", "<tool>", "<tool><tool>"]
    write_model(path, rule, tokens + controls + users, merges,
                [NORMAL] * len(tokens) + [CONTROL] * len(controls) + [USER] * len(users))
    return path


def write_model(path, rule, tokens, merges, kinds):
    def tokenizer(writer):
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(rule)
        writer.add_token_list(tokens)
        writer.add_token_types(kinds)
        writer.add_token_merges(merges)
        writer.add_bos_token_id(kinds.index(CONTROL))
        writer.add_eos_token_id(kinds.index(CONTROL))
        writer.add_add_bos_token(False)

    write_vocabulary(path, tokenizer, len(tokens))


def write_vocabulary(path, tokenizer, count):
    """The vocabulary on a llama as small as can be: loading it is not what is tested."""
    width = 32
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(width)
    writer.add_head_count(1)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    tokenizer(writer)
    writer.add_tensor("token_embd.weight", np.zeros((count, width), np.float32))
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(name + ".weight", np.ones(width, np.float32))
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        writer.add_tensor(f"blk.0.{name}.weight", np.zeros((width, width), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def train_sentencepiece(kind, **options):
    """A model of 2,500 tokens made from the strings above; characters that are rare are unknown."""
    kept = [name for name in GENERATORS
            if name not in ("long words", "controls", "spaces", "unicode")]
    lines = [line for name in kept for text in strings_of(name) for line in text.splitlines()]
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=made, model_type=kind, vocab_size=2500,
        character_coverage=0.99, minloglevel=2, user_defined_symbols=["<tool>", "<user>"],
        control_symbols=["<|end|>"], num_threads=1,
        hard_vocab_limit=kind != "unigram", **options)
    return made.getvalue()


def write_sentencepiece(path, model, stored):
    """What llama.cpp's converter makes of a sentencepiece model."""
    proto = sentencepiece_model_pb2.ModelProto.FromString(stored)
    normalizer = proto.normalizer_spec

    def tokenizer(writer):
        writer.add_tokenizer_model(model)
        writer.add_token_list([piece.piece for piece in proto.pieces])
        writer.add_token_scores([piece.score for piece in proto.pieces])
        writer.add_token_types([piece.type for piece in proto.pieces])
        writer.add_unk_token_id(0)
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_add_space_prefix(normalizer.add_dummy_prefix)
        writer.add_remove_extra_whitespaces(normalizer.remove_extra_whitespaces)
        if normalizer.precompiled_charsmap:
            writer.add_precompiled_charsmap(normalizer.precompiled_charsmap)

    write_vocabulary(path, tokenizer, len(proto.pieces))


@pytest.fixture(scope="session")
def reference(model):
    return Vocabulary(model)


@pytest.fixture(scope="session", params=RULES)
def trained(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("vocabulary") / f"{request.param}.gguf"
    return Vocabulary(train(request.param, str(path)))


@pytest.fixture(scope="session")
def across_words():
    """Tokens that span words, spaces and digits, so that each cut of a rule shows in the ids."""
    peer = Tokenizer(models.BPE())
    peer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r".{1,12}"), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    corpus = [text for name in GENERATORS if name != "long words" for text in strings_of(name)]
    peer.train_from_iterator(corpus, trainers.BpeTrainer(
        vocab_size=6000, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    model = json.loads(peer.to_str())["model"]
    merges = [" ".join(pair) for i, pair in enumerate(model["merges"]) if i % 7]
    return sorted(model["vocab"], key=model["vocab"].get), merges


@pytest.fixture(scope="session", params=LLAMA_RULES)
def ruled(request, across_words, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("vocabulary") / f"{request.param}.gguf")
    tokens, merges = across_words
    write_model(path, request.param, tokens + ["<|end|>"], merges,
                [NORMAL] * len(tokens) + [CONTROL])
    return Vocabulary(path)


# ---- tests -------------------------------------------------------------------------------------

def compare(hone, vocabulary, texts, special, separator):
    lists = hone_many(hone, vocabulary.path, [t.encode() for t in texts], special, separator)
    for text, ours in zip(texts, lists):
        assert ours == vocabulary.by_llama(text.encode(), special), ("llama.cpp", text)
        # Around a byte without a token, tokenizers merges what llama.cpp (and Hone) keeps apart.
        if not vocabulary.lacks_a_byte_of(text):
            assert ours == vocabulary.by_tokenizers(text, special), ("tokenizers", text)


@pytest.mark.parametrize("generator", GENERATORS)
def test_reference_vocabulary(hone, reference, generator):
    compare(hone, reference, strings_of(generator), True, reference.separator(True))


@pytest.mark.parametrize("generator", GENERATORS)
def test_trained_vocabulary(hone, trained, generator):
    compare(hone, trained, strings_of(generator), True, trained.separator(True))
    compare(hone, trained, strings_of(generator), False, trained.separator(False))


@pytest.mark.parametrize("generator", GENERATORS)
def test_rule_of_llama_cpp(hone, ruled, generator):
    texts = strings_of(generator)
    lists = hone_many(hone, ruled.path, [t.encode() for t in texts], True, ruled.separator(True))
    for text, ours in zip(texts, lists):
        assert ours == ruled.by_llama(text.encode(), True), text


def test_special_tokens_of_the_reference(hone, reference):
    first, *others = reference.controls
    compare(hone, reference, special_strings(others), True, (first, reference.tokens.index(first)))


def test_special_tokens_are_text_unless_asked_for(hone, reference):
    for text in reference.controls + special_strings(reference.controls)[-20:] + [""]:
        ours = hone_tokens(hone, reference.path, text.encode(), False)
        assert ours == reference.by_llama(text.encode(), False), text
        assert ours == reference.by_tokenizers(text, False), text


@pytest.mark.parametrize("special", [True, False])
def test_special_tokens_of_a_trained_vocabulary(hone, trained, special):
    separator = trained.separator(special)
    others = [t for t in trained.controls + trained.users if t != separator[0]]
    compare(hone, trained, special_strings(others), special, separator)


def alphabet():
    """GPT-2's: the byte that each character stands for."""
    visible = [b for b in range(256) if 33 <= b <= 126 or b >= 161 and b != 173]
    hidden = [b for b in range(256) if b not in visible]
    return {chr(b): b for b in visible} | {chr(256 + i): b for i, b in enumerate(hidden)}


def lost_bytes(vocabulary):
    return bytes(alphabet()[character] for character in vocabulary.missing)


def check_invalid(hone, vocabulary):
    """Pieces are llama.cpp's, which puts U+FFFD for a bad byte; Hone keeps the byte."""
    texts = invalid_strings()
    separator = vocabulary.separator(True)
    replaced = [text.decode("utf-8", "replace").encode() for text in texts]
    for text, ours in zip(texts, hone_many(hone, vocabulary.path, replaced, True, separator)):
        assert ours == vocabulary.by_llama(text, True), text
    byte_of, lost = alphabet(), lost_bytes(vocabulary)
    for text, ours in zip(texts, hone_many(hone, vocabulary.path, texts, True, separator)):
        kept = text.translate(None, delete=lost)
        assert bytes(byte_of[c] for i in ours for c in vocabulary.tokens[i]) == kept


def test_invalid_utf8_with_the_reference(hone, reference):
    check_invalid(hone, reference)


def test_invalid_utf8_with_a_trained_vocabulary(hone, trained):
    check_invalid(hone, trained)


# ---- the vocabularies of llama.cpp's package ---------------------------------------------------

@pytest.fixture(scope="session", params=PACKAGED)
def packaged(request):
    path = LLAMA_FILES / f"ggml-vocab-{request.param}.gguf"
    if not path.exists():
        pytest.skip(f"{path} is not there: scripts/interop-env fetches it")
    return Vocabulary(str(path))


def published_strings(vocabulary):
    """llama.cpp's own test strings for this vocabulary."""
    path = pathlib.Path(vocabulary.path + ".inp")
    return path.read_text("utf-8").split("\n__ggml_vocab_test__\n") if path.exists() else []


def bert_agrees(text):
    """Whether llama.cpp reads text as BERT's own tokeniser does, which Hone follows: it strips all
    marks, not only the non-spacing ones, keeps only the first part of what it decomposes, and takes
    control characters for white space."""
    decomposed = unicodedata.normalize("NFD", text)
    kinds = {unicodedata.category(c) for c in decomposed}
    return not kinds & {"Mc", "Me"} and not set(text) & set("\x0b\x0c\x85") and all(
        len(unicodedata.normalize("NFD", c)) == 1
        or all(unicodedata.category(d) == "Mn" for d in unicodedata.normalize("NFD", c)[1:])
        for c in text)


def has_overlap(text, specials):
    """Whether two special tokens overlap, as in "<a><b>" with "<a>" and "><b": then Hone, like
    tokenizers, takes the leftmost, and llama.cpp the longest."""
    spans = sorted((m.start(), m.start() + len(token)) for token in specials if token in text
                   for m in re.finditer(f"(?={re.escape(token)})", text))
    return any(a[0] < b[0] < a[1] < b[1] for a in spans for b in spans)


def packaged_strings(vocabulary, generator):
    if generator == "published":
        return published_strings(vocabulary)
    if generator != "specials":
        return strings_of(generator)
    if "phi-3" in vocabulary.path:  # by that name llama.cpp drops the spaces behind each
        return []
    specials = vocabulary.controls[1:] + vocabulary.users
    some = random.Random("packaged").sample(specials, min(40, len(specials)))
    # "." so that no text's end and the separator's begin are a token together.
    return [text + "." for text in special_strings(some) if not has_overlap(text, specials)]


@pytest.mark.parametrize("generator", ["published", "specials", *GENERATORS])
def test_packaged_vocabulary(hone, packaged, generator):
    texts = packaged_strings(packaged, generator)
    if packaged.model == "bert":
        texts = [text for text in texts if bert_agrees(text)]
    separator = packaged.separator(True)
    lists = hone_many(hone, packaged.path, [t.encode() for t in texts], True, separator)
    for text, ours in zip(texts, lists):
        assert ours == packaged.by_llama(text.encode(), True), text
    together = "\n".join(texts).encode()
    if together:
        ours = hone_tokens(hone, packaged.path, together, False)
        assert ours == packaged.by_llama(together, False)


def bert_peer(vocabulary):
    words = {t[1:] if t.startswith("\u2581") else t if kind == CONTROL else "##" + t: i
             for i, (t, kind) in enumerate(zip(vocabulary.tokens, vocabulary.types))}
    peer = Tokenizer(models.WordPiece(words, unk_token="[UNK]", max_input_chars_per_word=10**6))
    peer.normalizer = normalizers.BertNormalizer()
    peer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    peer.decoder = decoders.WordPiece()
    peer.add_special_tokens([AddedToken(t, normalized=False) for t in vocabulary.controls])
    return peer


def test_bert_vocabulary_as_tokenizers_has_it(hone, packaged):
    if packaged.model != "bert":
        pytest.skip("another model")
    peer = bert_peer(packaged)
    ours = hone_tokens(hone, packaged.path, " ".join(ENGLISH).encode(), True)
    assert hone_text(hone, packaged.path, ours, True).decode() == peer.decode(ours)
    separator = packaged.separator(True)
    for generator in GENERATORS:
        texts = strings_of(generator)
        lists = hone_many(hone, packaged.path, [t.encode() for t in texts], True, separator)
        for text, ours in zip(texts, lists):
            assert ours == peer.encode(text, add_special_tokens=False).ids, text


# ---- sentencepiece -----------------------------------------------------------------------------

PIECE_MODELS = {
    "bpe": ("llama", "bpe", dict(normalization_rule_name="identity", byte_fallback=True,
                                 remove_extra_whitespaces=False)),
    "bpe without bytes": ("llama", "bpe", dict(normalization_rule_name="identity",
                                               remove_extra_whitespaces=False)),
    "bpe without prefix": ("llama", "bpe", dict(normalization_rule_name="identity",
                                                byte_fallback=True, add_dummy_prefix=False,
                                                remove_extra_whitespaces=False)),
    "bpe across words": ("llama", "bpe", dict(normalization_rule_name="identity",
                                              byte_fallback=True, split_by_whitespace=False,
                                              remove_extra_whitespaces=False)),
    "unigram": ("t5", "unigram", dict()),
    "unigram unchanged": ("t5", "unigram", dict(normalization_rule_name="identity",
                                                remove_extra_whitespaces=False)),
}


@pytest.fixture(scope="session", params=PIECE_MODELS)
def pieces(request, tmp_path_factory):
    model, kind, options = PIECE_MODELS[request.param]
    stored = train_sentencepiece(kind, **options)
    path = str(tmp_path_factory.mktemp("pieces") / "pieces.gguf")
    write_sentencepiece(path, model, stored)
    vocabulary = Vocabulary(path)
    vocabulary.sentencepiece = sentencepiece.SentencePieceProcessor(model_proto=stored)
    vocabulary.has_bytes = "byte_fallback" in options
    return vocabulary


def are_tied(vocabulary, ours, theirs):
    """Whether two spellings are exactly as likely. Of such sentencepiece takes one by the rounding
    of its sums in single precision, llama.cpp and tokenizers the first that they come to."""
    def total(ids):
        return sum(fractions.Fraction(vocabulary.sentencepiece.get_score(i)) for i in ids)

    return vocabulary.model == "t5" and total(ours) == total(theirs)


@pytest.mark.parametrize("generator", GENERATORS)
def test_sentencepiece_model(hone, pieces, generator):
    texts = [text.replace("\0", "") for text in strings_of(generator)]  # NUL ends its words
    separator = "<|end|>", pieces.tokens.index("<|end|>")
    lists = hone_many(hone, pieces.path, [t.encode() for t in texts], True, separator)
    for text, ours in zip(texts, lists):
        theirs = pieces.sentencepiece.encode(text)
        assert ours == theirs or are_tied(pieces, ours, theirs), ("sentencepiece", text)
        if not text.strip(" "):
            continue  # llama.cpp puts no prefix before spaces alone
        if pieces.model == "t5" or pieces.has_bytes:  # else it fails for want of a byte
            assert ours == pieces.by_llama(text.encode(), True), ("llama.cpp", text)


def test_special_tokens_of_a_sentencepiece_model(hone, pieces):
    if pieces.model != "t5" and not pieces.has_bytes:
        pytest.skip("llama.cpp fails for want of a byte")
    for special in (True, False):
        for text in special_strings(pieces.controls + pieces.users)[:10]:
            ours = hone_tokens(hone, pieces.path, text.encode(), special)
            assert ours == pieces.by_llama(text.encode(), special), (text, special)


# ---- back to text ------------------------------------------------------------------------------

def hone_text(hone, path, tokens, special):
    command = [hone, "tokenize", "--model", path, "--decode"] + (["--special"] if special else [])
    done = subprocess.run(command, input=json.dumps(tokens).encode(), capture_output=True,
                          timeout=120)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout


def check_round_trip(hone, vocabulary, text):
    """All bytes come back but those that a vocabulary of bytes has no token for."""
    lost = lost_bytes(vocabulary) if vocabulary.model == "gpt2" else b""
    # Spelled like an added token that means that letter; only bytes that no UTF-8 has.
    text = text.translate(None, delete=bytes(alphabet()[t] for t in vocabulary.users
                                             if vocabulary.model == "gpt2" and t in alphabet()))
    ours = hone_tokens(hone, vocabulary.path, text, True)
    assert hone_text(hone, vocabulary.path, ours, True) == text.translate(None, delete=lost)


def test_text_comes_back(hone, packaged):
    if packaged.model not in ("gpt2", "llama"):
        pytest.skip("what normalisation takes away does not come back")
    texts = [text for generator in GENERATORS for text in strings_of(generator)]
    check_round_trip(hone, packaged, "\n".join(texts).encode())
    check_round_trip(hone, packaged, b"\n".join(invalid_strings()))


def test_text_of_a_sentencepiece_model_comes_back(hone, pieces):
    for generator in ("english", "code", "chinese", "emoji", "unicode"):
        text = " ".join(strings_of(generator))
        ours = hone_tokens(hone, pieces.path, text.encode(), False)
        assert hone_text(hone, pieces.path, ours, False).decode() == \
            pieces.sentencepiece.decode(ours).replace(" \u2047 ", "")
        if pieces.has_bytes:
            check_round_trip(hone, pieces, text.encode())
