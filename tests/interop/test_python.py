# SPDX-License-Identifier: Apache-2.0
"""The Python package, as pip installs it: runs and their events, models, and what it says when
something is wrong. Attention is in test_python_attention.py."""
import dataclasses
import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

HERE = pathlib.Path(__file__).resolve().parent
TINY = HERE.parent / "fixtures" / "tiny.gguf"
RUN = {"steps": 6, "batch": 4, "eval_split": 4, "lr": 1e-2, "seed": 3}


@pytest.fixture(scope="module")
def honey(package):
    """The module itself."""
    sys.path.insert(0, str(package))
    import hone
    assert pathlib.Path(hone.__file__).parent == package / "hone"
    return hone


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"The shelf of book {n} is",
                                        "completion": f" number 10{n}."}) + "\n"
                            for n in range(24)))
    return path


@pytest.fixture
def adapter(honey, data, tmp_path):
    honey.finetune(TINY, data, tmp_path / "adapter", **RUN)
    return tmp_path / "adapter"


# ---- what the package says of the library ------------------------------------------------------

def test_layouts_are_those_of_the_compiler(honey, tmp_path):
    """cffi works out by itself where a field lies; the compiler of the library must agree."""
    from hone._ffi import ffi
    lines, wanted = [], {}
    for name in ffi.list_types()[0]:
        kind = ffi.typeof(name)
        try:
            ffi.sizeof(name)
        except (ffi.error, ValueError):
            continue  # a handle, of which nothing is known
        if kind.kind != "struct":
            continue
        wanted[name] = [ffi.sizeof(name)] + [field.offset for _, field in kind.fields]
        offsets = "".join(f', (int)offsetof({name}, {field})' for field, _ in kind.fields)
        form = " %d" * len(wanted[name])
        lines.append(f'printf("{name}{form}\\n", (int)sizeof({name}){offsets});')
    assert len(wanted) > 30
    source = tmp_path / "layout.c"
    source.write_text("#include <hone/hone.h>\n#include <stdio.h>\nint main(void) {"
                      + "\n".join(lines) + "return 0; }\n")
    include = HERE.parent.parent / "include"
    subprocess.run(["cc", f"-I{include}", source, "-o", tmp_path / "layout"], check=True)
    told = subprocess.run([tmp_path / "layout"], stdout=subprocess.PIPE, text=True,
                          check=True).stdout
    for line in told.splitlines():
        name, *numbers = line.split()
        assert list(map(int, numbers)) == wanted.pop(name), name
    assert not wanted


def test_options_and_events_have_the_fields_of_the_header(honey):
    from hone import _finetune
    from hone._ffi import ffi

    def fields(name):
        return {field for field, _ in ffi.typeof(name).fields}

    known = ((fields("HoneFinetuneOptions") - _finetune.APART)
             | (fields("HoneDataOptions") - _finetune.DATA_APART))
    assert set(honey.Options.__annotations__) == known
    for kind, struct, apart in (
            (honey.Plan, "HonePlan", {"length_buckets", "piece_offsets", "pieces"}),
            (honey.Step, "HoneStep", set()), (honey.HeldOut, "HoneHeldOut", set()),
            (honey.Sample, "HoneSample", set()), (honey.Done, "HoneDone", {"file_count"}),
            (honey.ModelInfo, "HoneModelInfo", set())):
        assert {field.name for field in dataclasses.fields(kind)} == fields(struct) - apart, kind


def test_the_version_is_that_of_the_library(honey, package):
    import importlib.metadata
    [found] = importlib.metadata.distributions(name="hone", path=[str(package)])
    assert found.version == honey.__version__
    assert (package / "hone" / "py.typed").exists()


# ---- runs --------------------------------------------------------------------------------------

def test_a_run_is_that_of_the_command(honey, hone, data, tmp_path):
    events = []
    done = honey.finetune(TINY, data, tmp_path / "a", on_event=events.append, **RUN)
    subprocess.run([hone, "finetune", "--model", TINY, "--data", data, "--out", tmp_path / "b",
                    "--steps", "6", "--batch", "4", "--eval-split", "4", "--lr", "1e-2", "--seed",
                    "3"], check=True, stderr=subprocess.DEVNULL)
    weights = [(tmp_path / run / "adapter_model.safetensors").read_bytes() for run in "ab"]
    assert weights[0] == weights[1]
    plan, steps = events[0], [event for event in events if isinstance(event, honey.Step)]
    assert isinstance(plan, honey.Plan) and plan.steps == 6 and plan.train_examples == 20
    assert sum(plan.lengths) == 20 and plan.example.text.startswith("The shelf of book")
    assert len(plan.example.tokens) == len(plan.example.mask) and any(plan.example.mask)
    told = [json.loads(line) for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()]
    told = [entry for entry in told if entry["event"] == "step"]
    assert [step.step for step in steps] == [1, 2, 3, 4, 5, 6]
    assert [step.loss for step in steps] == pytest.approx([entry["loss"] for entry in told])
    assert events[-1] == done and not done.interrupted and done.loss_last < done.loss_first
    assert all(pathlib.Path(file).exists() for file in done.files)


