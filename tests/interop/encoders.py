# SPDX-License-Identifier: Apache-2.0
"""Tiny random encoders: transformers makes and saves them, with a WordPiece vocabulary of their own."""
import dataclasses
import functools
import json
import math

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEXTS = ["The lighthouse keeper counted the boats each evening.", "a", "", "Naïve café, 3.14 — ok?",
         "One two three four five six seven eight nine ten. " * 4, "Das Licht ging aus!",
         "counting boats and counting lights", "[MASK] boats", "x" * 120, "日本 語 text"]


@functools.lru_cache # the trainer numbers equally frequent pieces anew each time
def tokenizer_of(vocabulary, lowercase=True):
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=vocabulary, show_progress=False,
                                        special_tokens=SPECIAL)
    made.train_from_iterator(TEXTS * 2, trainer)
    ids = [(name, made.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids)
    return transformers.BertTokenizerFast(tokenizer_object=made, do_lower_case=lowercase)


@dataclasses.dataclass(frozen=True)
class Encoder:
    layers: int
    width: int
    heads: int
    feed: int
    vocabulary: int = 90
    context: int = 64
    lowercase: bool = True
    options: dict = dataclasses.field(default_factory=dict)

    def tokenizer(self):
        return tokenizer_of(self.vocabulary, self.lowercase)

    def model(self, kind="Model", **options):
        config = transformers.BertConfig(
            vocab_size=len(self.tokenizer()), hidden_size=self.width, num_hidden_layers=self.layers,
            num_attention_heads=self.heads, intermediate_size=self.feed,
            max_position_embeddings=self.context, **{**self.options, **options})
        torch.manual_seed(0)
        model = getattr(transformers, f"Bert{kind}")(config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                values = torch.randn(parameter.shape, dtype=torch.float32)
                if parameter.ndim == 1:
                    bias = name.endswith(".bias")
                    parameter.copy_(0.2 * values + (0 if bias else 1))
                else:
                    table = "embeddings" in name
                    parameter.copy_(values * (0.5 if table else 1 / math.sqrt(parameter.shape[1])))
        return model.eval()

    def save(self, folder, kind="Model", **options):
        self.model(kind, **options).save_pretrained(folder)
        self.tokenizer().save_pretrained(folder)
        return folder


SHAPES = {
    "plain": Encoder(2, 36, 3, 50),
    "cased": Encoder(3, 32, 4, 44, vocabulary=120, lowercase=False),
    "one type": Encoder(1, 24, 1, 30, options={"type_vocab_size": 1, "layer_norm_eps": 1e-5}),
}


def add_modules(folder, pooling, normalize, length=None):
    """What sentence-transformers puts beside a model."""
    modules = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
               {"idx": 1, "name": "1", "path": "1_Pooling",
                "type": "sentence_transformers.models.Pooling"}]
    if normalize:
        modules.append({"idx": 2, "name": "2", "path": "2_Normalize",
                        "type": "sentence_transformers.models.Normalize"})
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    keys = {"mean": "mean_tokens", "cls": "cls_token", "max": "max_tokens"}
    config = {f"pooling_mode_{keys[way]}": way == pooling for way in keys}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(config))
    if length:
        (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": length}))


def pooled(hidden, pooling):
    """(T, C) of one text, all tokens counted."""
    return {"mean": lambda: hidden.mean(0), "cls": lambda: hidden[0],
            "max": lambda: hidden.max(0).values}[pooling]()


def vectors(model, tokenizer, texts, pooling, normalize, length):
    """Each text alone, in double."""
    made = []
    with torch.no_grad():
        for text in texts:
            ids = tokenizer(text, truncation=True, max_length=length).input_ids
            vector = pooled(model(torch.tensor([ids])).last_hidden_state[0], pooling)
            made.append(torch.nn.functional.normalize(vector, dim=0) if normalize else vector)
    return torch.stack(made).numpy()
