# SPDX-License-Identifier: Apache-2.0
"""Models: loaded, asked, measured, with and without adapters."""
from __future__ import annotations

import codecs
import contextlib
import dataclasses
from typing import (TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence,
                    Tuple, Union)

from ._events import from_struct
from ._finetune import Path, fill
from ._library import ArgumentError, Context, ffi, lib, path, text

if TYPE_CHECKING:
    from types import TracebackType

Adapter = Union[Path, Tuple[Path, float]]


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """What is known of a model; the fields of HoneModelInfo."""

    path: str
    architecture: str
    name: str
    weight_types: str
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    channels: int
    feed_forward: int
    vocabulary: int
    context: int
    parameters: int
    file_bytes: int
    tied_head: bool
    has_template: bool
    tokenizer: str
    pre_tokenizer: str


@dataclasses.dataclass(frozen=True)
class Generated:
    """An answer: its text without the end token, and its tokens."""

    text: str
    tokens: List[int]
    prompt_tokens: int
    ended: bool  # an end token was drawn; else max_tokens or the context was reached, or it was stopped
    prompt_seconds: float
    seconds: float


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """One example: its mean loss, and the log-probability of each token that counts."""

    line: int
    loss: float
    targets: int
    tokens: List[int]
    logprobs: List[float]
    generated: Optional[str]
    answer: Optional[str]
    exact: bool


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Of a file: means over all tokens that count; exact_match is -1 unless answers were generated."""

    loss: float
    perplexity: float
    accuracy: float
    tokens: int
    examples: int
    exact_match: float
    seconds: float
    each: List[Evaluated]


class _TokenSink:
    """Text as it comes, whole characters at a time; ends the answer on False and on an exception."""

    def __init__(self, on_text: Optional[Callable[[str], Optional[bool]]]) -> None:
        self.on_text = on_text
        self.raised: Optional[BaseException] = None
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.callback = ffi.callback("bool(void *, int32_t, char *, size_t)", self._call,
                                     error=False, onerror=self._failed)

    def _failed(self, _kind: Any, raised: BaseException, _traceback: Any) -> None:
        if self.raised is None:
            self.raised = raised

    def _call(self, _user: Any, _token: int, data: Any, length: int) -> bool:
        piece = self.decoder.decode(ffi.unpack(data, length) if length else b"")
        if self.on_text is None or not piece:
            return True
        return self.on_text(piece) is not False


class Model:
    """A model from a GGUF file or a Hugging Face folder, its weights mapped and left as they are stored.

    adapter: a PEFT or MLX-LM folder or a GGUF adapter, an (adapter, weight) pair, or a list of these.
    close(), or leaving a `with` block, frees it; else the garbage collector does. Threads may share a
    model: they wait for each other."""

    def __init__(self, name: Path, *,
                 adapter: Union[None, Adapter, Sequence[Adapter]] = None,
                 template: Optional[Path] = None, threads: int = 0,
                 isa: Optional[str] = None) -> None:
        self._context = Context(threads, isa)
        self._generator: Any = ffi.NULL
        self._busy = False
        made = ffi.new("HoneModel **")
        self._context.check(lib.hone_model_load(self._context.handle, path(name), made))
        self._model = ffi.gc(made[0], lib.hone_model_free)
        if template is not None:
            self._context.check(lib.hone_model_set_template(self._model, path(template)))
        if adapter is None:
            return
        pair = isinstance(adapter, tuple) and len(adapter) == 2 and isinstance(adapter[1], (int, float))
        one = pair or not isinstance(adapter, (list, tuple))
        several: Any = [adapter] if one else adapter
        for entry in several:
            self.add_adapter(*(entry if isinstance(entry, tuple) else (entry,)))

    # ---- its life ------------------------------------------------------------------------------

    def close(self) -> None:
        """Free the model; calling anything but close() afterwards raises ArgumentError."""
        with self._context.lock:
            if self._busy:
                raise ArgumentError("the model is at work: it cannot be closed by what it calls")
            for handle in (self._generator, self._model):
                if handle:
                    ffi.release(handle)
            self._generator = self._model = ffi.NULL
            self._context.close()

    def __enter__(self) -> "Model":
        return self

    def __exit__(self, kind: Any, value: Any, traceback: "Optional[TracebackType]") -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_model"):
            self.close()

    @contextlib.contextmanager
    def _use(self) -> Iterator[Any]:
        with self._context.lock:
            if not self._model:
                raise ArgumentError("the model is closed")
            if self._busy:
                raise ArgumentError("the model is at work: it cannot be used by what it calls")
            yield self._model

    @contextlib.contextmanager
    def _at_work(self) -> Iterator[Any]:
        """While the library may call Python."""
        with self._use() as model:
            self._busy = True
            try:
                yield model
            finally:
                self._busy = False

    @property
    def info(self) -> ModelInfo:
        with self._use() as model:
            info = ffi.new("HoneModelInfo *")
            lib.hone_model_info(model, info)
            return from_struct(ModelInfo, info)

    def __repr__(self) -> str:
        if not self._model:
            return "<hone.Model, closed>"
        info = self.info
        return f"<hone.Model {info.name}: {info.architecture}, {info.parameters / 1e6:.1f} M>"

    # ---- adapters ------------------------------------------------------------------------------

    def add_adapter(self, adapter: Path, weight: float = 1.0) -> None:
        """Apply an adapter, beside those that are there."""
        with self._use() as model:
            self._forget()
            self._context.check(lib.hone_model_add_adapter(model, path(adapter), weight))

    @contextlib.contextmanager
    def without_adapters(self) -> Iterator["Model"]:
        """The model as it was before its adapters, for the length of a `with` block."""
        with self._use() as model:
            self._forget()
            lib.hone_model_enable_adapters(model, False)
            try:
                yield self
            finally:
                if self._model:
                    self._forget()
                    lib.hone_model_enable_adapters(model, True)

    def _forget(self) -> None:
        """Keys and values of a conversation are those of other weights."""
        if self._generator:
            ffi.release(self._generator)
        self._generator = ffi.NULL

    # ---- text and tokens -----------------------------------------------------------------------

    def tokenize(self, string: Union[str, bytes], special: bool = False) -> List[int]:
        """Tokens of a text; special: control tokens that it spells out are these. None is added."""
        data = string.encode() if isinstance(string, str) else string
        with self._use() as model:
            tokens, count = ffi.new("int32_t **"), ffi.new("int64_t *")
            self._context.check(lib.hone_model_tokenize(model, data, len(data), special, tokens, count))
            try:
                return ffi.unpack(tokens[0], count[0]) if count[0] else []
            finally:
                lib.hone_free(tokens[0])

    def detokenize(self, tokens: Sequence[int], special: bool = False) -> str:
        """The text of tokens; special: control tokens are spelled out."""
        with self._use() as model:
            made, length = ffi.new("char **"), ffi.new("size_t *")
            self._context.check(lib.hone_model_detokenize(model, _tokens(tokens), len(tokens), special,
                                                          made, length))
            try:
                return ffi.unpack(made[0], length[0]).decode("utf-8", "replace") if length[0] else ""
            finally:
                lib.hone_free(made[0])

    # ---- answers -------------------------------------------------------------------------------

    def generate(self, prompt: str, *, on_text: Optional[Callable[[str], Optional[bool]]] = None,
                 **sampling: Any) -> Generated:
        """Continue a text. on_text is called with each piece of the answer as it comes, and ends it by
        returning False.

        sampling: max_tokens (256), temperature, top_p, top_k, seed (0), context. What is left out of
        temperature, top_p and top_k is what the model's own file says, else greedy."""
        data = prompt.encode()
        return self._answer(lib.hone_generate_text, data, len(data), sampling, on_text)

    def chat(self, messages: Union[str, Sequence[Mapping[str, str]]], *,
             on_text: Optional[Callable[[str], Optional[bool]]] = None, **sampling: Any) -> Generated:
        """Answer a conversation, {"role", "content"} each, through the model's chat template; a string is
        the user's one message. Going on with a conversation computes only what is new. sampling as in
        generate()."""
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        kept = [[ffi.new("char[]", message[name].encode()) for name in ("role", "content")]
                for message in messages]
        array = ffi.new("HoneMessage[]", kept)
        return self._answer(lib.hone_generate_chat, array, len(kept), sampling, on_text)

    def _answer(self, function: Any, what: Any, count: int, sampling: Dict[str, Any],
                on_text: Optional[Callable[[str], Optional[bool]]]) -> Generated:
        sink, result = _TokenSink(on_text), ffi.new("HoneGenerated *")
        with self._at_work() as model:
            drawn = ffi.new("HoneSampling *")
            lib.hone_model_sampling(model, drawn)
            fill(drawn, sampling, [])
            if not self._generator:
                made = ffi.new("HoneGenerator **")
                self._context.check(lib.hone_generator_create(model, made))
                self._generator = ffi.gc(made[0], lib.hone_generator_free)
            status = function(self._generator, what, count, drawn, sink.callback, ffi.NULL, result)
            try:
                if sink.raised is not None:
                    raise sink.raised
                self._context.check(status)
                tokens = ffi.unpack(result.tokens, result.count) if result.count else []
                return from_struct(Generated, result, tokens=tokens)
            finally:
                lib.hone_free(result.text)
                lib.hone_free(result.tokens)

    # ---- measures ------------------------------------------------------------------------------

    def log_probabilities(self, tokens: Union[str, Sequence[int]]) -> List[float]:
        """ln p of each token given those before it, from the second on. A text becomes its tokens as
        tokenize(text, special=True) has them."""
        if isinstance(tokens, str):
            tokens = self.tokenize(tokens, special=True)
        with self._use() as model:
            made = ffi.new("float[]", max(len(tokens) - 1, 1))
            self._context.check(lib.hone_log_probabilities(model, _tokens(tokens), len(tokens), made))
            return list(ffi.unpack(made, len(tokens) - 1))

    def evaluate(self, data: Path, *, generate: bool = False, max_tokens: int = 0, limit: int = 0,
                 **options: Any) -> Evaluation:
        """Loss, perplexity and accuracy on a file of examples, as `hone eval`; generate: answers too.
        options: max_length, stride, loss_on, skip_bad, no_eos, as in finetune()."""
        kept: List[Any] = []
        examples = ffi.new("HoneDataOptions *")
        fill(examples, options, kept)
        wanted = ffi.new("HoneEvaluateOptions *", {"logprobs": True, "generate": generate,
                                                   "max_tokens": max_tokens, "limit": limit})
        each: List[Evaluated] = []
        raised: List[BaseException] = []

        def failed(_kind: Any, error: BaseException, _traceback: Any) -> None:
            raised.append(error)

        def measured(_user: Any, one: Any) -> bool:
            count = one.targets
            each.append(from_struct(
                Evaluated, one, tokens=ffi.unpack(one.tokens, count) if count else [],
                logprobs=ffi.unpack(one.logprobs, count) if count else [],
                generated=text(one.generated) if one.generated else None,
                answer=text(one.answer) if one.answer else None))
            return True

        sink = ffi.callback("bool(void *, HoneEvaluated *)", measured, error=False, onerror=failed)
        with self._at_work() as model:
            read, result = ffi.new("HoneData **"), ffi.new("HoneEvaluation *")
            self._context.check(lib.hone_data_read(model, path(data), examples, read))
            try:
                status = lib.hone_evaluate(model, read[0], wanted, sink, ffi.NULL, result)
                if raised:
                    raise raised[0]
                self._context.check(status)
            finally:
                lib.hone_data_free(read[0])
            return from_struct(Evaluation, result, each=each)


def _tokens(tokens: Sequence[int]) -> Any:
    try:
        return ffi.new("int32_t[]", list(tokens))
    except (OverflowError, TypeError) as error:
        raise ArgumentError(f"tokens are whole numbers: {error}") from None