def test_a_dry_run_writes_nothing(honey, data, tmp_path):
    events = []
    assert honey.finetune(TINY, data, dry_run=True, on_event=events.append) is None
    assert [type(event) for event in events] == [honey.Plan]
    assert list(tmp_path.iterdir()) == [data]


def test_weighted_sources_and_words(honey, data, tmp_path):
    plans = []
    again = tmp_path / "again.jsonl"
    again.write_bytes(data.read_bytes())
    honey.finetune(TINY, [data, (again, 2.0)], dry_run=True, eval_split=0, method="dora",
                   schedule="inverse-sqrt", loss_on="all", optimizer="muon", max_length=64,
                   batch=4, on_event=plans.append)
    assert plans[0].method == "dora" and plans[0].train_examples == 48
    assert plans[0].steps == 3 * 24 // 4, "the second file is read twice an epoch"
    for name, value, says in (("method", "lore", "dora, full, lora"), ("no_such", 1, "'no_such'"),
                              ("rank", "many", "rank is 'many'"), ("loss", "dop", "dpo")):
        with pytest.raises(honey.ArgumentError, match=says):
            honey.finetune(TINY, data, dry_run=True, **{name: value})
    with pytest.raises(honey.ArgumentError, match="out is not given"):
        honey.finetune(TINY, data)


def test_false_stops_a_run(honey, data, tmp_path):
    done = honey.finetune(TINY, data, tmp_path / "run", on_event=lambda event: not (
        isinstance(event, honey.Step) and event.step == 3), **RUN)
    assert done.interrupted and done.steps == 3
    assert (tmp_path / "run" / "checkpoint").is_dir()


def test_an_exception_stops_a_run_and_is_raised(honey, data, tmp_path):
    def on_event(event):
        if isinstance(event, honey.Step) and event.step == 2:
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        honey.finetune(TINY, data, tmp_path / "run", on_event=on_event, **RUN)
    assert (tmp_path / "run" / "checkpoint").is_dir()


