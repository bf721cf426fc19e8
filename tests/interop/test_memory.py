# SPDX-License-Identifier: Apache-2.0
"""The plan's memory beside the measured peak of a real model, with and without a bound."""
import json
import os
import random
import resource
import subprocess

import gpt2
import pytest

MIB = 1 << 20


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    words = "the a of river tower under long green water stone and walks reads slowly".split()
    draw = random.Random(7)
    path = tmp_path_factory.mktemp("data") / "data.jsonl"
    path.write_text("".join(
        json.dumps({"text": " ".join(draw.choice(words) for _ in range(draw.randint(60, 250)))})
        + "\n" for _ in range(8)))
    return path


def finetune(hone, model, data, out, *options):
    """Its plan, its last step and its peak of resident bytes: the system's count for the child, which
    has this process's own as its least, or what the child read of its own."""
    with subprocess.Popen([hone, "finetune", "--model", model, "--data", data, "--out", out,
                           "--batch", "4", "--steps", "2", "--eval-split", "0", "--json",
                           *map(str, options)], stdout=subprocess.PIPE) as process:
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    events = [json.loads(line) for line in said.splitlines()]
    steps = [event for event in events if event["event"] == "step"]
    peak, mine = usage.ru_maxrss, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    told = [event for event in events if event["event"] == "done"][-1]["rss_peak_bytes"]
    return events[0], steps[-1], peak * 1024 if peak > mine else told


@pytest.mark.parametrize("options", [
    [], ["--checkpoint-layers", "all"], ["--checkpoint-layers", 11, "--accumulate", 2],
    ["--memory", 300 * MIB], ["--memory", 500 * MIB, "--eval-split", 3],
    ["--method", "full", "--memory", 2400 * MIB]], ids=lambda options: " ".join(map(str, options)))
def test_the_plan_is_within_five_percent(hone, model, data, tmp_path, options):
    plan, step, peak = finetune(hone, model, data, tmp_path / "run", *options)
    print(f"planned {plan['memory_bytes'] / 1e6:.1f} MB, peak {peak / 1e6:.1f} MB")
    assert abs(plan["memory_bytes"] - peak) <= 0.05 * peak
    assert step["rss_bytes"] <= peak + MIB  # the system adds its counters up now and then
    if "--memory" in options:
        assert peak <= 1.05 * options[options.index("--memory") + 1]


@pytest.fixture(scope="module")
def f32_model(tmp_path_factory):
    """A GPT-2 of 20M values whose head is its embedding; its own pages are 80 MB of the file's."""
    path = tmp_path_factory.mktemp("f32") / "model.gguf"
    gpt2.Gpt2(4, 640, 10, 2560, 40, tied=True).write_gguf(path)
    return path


@pytest.mark.parametrize("options", [
    [], ["--memory", 100 * MIB], ["--method", "full"], ["--method", "full", "--eval-split", 3],
    ["--method", "full", "--optimizer", "sgd", "--beta1", 0]],
    ids=lambda options: " ".join(map(str, options)))
def test_a_plan_of_a_file_of_f32(hone, f32_model, data, tmp_path, options):
    """Weights that are read where they lie and weights that are copied, of which no page stays:
    neither where the file is looked at for what the run is, nor for the base's answers at its end."""
    plan, step, peak = finetune(hone, f32_model, data, tmp_path / "run", "--max-length", 128,
                                "--on-bad-example", "skip", *options)
    print(f"planned {plan['memory_bytes'] / 1e6:.1f} MB, peak {peak / 1e6:.1f} MB")
    assert abs(plan["memory_bytes"] - peak) <= 0.05 * peak
    if "full" in options:
        assert step["rss_mapped_bytes"] < f32_model.stat().st_size / 4
    if "--memory" in options:
        assert peak <= 1.05 * options[options.index("--memory") + 1]


def test_pages_go_behind_use(hone, model, data, tmp_path):
    """Bounded a little below what it takes, a run holds a part of the file only, with the same bits."""
    plain, before, _ = finetune(hone, model, data, tmp_path / "plain")
    assert before["rss_mapped_bytes"] > plain["model_bytes"]
    plan, step, _ = finetune(hone, model, data, tmp_path / "bound", "--memory",
                             plain["memory_bytes"] - 20 * MIB)
    assert (plan["checkpoint_layers"], plan["accumulate"]) == (0, 1)
    assert plan["model_bytes"] < plain["model_bytes"] / 3
    assert step["rss_mapped_bytes"] < before["rss_mapped_bytes"] / 3
    name = "adapter_model.safetensors"
    assert (tmp_path / "bound" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
