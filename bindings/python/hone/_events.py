# SPDX-License-Identifier: Apache-2.0
"""What a run tells while it goes on; the fields are those of include/hone/finetune.h."""
from __future__ import annotations

import dataclasses
from typing import Any, List, Type, TypeVar, Union

from ._library import ffi, lib, text


@dataclasses.dataclass(frozen=True)
class FirstExample:
    """The first training example as the model sees it."""

    text: str
    tokens: List[int]
    mask: List[bool]  # True: this token is learnt
    line: int


@dataclasses.dataclass(frozen=True)
class Plan:
    """Before the first step: what will be done."""

    model_name: str
    method: str
    model_parameters: int
    trainable: int
    trained_tensors: int
    train_examples: int
    eval_examples: int
    skipped: int
    cut: int
    conversations: int
    unended: int
    first_skipped: str
    translates: bool
    has_template: bool
    tokens: int
    tokens_computed: int
    targets: int
    longest: int
    length_width: int
    lengths: List[int]
    duplicates: int
    steps: int
    batch: int
    batch_tokens: int
    accumulate: int
    layers: int
    checkpoint_layers: int
    step_tokens: float
    epochs: float
    lr: float
    minutes: float
    passes: int
    operations: float
    warmup_steps: int
    memory_bytes: int
    model_bytes: int
    state_bytes: int
    activation_bytes: int
    memory_limit: int
    isa: str
    threads: int
    targets_text: str
    example: FirstExample


@dataclasses.dataclass(frozen=True)
class Step:
    """After every step."""

    step: int
    steps: int
    loss: float
    lr: float
    grad_norm: float
    tokens: int
    tokens_computed: int
    tokens_per_s: float
    seconds: float
    seconds_left: float
    rss_bytes: int
    rss_anon_bytes: int
    rss_mapped_bytes: int
    epoch: float
    skipped: bool


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """A measured held-out loss; step 0: before the first. preferred is NaN without pairs, accuracy and f1
    without classes."""

    step: int
    loss: float
    perplexity: float
    preferred: float
    accuracy: float
    f1: float
    tokens: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class Progress:
    """Held-out examples measured, of all."""

    done: int
    total: int


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A checkpoint was written to this folder."""

    folder: str


@dataclasses.dataclass(frozen=True)
class Note:
    """Something the person should know."""

    text: str


@dataclasses.dataclass(frozen=True)
class Sample:
    """What the model makes of the prompt that was asked for."""

    step: int
    prompt: str
    text: str


@dataclasses.dataclass(frozen=True)
class Done:
    """The end: what came of it. The held-out losses are NaN when there are none."""

    steps: int
    loss_first: float
    loss_last: float
    seconds: float
    rss_peak_bytes: int
    files: List[str]
    interrupted: bool
    best_step: int
    skipped: int


Event = Union[Plan, Step, HeldOut, Progress, Checkpoint, Note, Sample, Done]
Fields = TypeVar("Fields")


def from_struct(kind: Type[Fields], struct: Any, **others: Any) -> Fields:
    """A dataclass of a struct's fields of the same names, but for the others."""
    values = dict(others)
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        if field.name not in values:
            value = getattr(struct, field.name)
            values[field.name] = text(value) if isinstance(value, ffi.CData) else value
    return kind(**values)


def _plan(plan: Any) -> Plan:
    example = plan.example
    count = example.count
    first = FirstExample(text(example.text), ffi.unpack(example.tokens, count) if count else [],
                         [bool(learnt) for learnt in ffi.unpack(example.mask, count)]
                         if count else [], example.line)
    return from_struct(Plan, plan, lengths=list(plan.lengths[0:plan.length_buckets]), example=first)


def from_event(event: Any) -> Event:
    """The Python object of a HoneEvent; nothing in it points into the library."""
    kind, of = event.kind, getattr(event, "as")
    if kind == lib.HONE_EVENT_PLAN:
        return _plan(of.plan)
    if kind == lib.HONE_EVENT_STEP:
        return from_struct(Step, of.step)
    if kind == lib.HONE_EVENT_EVAL:
        return from_struct(HeldOut, of.eval)
    if kind == lib.HONE_EVENT_PROGRESS:
        return from_struct(Progress, of.progress)
    if kind == lib.HONE_EVENT_CHECKPOINT:
        return Checkpoint(text(of.text))
    if kind == lib.HONE_EVENT_SAMPLE:
        return from_struct(Sample, of.sample)
    if kind == lib.HONE_EVENT_DONE:
        files = [text(of.done.files[i]) for i in range(of.done.file_count)]
        return from_struct(Done, of.done, files=files)
    return Note(text(of.text))