INTERRUPTED = """
    import sys
    sys.path.insert(0, sys.argv[1])
    import hone

    def on_event(event):
        if isinstance(event, hone.Step) and event.step == 3:
            print("third", flush=True)
            sys.stdin.readline()  # the signal is on its way

    try:
        hone.finetune(*sys.argv[2:5], on_event=on_event, steps=6, batch=4, eval_split=4, lr=1e-2,
                      seed=3)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


def test_ctrl_c_stops_a_run_with_its_checkpoint(honey, package, data, tmp_path):
    """And going on from it ends with the bytes of a run that was not stopped."""
    run, whole = tmp_path / "run", tmp_path / "whole"
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(INTERRUPTED), package, TINY, data,
                           run], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                          preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)) as child:
        assert child.stdout.readline() == "third\n"
        child.send_signal(signal.SIGINT)
        child.stdin.close()
        assert child.stdout.read() == "interrupted\n"
        assert child.wait() == 0
    assert (run / "checkpoint").is_dir()
    done = honey.finetune(TINY, data, run, resume=run, **RUN)
    assert done.steps == 6 and not done.interrupted
    honey.finetune(TINY, data, whole, **RUN)
    assert ((run / "adapter_model.safetensors").read_bytes()
            == (whole / "adapter_model.safetensors").read_bytes())


def test_what_cannot_be_is_said_by_the_library(honey, data, tmp_path):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"prompt": "a", "completion": "b"}\n{"prompt": 1}\n')
    with pytest.raises(honey.InputError, match=r"bad\.jsonl:2"):
        honey.finetune(TINY, bad, tmp_path / "run")
    with pytest.raises(honey.Error, match="no-such.gguf"):
        honey.finetune(tmp_path / "no-such.gguf", data, tmp_path / "run")
    with pytest.raises(honey.ArgumentError, match="rank 1000"):
        honey.finetune(TINY, data, tmp_path / "run", rank=1000)
    with pytest.raises(MemoryError, match="would do"):
        honey.finetune(TINY, data, tmp_path / "run", memory=1 << 20)
    with pytest.raises(honey.ArgumentError, match="nonsense"):
        honey.Model(TINY, isa="nonsense")
    assert not (tmp_path / "run").exists()


# ---- models ------------------------------------------------------------------------------------

def test_answers_are_those_of_the_command(honey, hone, adapter):
    told = json.loads(subprocess.run(
        [hone, "generate", "--model", TINY, "--adapter", adapter, "--raw", "--prompt", "The shelf",
         "--max-tokens", "12", "--temperature", "0", "--json"], check=True,
        stdout=subprocess.PIPE).stdout)
    with honey.Model(TINY, adapter=adapter) as model:
        pieces = []
        answer = model.generate("The shelf", max_tokens=12, temperature=0, on_text=pieces.append)
        assert (answer.text, answer.tokens) == (told["text"], told["tokens"])
        assert "".join(pieces) == answer.text
        chat = model.chat([{"role": "user", "content": "The shelf"}], max_tokens=5, temperature=0)
        assert chat == dataclasses.replace(
            model.chat("The shelf", max_tokens=5, temperature=0), seconds=chat.seconds,
            prompt_seconds=chat.prompt_seconds)
        assert len(model.generate("a", max_tokens=8, on_text=lambda piece: False).tokens) < 8
        with pytest.raises(honey.ArgumentError, match="at work"):
            model.generate("a", on_text=lambda piece: model.tokenize("b"))
        assert model.tokenize("the"), "it can be used again"


def test_measures_are_those_of_the_command(honey, hone, adapter, data):
    lines = [json.loads(line) for line in subprocess.run(
        [hone, "eval", "--model", TINY, "--adapter", adapter, "--data", data, "--logprobs",
         "--json"], check=True, stdout=subprocess.PIPE).stdout.splitlines()]
    with honey.Model(TINY, adapter=[(adapter, 1)]) as model:
        result = model.evaluate(data)
        assert result.loss == pytest.approx(lines[-1]["loss"])
        assert len(result.each) == 24 and result.each[3].line == 4
        assert result.each[0].logprobs == pytest.approx(lines[0]["logprobs"])
        with model.without_adapters():
            assert model.evaluate(data).loss != pytest.approx(result.loss, rel=1e-3)
        assert model.evaluate(data).loss == result.loss
        # The same numbers token by token: the completion's are the last ones.
        text = "The shelf of book 0 is number 100."
        tokens = model.tokenize(text)
        all_of_it = model.log_probabilities(tokens)
        assert len(all_of_it) == len(tokens) - 1 and all(value < 0 for value in all_of_it)
        assert model.log_probabilities(text) == all_of_it
        first = result.each[0]
        own = first.tokens[:-1]  # without the end token
        assert tokens[-len(own):] == own
        assert all_of_it[-len(own):] == pytest.approx(first.logprobs[:-1], abs=1e-5)
        assert math.isclose(first.loss, -sum(first.logprobs) / first.targets, rel_tol=1e-5)


def test_probabilities_add_up(honey):
    """Of all tokens that can follow, they sum to 1."""
    with honey.Model(TINY) as model:
        start = model.tokenize("the")[:1]
        total = sum(math.exp(model.log_probabilities([*start, token])[0])
                    for token in range(model.info.vocabulary))
        assert total == pytest.approx(1, abs=1e-4)


def test_tokens_and_text(honey):
    with honey.Model(TINY) as model:
        tokens = model.tokenize("the end é")
        assert model.detokenize(tokens) == "the end é" and model.tokenize("") == []
        assert len(model.tokenize("<|im_end|>", special=True)) == 1
        assert model.detokenize(model.tokenize("<|im_end|>", special=True), special=True) == "<|im_end|>"
        assert model.info.architecture == "llama" and model.info.vocabulary > 200
        for call, says in ((lambda: model.detokenize([10**6]), "1000000"),
                           (lambda: model.log_probabilities([1]), "1 tokens, want 2"),
                           (lambda: model.log_probabilities([1, -7]), "token 1 is -7"),
                           (lambda: model.log_probabilities([1] * 9999), "9999 tokens"),
                           (lambda: model.log_probabilities([1, 2.5]), "whole numbers"),
                           (lambda: model.generate("a", tempo=1), "'tempo'")):
            with pytest.raises(honey.ArgumentError, match=says):
                call()
    with pytest.raises(honey.ArgumentError, match="closed"):
        model.tokenize("a")
    model.close()
    assert "closed" in repr(model)


def test_threads_share_a_model(honey):
    with honey.Model(TINY) as model:
        wanted = [model.generate(f"book {n}", max_tokens=8, temperature=0).tokens for n in range(4)]
        got = {}

        def ask(n):
            got[n] = [model.generate(f"book {n}", max_tokens=8, temperature=0).tokens
                      for _ in range(5)]

        threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert got == {n: [wanted[n]] * 5 for n in range(4)}


def resident():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_nothing_is_left_behind(honey, adapter, data):
    """Of models that are closed, collected or never whole, and of runs: an answer's keys and values alone
    are 100 kB."""
    def once():
        with honey.Model(TINY, adapter=adapter) as model:
            model.chat("the end", max_tokens=4)
            model.log_probabilities("the end of it")
        honey.Model(TINY).generate("a", max_tokens=4)
        with pytest.raises(honey.Error):
            honey.Model(TINY, adapter=data)
        honey.finetune(TINY, data, dry_run=True)

    for _ in range(10):
        once()
    before = resident()
    for _ in range(60):
        once()
    assert resident() - before < 4 << 20
