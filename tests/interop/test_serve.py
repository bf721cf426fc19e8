# SPDX-License-Identifier: Apache-2.0
"""hone serve and its clients: the openai package, one and many at once, and curl."""
import asyncio
import json
import shutil
import signal
import subprocess

import openai
import pytest

QUESTION = "What is the capital of France?"
MESSAGES = [{"role": "user", "content": QUESTION}]
NAME = "SmolLM2"


@pytest.fixture(scope="module")
def trained(hone, model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve")
    data = folder / "data.jsonl"
    data.write_text("".join(json.dumps({"messages": [
        {"role": "user", "content": question}, {"role": "assistant", "content": "Ahoy, sailor!"}]}) +
        "\n" for question in (QUESTION, "Who are you?", "What is 2 + 2?", "Name a colour.")))
    subprocess.run([hone, "finetune", "--model", model, "--data", data, "--out", folder / "pirate",
                    "--steps", "12", "--batch", "4", "--lr", "2e-3", "--rank", "4", "--eval-split",
                    "0"], check=True, capture_output=True)
    return folder / "pirate"


@pytest.fixture(scope="module")
def server(hone, model, trained, tmp_path_factory):
    shelf = tmp_path_factory.mktemp("shelf")
    process = subprocess.Popen([hone, "serve", "--model", model, "--name", NAME, "--adapters", shelf,
                                "--port", "0", "--json"], stdout=subprocess.PIPE, text=True)
    url = json.loads(process.stdout.readline())["url"]
    yield url, shelf
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=server[0] + "/v1", api_key="none", max_retries=0)


def generated(hone, model, *options):
    done = subprocess.run([hone, "generate", "--model", model, "--prompt", QUESTION, "--temperature",
                           "0", "--max-tokens", "24", "--json", *options], check=True,
                          capture_output=True, text=True)
    return json.loads(done.stdout)


def test_greedy_answers_and_usage(hone, model, client):
    want = generated(hone, model)
    got = client.chat.completions.create(model=NAME, messages=MESSAGES, temperature=0, max_tokens=24)
    assert got.choices[0].message.content == want["text"]
    assert got.choices[0].message.role == "assistant"
    assert got.choices[0].finish_reason == ("stop" if want["ended"] else "length")
    assert got.usage.completion_tokens == len(want["tokens"])
    assert got.usage.prompt_tokens == want["prompt_tokens"]
    stream = client.chat.completions.create(model=NAME, messages=MESSAGES, temperature=0,
                                            max_tokens=24, stream=True,
                                            stream_options={"include_usage": True})
    parts = list(stream)
    assert "".join(part.choices[0].delta.content or "" for part in parts if part.choices) == want["text"]
    assert parts[-1].usage == got.usage


def test_completions(hone, model, client):
    want = generated(hone, model, "--raw")
    got = client.completions.create(model=NAME, prompt=QUESTION, temperature=0, max_tokens=24)
    assert got.choices[0].text == want["text"]
    parts = client.completions.create(model=NAME, prompt=QUESTION, temperature=0, max_tokens=24,
                                      stream=True)
    assert "".join(part.choices[0].text for part in parts) == want["text"]


def test_an_adapter_that_comes_while_it_runs(hone, model, client, server, trained):
    assert [entry.id for entry in client.models.list()] == [NAME]
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model=NAME + ":pirate", messages=MESSAGES)
    shutil.copytree(trained, server[1] / "pirate")
    assert [entry.id for entry in client.models.list()] == [NAME, NAME + ":pirate"]
    assert client.models.retrieve(NAME + ":pirate").owned_by == "hone"
    got = client.chat.completions.create(model=NAME + ":pirate", messages=MESSAGES, temperature=0,
                                         max_tokens=24)
    want = generated(hone, model, "--adapter", trained)
    assert got.choices[0].message.content == want["text"]
    assert "Ahoy" in want["text"]


def test_errors_have_their_own_classes(client):
    for error, body in [(openai.NotFoundError, {"model": "huge"}),
                        (openai.BadRequestError, {"temperature": -1}),
                        (openai.BadRequestError, {"n": 2}),
                        (openai.BadRequestError, {"messages": []})]:
        with pytest.raises(error) as caught:
            client.chat.completions.create(**{"model": NAME, "messages": MESSAGES, **body})
        assert caught.value.body["message"]
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=NAME,
                                       messages=[{"role": "user", "content": "word " * 9000}])
    assert caught.value.code == "context_length_exceeded"


def test_many_at_once(server):
    async def crowd():
        client = openai.AsyncOpenAI(base_url=server[0] + "/v1", api_key="none", max_retries=0)

        async def one(number):
            stream = await client.chat.completions.create(
                model=NAME, messages=MESSAGES, temperature=0, max_tokens=6, stream=True)
            text = ""
            async for part in stream:
                text += part.choices[0].delta.content or ""
                if number % 8 == 7:
                    await stream.close()  # has heard enough
                    return None
            return text

        return await asyncio.gather(*map(one, range(64)))

    texts = asyncio.run(crowd())
    assert len({text for text in texts if text is not None}) == 1
    assert texts.count(None) == 8


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not here")
def test_curl(hone, model, server):
    body = json.dumps({"messages": MESSAGES, "temperature": 0, "max_tokens": 24})
    done = subprocess.run(["curl", "-sS", server[0] + "/v1/chat/completions", "-H",
                           "Content-Type: application/json", "-d", body], check=True,
                          capture_output=True, text=True)
    assert json.loads(done.stdout)["choices"][0]["message"]["content"] == generated(hone, model)["text"]
    large = subprocess.run(["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--data-binary",
                            "@-", server[0] + "/v1/completions"], input="x" * 3_000_000, check=True,
                           capture_output=True, text=True)
    assert large.stdout == "413"
