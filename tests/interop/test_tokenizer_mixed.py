# SPDX-License-Identifier: Apache-2.0
"""Published vocabularies on long mixed text, id for id: languages, code, emoji, digits, white space,
control characters, bytes that are not UTF-8, and every added token.

HONE_TOKENIZER_BYTES says how much text for each vocabulary (200,000 unless it is set).
"""
import os
import pathlib
import random
import time

import pytest

from test_tokenizer import (GENERATORS, LLAMA_FILES, PACKAGED, Vocabulary, bert_peer, has_overlap, hone_many,
                            invalid_strings)

BYTES = int(os.environ.get("HONE_TOKENIZER_BYTES", 200_000))

SENTENCES = [
    "The adapter is small, but what it learnt isn't: we've measured it twice.",
    "Das Wörterbuch enthält die größten Übersetzungen; „Straße“ schreibt man mit ß.",
    "L'été dernier, elle a goûté à l'œuvre d'un poète: «ça alors!»",
    "¿Dónde está la señora Muñoz? ¡Mañana vendrá el pingüino!",
    "Zażółć gęślą jaźń, a potem wypij źródlaną wodę.",
    "Příliš žluťoučký kůň úpěl ďábelské ódy.",
    "Съешь ещё этих мягких французских булок, да выпей чаю.",
    "Η γρήγορη αλεπού πηδάει πάνω από το τεμπέλικο σκυλί.",
    "النموذج اللغوي يتعلم من النصوص، ثم يجيب عن الأسئلة ١٢٣.",
    "המודל קורא את הטקסט ומשיב על שאלות ב־2024.",
    "भाषा का प्रतिरूप पाठ से सीखता है, फिर उत्तर देता है।",
    "ভাষার মডেল পাঠ্য থেকে শেখে এবং উত্তর দেয়।",
    "மொழி மாதிரி உரையிலிருந்து கற்கிறது.",
    "แบบจำลองภาษาเรียนรู้จากข้อความแล้วตอบคำถาม",
    "言語モデルは文章から学び、質問に答えます。カタカナもあります！",
    "语言模型从文本中学习，然后回答问题。第３版，共１２０页。",
    "언어 모델은 글에서 배우고 질문에 답합니다. 그리고 2024년입니다.",
    "Ngôn ngữ tiếng Việt có nhiều dấu: ắ ằ ẳ ẵ ặ ế ề ể ễ ệ.",
    "Yapay zekâ İstanbul'da, ığdır'da ve çeşitli şehirlerde öğreniyor.",
    "ენის მოდელი ტექსტიდან სწავლობს. Հայերեն տեքստ։",
    "SELECT name, count(*) FROM packages WHERE size > 10240 GROUP BY name ORDER BY 2 DESC;",
    "if (x[i] != 0xDEADBEEF && ++n < 1e-5f) { return (void *)&p->next; } // TODO: 42",
    "\tfor key, value in sorted(table.items()):\n\t\tprint(f\"{key:>12}: {value!r}\")\n",
    "https://example.org/a_b/c-d?e=1&f=%20#g <p class=\"x\">&nbsp;</p> user@host.net",
]


def texts_of(seed, specials):
    rng = random.Random(f"mixed {seed}")
    makers = list(GENERATORS.values()) + 6 * [lambda rng: rng.choice(SENTENCES)]
    waiting = list(specials)
    rng.shuffle(waiting)
    texts, size = [], 0
    while size < BYTES or waiting:
        parts = [rng.choice(makers)(rng) for _ in range(rng.randint(1, 8))]
        for _ in range(rng.randint(0, 3) if specials else 0):
            token = waiting.pop() if waiting else rng.choice(specials)
            parts.insert(rng.randint(0, len(parts)), token)
        text = rng.choice(["", " ", "\n"]).join(parts) + "."
        if has_overlap(text, specials):
            continue
        texts.append(text)
        size += len(text.encode())
    return texts


@pytest.fixture(scope="module", params=["reference", *PACKAGED])
def published(request, model):
    path = LLAMA_FILES / f"ggml-vocab-{request.param}.gguf"
    if request.param == "reference":
        path = pathlib.Path(model)
    if not path.exists():
        pytest.skip(f"{path} is not there: scripts/interop-env fetches it")
    return request.param, Vocabulary(str(path))


def specials_of(name, vocabulary):
    if name == "phi-3":  # by that name llama.cpp drops the spaces behind each
        return []
    return [token for token in vocabulary.controls[1:] + vocabulary.users if token]


def test_mixed_text(hone, published, record_property):
    name, vocabulary = published
    texts = texts_of(name, specials_of(name, vocabulary))
    began = time.monotonic()
    lists = hone_many(hone, vocabulary.path, [t.encode() for t in texts], True,
                      vocabulary.separator(True))
    seconds = time.monotonic() - began
    # llama.cpp's reading of BERT's rules is its own; Hone follows BERT's tokeniser.
    peer = bert_peer(vocabulary) if vocabulary.model == "bert" else None
    tokens = 0
    for text, ours in zip(texts, lists):
        tokens += len(ours)
        if peer:
            assert ours == peer.encode(text, add_special_tokens=False).ids, text
        else:
            assert ours == vocabulary.by_llama(text.encode(), True), text
    size = sum(len(text.encode()) for text in texts)
    print(f"\n{name}: {len(texts)} texts, {size} bytes, {tokens} tokens equal; hone {seconds:.1f} s")
    record_property("bytes", size)


def test_bytes_that_are_not_text(hone, published):
    """In the peers each is U+FFFD; Hone cuts the text at the same places and keeps the bytes."""
    name, vocabulary = published
    if vocabulary.model != "gpt2":
        pytest.skip("what a bad byte becomes is each library's own")
    texts = invalid_strings()
    replaced = [text.decode("utf-8", "replace").encode() for text in texts]
    lists = hone_many(hone, vocabulary.path, replaced, True, vocabulary.separator(True))
    for text, ours in zip(texts, lists):
        assert ours == vocabulary.by_llama(text, True), text
