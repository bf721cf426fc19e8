# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning: hone_finetune with keyword options and events as objects."""
from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Callable, List, Optional, Sequence, Tuple, TypedDict, Union

from ._events import Done, Event, from_event
from ._library import ArgumentError, Context, Interrupted, ffi, lib, path

if TYPE_CHECKING:
    from typing_extensions import Unpack

Path = Union[str, "os.PathLike[str]"]
Data = Union[Path, Tuple[Path, float]]


class Options(TypedDict, total=False):
    """Options of a run, by the names of HoneFinetuneOptions and HoneDataOptions in include/hone, where each
    is explained; what is left out has the default that stands there."""

    eval_data: Path
    eval_split: float
    task: str  # of an encoder: "classify"
    labels: str
    method: str  # "lora", "full", "dora"
    rank: int
    alpha: float
    dropout: float
    targets: str
    layers: int
    rslora: bool
    save_modules: str
    adapter: Path
    epochs: float
    steps: int
    batch: int
    batch_tokens: int
    accumulate: int
    checkpoint_layers: int
    memory: int  # bytes
    lr: float
    optimizer: str  # "adamw", "adamw8bit", "adafactor", "sgd", "muon"
    schedule: str  # "cosine", "linear", "constant", "wsd", "inverse_sqrt"
    loss: str  # "tokens", "dpo", "orpo", "distill"
    beta: float
    teacher: Path
    temperature: float
    teacher_share: float
    decay: float
    momentum: float
    z_loss: float
    label_smoothing: float
    router_loss: float
    gradient_penalty: float
    log_norms: int
    sample: str
    warmup: float
    weight_decay: float
    clip: float
    beta1: float
    beta2: float
    eps: float
    shuffle: bool
    group_prefixes: bool
    precision: str  # "auto", "f32", "bf16"
    type: str
    template_path: Path
    seed: int
    eval_every: int
    checkpoint_every: str
    keep_best: bool
    patience: int
    skip_spikes: float
    resume: Path
    resume_changed: bool
    overwrite: bool
    dry_run: bool
    max_length: int
    stride: int
    loss_on: str  # "auto", "assistant", "completion", "all"
    skip_bad: bool
    no_eos: bool
    now: int


# Set otherwise: the arguments of finetune() itself, and what follows from them.
APART = {"model", "out", "data", "data_count", "examples", "pairs"}
DATA_APART = APART | {"labels", "label_count", "unlabelled"}  # labels are the run's


def _enum(kind: Any, name: str, value: str) -> int:
    """"lora" of HoneMethod is HONE_METHOD_LORA."""
    numbers = {word[len("HONE_"):].lower(): number for number, word in kind.elements.items()}
    wanted = str(value).lower().replace("-", "_")
    for prefix in ("", f"{name}_", "loss_"):
        if prefix + wanted in numbers:
            return int(numbers[prefix + wanted])
    known = sorted(word.split(f"{name}_")[-1].replace("loss_", "") for word in numbers)
    raise ArgumentError(f"{name} is {value!r}, want one of {', '.join(known)}")


def fill(struct: Any, options: "dict[str, Any]", kept: List[Any]) -> None:
    """Set the fields of a struct by name; kept: what must live as long as it."""
    kind = ffi.typeof(struct)
    fields = {name: field.type for name, field in
              (kind.item if kind.kind == "pointer" else kind).fields}
    for name, value in options.items():
        kind = fields.get(name)
        if kind is None or name in APART or (kind.kind == "pointer" and kind.item.kind != "primitive"):
            raise ArgumentError(f"there is no option {name!r}")
        if value is None:
            continue
        if kind.kind == "enum":
            value = _enum(kind, name, value)
        elif kind.kind == "pointer":
            kept.append(ffi.new("char[]", path(value)))
            value = kept[-1]
        try:
            setattr(struct, name, value)
        except (TypeError, OverflowError) as error:
            raise ArgumentError(f"{name} is {value!r}: {error}") from None


def _sources(data: Union[Data, Sequence[Data]], kept: List[Any]) -> "tuple[Any, int]":
    weighted = isinstance(data, tuple) and len(data) == 2 and isinstance(data[1], (int, float))
    if weighted or isinstance(data, (str, os.PathLike)):
        data = [data]  # type: ignore[list-item]
    sources = ffi.new("HoneDataSource[]", len(data))
    kept.append(sources)
    for source, entry in zip(sources, data):
        name, source.weight = entry if isinstance(entry, tuple) else (entry, 1.0)
        kept.append(ffi.new("char[]", path(name)))  # type: ignore[arg-type]
        source.path = kept[-1]
    return sources, len(data)


class _Sink:
    """The library's calls during a run, given on. What Python raises in one of them, an interrupt from the
    keyboard among it, stops the run, and is raised again once a checkpoint is written."""

    def __init__(self, on_event: Optional[Callable[[Event], Optional[bool]]]) -> None:
        self.on_event = on_event
        self.raised: Optional[BaseException] = None
        self.done: Optional[Done] = None
        self.callback = ffi.callback("bool(void *, HoneEvent *)", self._call, error=False,
                                     onerror=self._failed)

    def _failed(self, _kind: Any, raised: BaseException, _traceback: Any) -> None:
        if self.raised is None:
            self.raised = raised

    def _call(self, _user: Any, event: Any) -> bool:
        made = from_event(event)
        if isinstance(made, Done):
            self.done = made
        if self.on_event is None or self.raised is not None:
            return self.raised is None
        return self.on_event(made) is not False


def finetune(model: Path, data: Union[Data, Sequence[Data]], out: Optional[Path] = None, *,
             on_event: Optional[Callable[[Event], Optional[bool]]] = None, threads: int = 0,
             isa: Optional[str] = None, **options: "Unpack[Options]") -> Optional[Done]:
    """Fine-tune a model as `hone finetune` does, and return what came of it.

    model: a GGUF file, a Hugging Face folder, or OWNER/NAME that was pulled. data: a file of examples, a
    (file, weight) pair, or a list of these. out: the folder of the run, which need not be there.

    on_event is called with a Plan, and then a Step, HeldOut, Progress, Checkpoint, Note, Sample or Done for
    each thing that happens, in this thread. When it returns False the run stops, with its checkpoint
    written, and Done.interrupted is True. So it does on an exception in it and on Ctrl-C, which are raised
    again then; `resume=out` goes on. With dry_run=True only the plan is made, and None is returned.

    Raises ArgumentError, InputError, UnsupportedError, FileError, OutOfMemoryError or NumericError with the
    library's message."""
    kept: List[Any] = []
    run = ffi.new("HoneFinetuneOptions *")
    lib.hone_finetune_defaults(run)
    others: Any = dict(options)
    examples = {name for name, _ in ffi.typeof("HoneDataOptions").fields} - DATA_APART
    fill(run.examples, {name: others.pop(name) for name in examples & set(others)}, kept)
    fill(run, others, kept)
    kept += [ffi.new("char[]", path(model)), ffi.new("char[]", path(out)) if out else ffi.NULL]
    run.model, run.out = kept[-2:]
    if not out and not run.dry_run:
        raise ArgumentError("out is not given: the folder for the results")
    run.data, run.data_count = _sources(data, kept)
    sink = _Sink(on_event)
    context = Context(threads, isa)
    try:
        status = lib.hone_finetune(context.handle, run, sink.callback, ffi.NULL)
        if sink.raised is not None:
            raise sink.raised
        try:
            context.check(status)
        except Interrupted:
            if sink.done is None:  # stopped before there was anything to keep
                raise
        return sink.done
    finally:
        context.close()
