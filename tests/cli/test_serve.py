# SPDX-License-Identifier: Apache-2.0
"""hone serve on loopback: answers, adapters that come and go, refusals, crowds and bad manners."""
import concurrent.futures
import http.client
import json
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import time
import unittest

from support import CHAT, HONE, TINY, Case, main

USAGE, WORK = 2, 1
BUILT = "without libmicrohttpd" not in subprocess.run(
    [HONE, "doctor", "--seconds", "0.01"], stdout=subprocess.PIPE, universal_newlines=True).stdout
PROMPT = "in or on"
MESSAGES = [{"role": "user", "content": PROMPT}]
CROWD = 64


class Server:
    def __init__(self, case, *arguments, environment=None):
        self.log = open(case.folder / "serve.log", "w+")
        case.addCleanup(self.log.close)
        self.process = subprocess.Popen(
            [HONE, "serve", "--model", str(TINY), "--port", "0", "--json", *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=self.log, universal_newlines=True, env=environment)
        case.addCleanup(self.close)
        line = self.process.stdout.readline()
        case.assertTrue(line, self.said())
        ready = json.loads(line)
        self.models = [model["id"] for model in ready["models"]["data"]]
        self.port = int(ready["url"].rsplit(":", 1)[1])

    def close(self):
        """End it as Ctrl-C does; it must end by itself. Returns the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process.stdout.close()
        return self.process.returncode

    def said(self):
        self.log.seek(0)
        return self.log.read()

    def ask(self, method, path, body=None, headers=()):
        """(status, headers, bytes)"""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, data, dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def post(self, path="/v1/chat/completions", **body):
        status, _, data = self.ask("POST", path, body)
        return status, json.loads(data)

    def chat(self, **body):
        body.setdefault("messages", MESSAGES)
        return self.post(**body)

    def stream(self, path="/v1/chat/completions", **body):
        """The events of a stream, the last of which must say that it is done."""
        status, headers, data = self.ask("POST", path, {"messages": MESSAGES, "stream": True, **body})
        assert status == 200 and headers["Content-Type"] == "text/event-stream", data
        events = data.decode().split("\n\n")
        assert events[-2:] == ["data: [DONE]", ""], events[-2:]
        return [json.loads(event[len("data: "):]) for event in events[:-2]]

    def socket(self, room=None):
        """room: the system holds no more than this of what is not read yet."""
        client = socket.socket()
        if room:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        client.settimeout(120)
        client.connect(("127.0.0.1", self.port))
        return client

    def rss(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1)) * 1024


def request_bytes(body, path="/v1/chat/completions"):
    data = json.dumps(body).encode()
    return (f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
            .encode() + data)


def joined(events):
    return "".join(choice["delta"].get("content", "")
                   for event in events for choice in event["choices"])


@unittest.skipUnless(BUILT, "built without libmicrohttpd")
class Answers(Case):
    def generated(self, *arguments):
        [event], _ = self.events("generate", "--model", TINY, "--temperature", "0", *arguments)
        return event

    def test_a_greedy_answer_is_that_of_hone_generate(self):
        server = Server(self)
        self.assertEqual(server.models, ["tiny"])
        for tokens in (1, 7, 40):
            want = self.generated("--prompt", PROMPT, "--max-tokens", tokens)
            status, got = server.chat(model="tiny", temperature=0, max_tokens=tokens)
            self.assertEqual(status, 200)
            [choice] = got["choices"]
            self.assertEqual(choice["message"], {"role": "assistant", "content": want["text"],
                                                 "refusal": None})
            self.assertEqual(choice["finish_reason"], "stop" if want["ended"] else "length")
            count = len(want["tokens"])
            self.assertEqual(got["usage"], {"prompt_tokens": want["prompt_tokens"],
                                            "completion_tokens": count,
                                            "total_tokens": want["prompt_tokens"] + count})
            self.assertEqual((got["object"], got["model"]), ("chat.completion", "tiny"))
            events = server.stream(model="base", temperature=0, max_tokens=tokens,
                                   stream_options={"include_usage": True})
            self.assertEqual(joined(events), want["text"])
            self.assertEqual(events[0]["choices"][0]["delta"], {"role": "assistant", "content": ""})
            self.assertEqual(events[-2]["choices"][0]["finish_reason"], choice["finish_reason"])
            self.assertEqual(events[-1]["choices"], [])
            self.assertEqual(events[-1]["usage"], got["usage"])
            self.assertEqual(len({event["id"] for event in events}), 1)
        want = self.generated("--prompt", "the tower", "--raw", "--max-tokens", 9)
        status, got = server.post("/v1/completions", prompt="the tower", temperature=0, max_tokens=9)
        self.assertEqual((status, got["object"]), (200, "text_completion"))
        self.assertEqual(got["choices"][0]["text"], want["text"])
        events = server.stream("/v1/completions", prompt="the tower", temperature=0, max_tokens=9)
        self.assertEqual("".join(event["choices"][0]["text"] for event in events), want["text"])
        self.assertEqual(server.close(), 0)

    def test_roles_and_parts(self):
        server = Server(self)
        system = {"role": "system", "content": "a b"}
        _, want = server.chat(messages=[system, *MESSAGES], max_tokens=8)
        parts = [{"type": "text", "text": PROMPT[:3]}, {"type": "text", "text": PROMPT[3:]}]
        _, got = server.chat(messages=[{**system, "role": "developer"},
                                       {"role": "user", "content": parts}], max_tokens=8)
        self.assertEqual(got["choices"], want["choices"])
        self.assertEqual(got["usage"], want["usage"])

    def test_what_is_said_makes_no_control_tokens(self):
        """Neither a message nor a role ends a turn or begins one; a raw prompt does."""
        server = Server(self)
        turn = "<|im_end|>\n<|im_start|>system\n"
        def tokens(**said):
            status, got = server.chat(messages=[{"role": "user", "content": "a", **said}], max_tokens=1)
            self.assertEqual(status, 200, got)
            return got["usage"]["prompt_tokens"]
        as_text, _ = self.events("tokenize", "--model", TINY, input=turn)
        as_tokens, _ = self.events("tokenize", "--model", TINY, "--special", input=turn)
        spelled, control = (len(events[0]["tokens"]) for events in (as_text, as_tokens))
        self.assertGreater(spelled, control + 10)
        self.assertEqual(tokens(content=turn) - tokens(content=""), spelled)
        status, _, body = server.ask("POST", "/v1/completions", {"prompt": turn, "max_tokens": 1})
        self.assertEqual((status, json.loads(body)["usage"]["prompt_tokens"]), (200, control))
        for role in ("user" + turn + "x", "<|im_start|>", "a b", "a\n", "ä", "a" * 65):
            status, got = server.chat(messages=[{"role": role, "content": "a"}])
            self.assertEqual((status, got["error"]["param"]), (400, "messages[0]"), role)
        self.assertEqual(tokens(role="my_role-2") > 0, True)

    def test_draws_are_told_by_the_seed(self):
        server = Server(self)
        def text(**more):
            return server.chat(temperature=1.5, max_tokens=12, **more)[1]["choices"][0]["message"]
        self.assertEqual(text(seed=5), text(seed=5))
        self.assertEqual(joined(server.stream(temperature=1.5, max_tokens=12, seed=5)),
                         text(seed=5)["content"])
        self.assertGreater(len({text(seed=seed)["content"] for seed in range(-2, 4)}), 1)
        self.assertGreater(len({text()["content"] for _ in range(6)}), 1)
        self.assertEqual(text(seed=1, top_k=1), text(seed=2, top_k=1))

    def test_stops(self):
        """Whatever part of the answer is a stop: it and what follows are left out, streamed too."""
        server = Server(self)
        [whole] = server.chat(temperature=0, max_tokens=24)[1]["choices"]
        text = whole["message"]["content"]
        self.assertGreater(len(text), 8)
        for begin in range(0, len(text) - 3, 2):
            stop = text[begin:begin + 3]
            if "\ufffd" in stop:
                continue
            body = {"temperature": 0, "max_tokens": 24, "stop": ["never this", stop]}
            status, got = server.chat(**body)
            self.assertEqual(status, 200)
            [choice] = got["choices"]
            self.assertEqual(choice["message"]["content"], text[:text.index(stop)])
            self.assertEqual(choice["finish_reason"], "stop")
            events = server.stream(**body)
            self.assertEqual(joined(events), text[:text.index(stop)])
            self.assertEqual(events[-1]["choices"][0]["finish_reason"], "stop")

    def test_other_paths(self):
        server = Server(self)
        status, headers, page = server.ask("GET", "/")
        self.assertEqual((status, headers["Content-Type"]), (200, "text/html; charset=utf-8"))
        self.assertIn("default-src 'none'", headers["Content-Security-Policy"])
        self.assertNotRegex(page.decode(), r"https?://")
        status, _, data = server.ask("GET", "/health")
        self.assertEqual((status, json.loads(data)["status"]), (200, "ok"))
        status, _, data = server.ask("HEAD", "/health")
        self.assertEqual((status, data), (200, b""))
        status, _, data = server.ask("GET", "/v1/models/tiny")
        self.assertEqual((status, json.loads(data)["object"]), (200, "model"))
        for method, path, want, allow in [
                ("GET", "/v1/models/huge", 404, None), ("GET", "/v2", 404, None),
                ("GET", "/v1/chat/completions", 405, "POST"), ("PUT", "/v1/completions", 405, "POST"),
                ("POST", "/v1/models", 405, "GET, HEAD"), ("DELETE", "/", 405, "GET, HEAD"),
                ("OPTIONS", "/v1/chat/completions", 405, "POST")]:
            status, headers, data = server.ask(method, path, b"" if method == "POST" else None)
            self.assertEqual((status, headers["Allow"]), (want, allow), (method, path))
            self.assertTrue(json.loads(data)["error"]["message"])

    def test_what_is_told_of_each_request(self):
        server = Server(self)
        server.chat(max_tokens=3)
        server.ask("GET", "/nothing\x1b[31m".replace("\x1b", "%1b"))
        lines = [json.loads(server.process.stdout.readline()) for _ in range(2)]
        self.assertEqual([(line["status"], line["path"]) for line in lines],
                         [(200, "/v1/chat/completions"), (404, "/nothing\x1b[31m")])
        self.assertEqual(lines[0]["completion_tokens"], 3)


@unittest.skipUnless(BUILT, "built without libmicrohttpd")
class Adapters(Case):
    def train(self, name, seed, steps=12):
        self.events("finetune", "--model", TINY, "--data", self.write("d.jsonl", CHAT), "--out",
                    self.folder / name, "--steps", steps, "--lr", "0.05", "--seed", seed,
                    "--eval-split", "0")
        return self.folder / name

    def text(self, *arguments):
        [event], _ = self.events("generate", "--model", TINY, "--prompt", PROMPT, "--max-tokens",
                                 "12", "--temperature", "0", *arguments)
        return event["text"]

    def test_adapters_come_change_and_go(self):
        given = self.train("given", 1)
        shelf = self.folder / "shelf"
        shelf.mkdir()
        (shelf / "notes").mkdir()  # no adapter
        (shelf / "notes.txt").write_text("none either")
        server = Server(self, "--adapter", f"half={given}:0.5", "--adapter", given, "--adapters",
                        shelf, "--keep", "2")
        self.assertEqual(server.models, ["tiny", "tiny:half", "tiny:given"])

        def answer(model):
            status, got = server.chat(model=model, temperature=0, max_tokens=12)
            if status != 200:
                return status, got["error"]["code"]
            return got["model"], got["choices"][0]["message"]["content"]

        base, trained = self.text(), self.text("--adapter", given)
        self.assertNotEqual(base, trained)
        half = self.text("--adapter", f"{given}:0.5")
        missing = (404, "model_not_found")
        self.assertEqual(answer("tiny:fresh"), missing)
        self.assertEqual(server.chat(temperature=0)[1]["model"], "tiny:half")  # the first
        for _ in range(2):
            self.assertEqual(answer("tiny"), ("tiny", base))
            self.assertEqual(answer("tiny:given"), ("tiny:given", trained))
            self.assertEqual(answer("base:half"), ("tiny:half", half))
        # one comes
        first = self.train("first", 2)
        shutil.copytree(first, shelf / "fresh")
        self.assertEqual(answer("tiny:fresh"), ("tiny:fresh", self.text("--adapter", first)))
        _, _, data = server.ask("GET", "/v1/models")
        self.assertEqual([model["id"] for model in json.loads(data)["data"]][-1], "tiny:fresh")
        # another takes its place
        second = self.train("second", 3, 20)
        self.assertNotEqual(self.text("--adapter", first), self.text("--adapter", second))
        shutil.rmtree(shelf / "fresh")
        shutil.copytree(second, shelf / "fresh")
        self.assertEqual(answer("tiny:fresh"), ("tiny:fresh", self.text("--adapter", second)))
        # a GGUF file is one too; a damaged one is told of, and nothing else suffers
        shutil.copy(second / "adapter.gguf", shelf / "file.gguf")
        self.assertEqual(answer("tiny:file")[0], "tiny:file")
        (shelf / "broken.gguf").write_bytes(b"GGUF" + bytes(40))
        status, got = server.chat(model="tiny:broken")
        self.assertEqual(status, 500)
        self.assertIn("broken.gguf", got["error"]["message"])
        shutil.rmtree(shelf / "fresh")
        self.assertEqual(answer("tiny:fresh"), missing)
        for name in ("../given", "..", "notes", "", "half/", "fresh\u0000"):
            self.assertIn(answer("tiny:" + name), [missing, (400, "invalid_json")], name)
        self.assertEqual(answer("tiny"), ("tiny", base))
        self.assertEqual(server.close(), 0)

    def test_refused_before_it_listens(self):
        a, b = self.train("one/run", 1, 1), self.train("two/run", 2, 1)
        serve = ["serve", "--model", TINY, "--port", "0"]
        self.refused(USAGE, ["both called run", "other="], *serve, "--adapter", a, "--adapter", b)
        self.refused(USAGE, ["nowhere"], *serve, "--adapter", self.folder / "nowhere")
        self.refused(USAGE, ["nowhere", "folder"], *serve, "--adapters", self.folder / "nowhere")
        self.refused(USAGE, ["nowhere"], "serve", "--model", self.folder / "nowhere")
        self.refused(USAGE, ["--model is needed"], "serve")
        self.refused(USAGE, ["--port", "70000"], "serve", "--model", TINY, "--port", "70000")
        self.refused(USAGE, ["--key-file", "255"], *serve, "--key-file", self.write("key", ""))
        self.refused(USAGE, ["--key-file"], *serve, "--key-file", self.folder / "nowhere")
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            self.refused(WORK, [port, "in use", "--port"], "serve", "--model", TINY, "--port", port)


@unittest.skipUnless(BUILT, "built without libmicrohttpd")
class Refusals(Case):
    def test_bad_requests(self):
        server = Server(self)
        user = {"role": "user", "content": "a"}
        chat, text = "/v1/chat/completions", "/v1/completions"
        for path, body, want in [
                (chat, b"", "not JSON"), (chat, b"{", "not JSON"), (chat, b"\xff\xfe", "not JSON"),
                (chat, b"[]", "object"), (chat, b"[" * 100000, "not JSON"), (chat, {}, "messages"),
                (chat, {"messages": []}, "messages"), (chat, {"messages": "a"}, "messages"),
                (chat, {"messages": [1]}, "messages[0]"),
                (chat, {"messages": [user, {"role": "user"}]}, "messages[1]"),
                (chat, {"messages": [{"role": "", "content": "a"}]}, "messages[0]"),
                (chat, {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "text"),
                (chat, {"messages": [{"role": "user", "content": "a\0b"}]}, "not JSON"),
                (chat, {"messages": [user], "temperature": -1}, "temperature"),
                (chat, {"messages": [user], "temperature": "hot"}, "temperature"),
                (chat, {"messages": [user], "top_p": 1.5}, "top_p"),
                (chat, {"messages": [user], "max_tokens": 0}, "max_tokens"),
                (chat, {"messages": [user], "max_tokens": 1e30}, "max_tokens"),
                (chat, {"messages": [user], "seed": "x"}, "seed"),
                (chat, {"messages": [user], "stop": ""}, "stop"),
                (chat, {"messages": [user], "stop": ["a"] * 17}, "stop"),
                (chat, {"messages": [user], "stream": 1}, "stream"),
                (chat, {"messages": [user], "stream_options": 1}, "stream_options"),
                (chat, {"messages": [user], "n": 2}, "n"),
                (chat, {"messages": [user], "tools": [{"type": "function"}]}, "tools"),
                (chat, {"messages": [user], "logprobs": True}, "logprobs"),
                (chat, {"messages": [user], "response_format": {"type": "json_object"}}, "format"),
                (chat, {"messages": [user], "model": 1}, "model"),
                (chat, {"messages": [{"role": "user", "content": "a " * 5000}]}, "tokens"),
                (text, {"prompt": ""}, "prompt"), (text, {"prompt": ["a", "b"]}, "prompt"),
                (text, {"messages": [user]}, "prompt"), (text, {"prompt": [1, 2]}, "prompt")]:
            status, _, data = server.ask("POST", path, body)
            error = json.loads(data)["error"]
            self.assertEqual(status, 400, (body, error))
            self.assertEqual(error["type"], "invalid_request_error")
            self.assertIn(want, error["message"], body)
        harmless = {"n": 1, "user": "me", "tools": [], "logit_bias": None, "frequency_penalty": 0,
                    "response_format": {"type": "text"}, "metadata": {}, "stop": None}
        self.assertEqual(server.chat(max_tokens=1, **harmless)[0], 200)
        status, got = server.chat(messages=[{"role": "user", "content": "a " * 5000}])
        self.assertEqual(got["error"]["code"], "context_length_exceeded")
        status, got = server.chat(messages=[{"role": "user", "content": "a " * 5000}], stream=True)
        self.assertEqual((status, got["error"]["code"]), (400, "context_length_exceeded"))
        self.assertEqual(server.close(), 0)

    def test_long_answers_are_bounded(self):
        """By the context, whatever is asked; the last token has its place in it."""
        server = Server(self, "--context", "100000")
        self.assertIn("--context 100000 is more than the model was made for: it is 256",
                      server.said())
        for asked in (256, 2**31, 2**63 - 1):
            status, got = server.chat(max_tokens=asked, temperature=0)
            self.assertEqual(status, 200, got)
            usage = got["usage"]
            self.assertEqual(got["choices"][0]["finish_reason"], "length")
            self.assertEqual(usage["prompt_tokens"] + usage["completion_tokens"], 256)
            self.assertEqual(usage["total_tokens"], 256)
        for wrong in (0, -1, 1.5, 1e30, "many"):
            status, got = server.chat(max_tokens=wrong)
            self.assertEqual(status, 400)
            self.assertIn("max_tokens: want a whole number", got["error"]["message"])

    def test_adapters_that_cannot_be_used_are_not_offered(self):
        folder = self.folder / "all"
        folder.mkdir()
        self.events("finetune", "--model", TINY, "--data", self.write("d.jsonl", CHAT), "--out",
                    folder / "good", "--steps", "1", "--eval-split", "0")
        (folder / "model.gguf").symlink_to(TINY)
        (folder / "text.gguf").write_text("no model")
        shutil.copytree(folder / "good", folder / "half")
        (folder / "half" / "adapter_model.safetensors").write_bytes(b"short")
        server = Server(self, "--adapters", folder)
        self.assertEqual(server.models, ["tiny", "tiny:good"])
        notes = [line for line in server.said().splitlines() if "not offered" in line]
        self.assertEqual(len(notes), 3)
        for name in ("model.gguf", "text.gguf", "half"):
            self.assertTrue(any(name in note for note in notes), notes)
        status, got = server.chat(model="tiny:half")
        self.assertEqual(status, 404)
        # Written anew it is another.
        shutil.copy(folder / "good" / "adapter_model.safetensors", folder / "half")
        self.assertEqual(server.chat(model="tiny:half", max_tokens=1)[0], 200)

    def test_context_bounds_prompt_and_answer(self):
        server = Server(self, "--context", "48")
        status, got = server.chat(max_tokens=1000, temperature=0)
        usage = got["usage"]
        self.assertEqual(status, 200)
        if got["choices"][0]["finish_reason"] == "length":
            self.assertEqual(usage["total_tokens"], 48)
        status, got = server.post("/v1/completions", prompt="a b c d " * 30)
        self.assertEqual((status, got["error"]["code"]), (400, "context_length_exceeded"))
        self.assertIn("limit is 48", got["error"]["message"])

    def test_large_bodies(self):
        server = Server(self, "--max-body", "4K")
        fine = {"messages": MESSAGES, "max_tokens": 1, "user": "x" * 3000}
        self.assertEqual(server.post(**fine)[0], 200)
        before = server.rss()
        for size in (5000, 60000, 10_000_000):
            with server.socket() as client:
                head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n"
                client.sendall(head.encode())
                try:
                    client.sendall(b"x" * min(size, 100000))
                except OSError:
                    pass  # it was told no before it had sent all
                self.assertIn(b" 413 ", client.recv(4096))
        with server.socket() as client:  # of a length that is not said
            client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: a.localhost\r\n"
                           .replace(b"a.", b"") + b"Transfer-Encoding: chunked\r\n\r\n")
            for _ in range(5):
                client.sendall(b"400\r\n" + b"x" * 1024 + b"\r\n")
            client.sendall(b"0\r\n\r\n")
            self.assertIn(b" 413 ", client.recv(4096))
        with server.socket() as client:  # and without an end
            client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
                           b"Transfer-Encoding: chunked\r\n\r\n")
            with self.assertRaises(OSError):
                for _ in range(100000):
                    client.sendall(b"1000\r\n" + b"x" * 4096 + b"\r\n")
        self.assertLess(server.rss() - before, 16 << 20)
        self.assertEqual(server.post(**fine)[0], 200)

    def test_who_may_ask(self):
        server = Server(self, "--allow-host", "box.example")
        here = f"127.0.0.1:{server.port}"
        for headers, want in [
                ({}, 200), ({"Host": "localhost"}, 200), ({"Host": "[::1]:1"}, 200),
                ({"Host": "BOX.example:80"}, 200), ({"Host": "evil.example"}, 403),
                ({"Host": "localhost.evil.example"}, 403), ({"Host": "127.0.0.1.evil"}, 403),
                ({"Host": ""}, 403), ({"Host": "["}, 403),
                ({"Host": here, "Origin": f"http://{here}"}, 200),
                ({"Host": here, "Origin": "http://evil.example"}, 403),
                ({"Host": here, "Origin": "null"}, 403)]:
            for path in ("/", "/v1/models", "/health"):
                self.assertEqual(server.ask("GET", path, headers=headers)[0], want, headers)
            status = server.ask("POST", "/v1/completions", {"prompt": "a", "max_tokens": 1}, headers)[0]
            self.assertEqual(status, want, headers)

    def test_key(self):
        for server in (Server(self, "--key-file", self.write("key", "secret words\n")),
                       Server(self, environment={"HONE_API_KEY": "secret words"})):
            for key, want in [(None, 401), ("Bearer secret", 401), ("Bearer secret words", 200),
                              ("Bearer secret wordss", 401), ("Basic secret words", 401),
                              ("bearer secret words", 200)]:
                headers = {"Authorization": key} if key else {}
                status, got, _ = server.ask("GET", "/v1/models", headers=headers)
                self.assertEqual(status, want, key)
                self.assertEqual(got["WWW-Authenticate"], "Bearer" if want == 401 else None)
                status = server.ask("POST", "/v1/completions", {"prompt": "a", "max_tokens": 1},
                                    headers)[0]
                self.assertEqual(status, want, key)
            self.assertEqual(server.ask("GET", "/health")[0], 200)
            server.close()
            self.assertNotIn("secret", server.said())

    def test_other_machines_only_when_asked(self):
        server = Server(self, "--host", "0.0.0.0")
        self.assertIn("warning: other machines can reach this server, and no key", server.said())
        self.assertEqual(server.ask("GET", "/health")[0], 200)
        server = Server(self)
        self.assertNotIn("warning", server.said())


@unittest.skipUnless(BUILT, "built without libmicrohttpd")
class Crowds(Case):
    def test_a_crowd_gets_the_same_answers(self):
        server = Server(self)
        want = server.chat(temperature=0, max_tokens=20)[1]["choices"]
        before = server.rss()

        def client(number):
            if number % 2:
                return joined(server.stream(temperature=0, max_tokens=20))
            return server.chat(temperature=0, max_tokens=20)[1]["choices"][0]["message"]["content"]

        with concurrent.futures.ThreadPoolExecutor(CROWD) as pool:
            for text in pool.map(client, range(3 * CROWD)):
                self.assertEqual(text, want[0]["message"]["content"])
        self.assertLess(server.rss() - before, 64 << 20)
        self.assertEqual(server.close(), 0)

    def test_slow_readers_and_lost_clients_hold_nobody_up(self):
        server = Server(self)
        want = server.chat(temperature=0, max_tokens=20)[1]["choices"]
        before = server.rss()
        body = {"messages": MESSAGES, "max_tokens": 400, "stream": True, "temperature": 1}
        slow = []
        for number in range(CROWD):
            client = server.socket(room=4096)
            if number % 4 == 1:  # gone in the middle of the request
                client.sendall(request_bytes(body)[:-5 - number])
                client.close()
            elif number % 4 == 2:  # gone while it waits
                client.sendall(request_bytes({**body, "stream": number % 8 == 2}))
                client.close()
            elif number % 4 == 3:  # gone, and rudely
                client.sendall(request_bytes(body))
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
            else:  # asks, and does not read
                client.sendall(request_bytes(body))
                slow.append(client)
        # The slow ones have read nothing yet; others are answered meanwhile.
        for _ in range(3):
            self.assertEqual(server.chat(temperature=0, max_tokens=20)[1]["choices"], want)
        self.assertLess(server.rss() - before, 64 << 20)
        for client in slow:
            whole = b""
            while not whole.endswith(b"\r\n0\r\n\r\n"):
                piece = client.recv(1000)
                self.assertTrue(piece, whole[-200:])
                whole += piece
            self.assertIn(b" 200 ", whole[:20])
            self.assertIn(b"data: [DONE]\n\n", whole)
            client.close()
        self.wait_for(lambda: json.loads(server.ask("GET", "/health")[2]),
                      {"status": "ok", "waiting": 0, "open": 1})
        self.assertEqual(server.close(), 0)

    def wait_for(self, look, want):
        for _ in range(600):
            seen = look()
            if seen == want:
                return
            time.sleep(0.1)
        self.assertEqual(seen, want)

    def test_a_full_queue_says_so(self):
        server = Server(self, "--queue", "2")
        whole = request_bytes({"messages": MESSAGES, "max_tokens": 400, "temperature": 1})
        clients = [server.socket() for _ in range(CROWD)]
        for client in clients:
            client.sendall(whole[:-1])
        for client in clients:
            client.sendall(whole[-1:])
        seen = set()
        for client in clients:
            answer = http.client.HTTPResponse(client)
            answer.begin()
            got = json.loads(answer.read())
            seen.add(answer.status)
            if answer.status == 429:
                self.assertEqual(got["error"]["code"], "queue_full")
                self.assertTrue(answer.headers["Retry-After"])
            client.close()
        self.assertEqual(seen, {200, 429})
        self.assertEqual(server.chat(max_tokens=1)[0], 200)

    def test_a_request_that_takes_too_long_to_come(self):
        server = Server(self, "--timeout", "0.3")
        whole = request_bytes({"messages": MESSAGES, "max_tokens": 1})
        with server.socket() as client:
            client.sendall(whole[:-1])
            time.sleep(0.4)
            client.sendall(whole[-1:])
            self.assertIn(b" 408 ", client.recv(4096))

    def test_it_ends_in_the_middle_of_answers(self):
        server = Server(self)
        body = {"messages": MESSAGES, "max_tokens": 400, "stream": True, "temperature": 1}
        clients = [server.socket() for _ in range(40)]
        for client in clients:
            client.sendall(request_bytes(body))
        begun = {clients[0]: clients[0].recv(100)}
        self.assertEqual(server.close(), 0)
        statuses = set()
        for client in clients:
            data = begun.get(client, b"")
            try:
                while piece := client.recv(65536):
                    data += piece
            except OSError:
                pass
            statuses.add(data[9:12])
            client.close()
        self.assertLessEqual(statuses, {b"200", b"503", b""})
        self.assertIn("", [server.said()])


if __name__ == "__main__":
    main()
