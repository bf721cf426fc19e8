# SPDX-License-Identifier: Apache-2.0
"""Chat templates as models were published with them, against jinja2 called as transformers calls it.

The templates are those that the packages of llama.cpp and TRL carry. Twenty conversations: with and
without a system message, tools and their calls, reasoning, several turns, parts, nothing, Unicode.
What jinja2 refuses is refused, and nothing else. Where a template says what is generated, the mask
is transformers', which TRL learns by.
"""
import datetime
import json
import os
import pathlib
import subprocess
import sys

import pytest

jinja2 = pytest.importorskip("jinja2")
chat_template_utils = pytest.importorskip("transformers.utils.chat_template_utils")
import gguf_to_hf
from transformers import AutoTokenizer

FOLDERS = [pathlib.Path(sys.prefix) / "llama.cpp" / "models" / "templates",
           *pathlib.Path(sys.prefix).glob("trl-*")]
TEMPLATES = sorted((path for folder in FOLDERS for path in folder.glob("*.jinja")),
                   key=lambda path: path.name)
GENERATING = [path for path in TEMPLATES if "endgeneration" in path.read_text()]
MOMENT = "1732406400"  # 24 November 2024

TOOLS = [
    {"type": "function", "function": {
        "name": "get_weather", "description": "The weather of a place <now>.",
        "parameters": {"type": "object", "properties": {
            "place": {"type": "string", "description": "a city's name"},
            "unit": {"type": "string", "enum": ["C", "F"], "default": "C"},
            "days": {"type": "array", "items": {"type": "integer"}}},
            "required": ["place"]}}},
    {"type": "function", "function": {
        "name": "now", "description": "The time.",
        "parameters": {"type": "object", "properties": {}}}},
]


def user(content="What is the weather in Köln?"):
    return {"role": "user", "content": content}


def assistant(content="Sunny."):
    return {"role": "assistant", "content": content}


def call(name, arguments, number=0, **more):
    return {"role": "assistant", "tool_calls": [
        {"id": f"call{number:05d}", "type": "function",
         "function": {"name": name, "arguments": arguments}}], **more}


def result(content, number=0, name="get_weather"):
    return {"role": "tool", "name": name, "tool_call_id": f"call{number:05d}", "content": content}


SYSTEM = {"role": "system", "content": "You are brief.\nAlways."}
ARGUMENTS = {"place": "Köln", "unit": "C", "days": [1, 2.5, None], "deep": {"a": True, "b": []}}

CONVERSATIONS = [
    dict(messages=[user()]),
    dict(messages=[SYSTEM, user()], add_generation_prompt=True),
    dict(messages=[user(), assistant()]),
    dict(messages=[SYSTEM, user(), assistant(), user("And \u4eca\u65e5? \U0001f600"),
                   assistant("  雨 \n")]),
    dict(messages=[user(""), assistant("")]),
    dict(messages=[SYSTEM, user("  a  "), assistant(" b\n\n")], add_generation_prompt=True),
    dict(messages=[user()], tools=TOOLS, add_generation_prompt=True),
    dict(messages=[SYSTEM, user()], tools=TOOLS, add_generation_prompt=True),
    dict(messages=[SYSTEM, user(), call("get_weather", ARGUMENTS, content="")], tools=TOOLS),
    dict(messages=[user(), call("get_weather", ARGUMENTS, content=None),
                   result('{"temperature": 7}'), assistant("7 °C.")], tools=TOOLS),
    dict(messages=[user(), call("now", {}, content="Let me look.", number=1),
                   result("12:00", 1, "now"), call("get_weather", {"place": "Bonn"}, 2, content=""),
                   result("rain", 2), assistant("Rain.")], tools=TOOLS,
         add_generation_prompt=True),
    dict(messages=[SYSTEM, user(), call("get_weather", ARGUMENTS, content="x"),
                   result("y")], tools=TOOLS, add_generation_prompt=True),
    dict(messages=[user(), {**assistant(), "reasoning_content": "Look out of\nthe window."}]),
    dict(messages=[user(), {**assistant("one"), "reasoning_content": "first"}, user("again"),
                   {**assistant("two"), "reasoning_content": "second"}],
         add_generation_prompt=True),
    dict(messages=[user(), assistant("<think>\nhm\n</think>\n\nSunny.")]),
    dict(messages=[user(), {**call("get_weather", ARGUMENTS, content=""),
                            "reasoning_content": "a tool"}, result("snow")], tools=TOOLS,
         add_generation_prompt=True),
    dict(messages=[user([{"type": "text", "text": "in two"}, {"type": "text", "text": " parts"}]),
                   assistant([{"type": "text", "text": "yes"}])]),
    dict(messages=[assistant("first"), user()]),
    dict(messages=[user("{{ x }} {% if %} </s> <|im_end|> [INST] \t\x7f"), assistant("\\n \"'&<>")],
         extra={"enable_thinking": False}),
    dict(messages=[SYSTEM, user("a"), assistant("b"), user("c"), assistant("d"), user("e")],
         add_generation_prompt=True, extra={"enable_thinking": True, "reasoning_effort": "high"}),
]


@pytest.fixture(scope="module")
def tool(built):
    return built("tests/template/template_tool")


def theirs(source, one, with_mask=False, bos="<s>", eos="</s>"):
    """The text, and the ranges that are generated; None where the template raises."""
    try:
        # apply_chat_template leaves out what is None
        messages = [{k: v for k, v in message.items() if v is not None}
                    for message in one["messages"]]
        [text], ranges = chat_template_utils.render_jinja_template(
            [messages], tools=one.get("tools"), chat_template=source,
            return_assistant_tokens_mask=with_mask, bos_token=bos, eos_token=eos,
            add_generation_prompt=one.get("add_generation_prompt", False), **one.get("extra", {}))
        return text, ranges[0] if with_mask else None
    except (jinja2.exceptions.TemplateError, TypeError, ValueError, AttributeError, KeyError):
        return None


def ours(tool, path):
    lines = "".join(json.dumps({**one, "bos_token": "<s>", "eos_token": "</s>"}) + "\n"
                    for one in CONVERSATIONS)
    done = subprocess.run([tool, str(path)], input=lines.encode(), stdout=subprocess.PIPE,
                          timeout=60, env={**os.environ, "SOURCE_DATE_EPOCH": MOMENT})
    return [json.loads(line) for line in done.stdout.split(b"\n") if line]


class Moment(chat_template_utils.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(int(MOMENT), datetime.timezone.utc)


def test_there_are_templates():
    assert len(TEMPLATES) >= 100 and len(GENERATING) >= 25 and len(CONVERSATIONS) == 20


def named(paths):
    return pytest.mark.parametrize("path", paths, ids=[path.stem for path in paths])


@named(TEMPLATES)
def test_text_is_jinja2s(tool, monkeypatch, path):
    monkeypatch.setattr(chat_template_utils, "datetime", Moment)
    results, source = ours(tool, path), path.read_text()
    try:
        chat_template_utils._compile_jinja_template(source)
    except jinja2.exceptions.TemplateError as refusal:
        assert len(results) == 1 and "error" in results[0], refusal
        return
    assert len(results) == len(CONVERSATIONS), results
    for number, (one, mine) in enumerate(zip(CONVERSATIONS, results)):
        want = theirs(source, one)
        if want is None:
            assert "error" in mine, (number, mine)
        else:
            assert mine.get("text") == want[0], (number, mine.get("error"))


def spans(result):
    """Characters [begin, end) that generation blocks printed, neighbours as one."""
    found, at = [], 0
    for number, character in enumerate(result["text"]):
        if result["origin"][at] <= -2:
            if found and found[-1][1] == number:
                found[-1][1] += 1
            else:
                found.append([number, number + 1])
        at += len(character.encode())
    return found


def joined(ranges):
    found = []
    for begin, end in ranges:
        if found and found[-1][1] == begin:
            found[-1][1] = end
        elif end > begin:
            found.append([begin, end])
    return found


@named(GENERATING)
def test_what_is_generated_is_transformers(tool, monkeypatch, path):
    monkeypatch.setattr(chat_template_utils, "datetime", Moment)
    checked = 0
    for one, mine in zip(CONVERSATIONS, ours(tool, path)):
        want = theirs(path.read_text(), one, with_mask=True)
        if want:
            assert mine["text"] == want[0]
            assert spans(mine) == joined(want[1])
            checked += bool(want[1])
    assert checked >= 1


# Conversations that Hone does not learn from: what would be lost, and SmolLM2's BOS, which begins
# each of its turns, after the template's own.
LOST = ["does not print 'tools'", "does not print 'tool_calls'", "begins with BOS twice",
        "the role 'tool', which does not exist here"]


@named(GENERATING)
def test_the_mask_is_transformers(hone, model, tmp_path, path):
    """Token by token, with SmolLM2's tokeniser: what TRL would learn with assistant_only_loss.

    A token of which any character is generated is learnt. (transformers itself goes by the first and
    the last character: of one in several tokens it takes the first, and a token around an empty
    block.)"""
    tokenizer = AutoTokenizer.from_pretrained(gguf_to_hf.converted(model))
    data, source, compared = tmp_path / "data.jsonl", path.read_text(), 0
    for one in CONVERSATIONS:
        one = {**one, "add_generation_prompt": False}
        want = theirs(source, one, True, tokenizer.bos_token, tokenizer.eos_token)
        if want is None:
            continue
        told = tokenizer(want[0], add_special_tokens=False, return_offsets_mapping=True)
        mask = [int(i > 0 and any(begin < end and start < to for start, end in joined(want[1])))
                for i, (begin, to) in enumerate(told["offset_mapping"])]
        if not any(mask):
            continue
        data.write_text(json.dumps({**one, "chat_template_kwargs": one.get("extra")}) + "\n")
        done = subprocess.run([str(hone), "template", "--model", str(model), "--template",
                               str(path), "--data", str(data), "--json",
                                   # Other models\' end tokens are none of this vocabulary.
                                   "--no-eos"], capture_output=True,
                              text=True, timeout=60)
        if done.returncode:
            assert any(reason in done.stderr for reason in LOST), done.stderr
            continue
        line = json.loads(done.stdout)
        assert line["tokens"] == told["input_ids"], one
        assert [int(learnt) for learnt in line["mask"]] == mask, one
        compared += 1
    assert compared or "bos_token" in source
