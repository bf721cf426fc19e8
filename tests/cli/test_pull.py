# SPDX-License-Identifier: Apache-2.0
"""hone pull against a hub on loopback: what it fetches, where it puts it, and every fault."""
import gzip
import json
import os
import shutil
import signal
import subprocess
import threading
import unittest

from hub_server import COMMIT, Hub, blob_name
from support import HONE, TEXTS, TINY, Case, main

USAGE, WORK, INTERRUPTED = 2, 1, 130
LARGE = bytes(range(256)) * 1200  # 307,200 bytes
SETTINGS = ("HF_", "HUGGING", "XDG_CACHE", "CURL_CA", "SSL_CERT", "http_proxy", "https_proxy", "all_proxy",
            "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
BUILT = "built without libcurl" not in subprocess.run(
    [HONE, "pull", "a/b", "--endpoint", "http://127.0.0.1:1"], stderr=subprocess.PIPE,
    universal_newlines=True).stderr


@unittest.skipUnless(BUILT, "built without libcurl")
class Pull(Case):
    def setUp(self):
        super().setUp()
        self.cache = self.folder / "cache"
        self.environment = {key: value for key, value in os.environ.items()
                            if not key.startswith(SETTINGS)}
        self.environment.update(HOME=str(self.folder), HF_HUB_CACHE=str(self.cache))
        self.models = self.cache / "models--owner--name"
        self.snapshot = self.models / "snapshots" / COMMIT

    def hub(self, files, large=()):
        hub = Hub(files, large)
        self.addCleanup(hub.close)
        return hub

    def hone(self, *arguments, **options):
        options.setdefault("env", self.environment)
        return super().hone(*arguments, **options)

    def pull(self, hub, *arguments):
        done = self.hone("pull", "owner/name", "--endpoint", hub.url, "--json", *arguments)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout.splitlines()[-1])

    def fails(self, hub, status, says, *arguments):
        """It fails so, and nothing stands under a name that promises a whole file."""
        done = self.hone("pull", "owner/name", "--endpoint", hub.url, *arguments)
        line = done.stderr.splitlines()[-1]
        self.assertEqual(done.returncode, status, done.stderr)
        self.assertEqual(done.stdout, "")
        for part in says:
            self.assertIn(part, line)
        self.assertFalse((self.models / "refs" / "main").exists())
        return done.stderr

    # ---- what is fetched, and where it lies

    def test_folder(self):
        files = {"config.json": b"{}", "model.safetensors": LARGE, "tokenizer.json": b"{ }",
                 "README.md": b"# words", "pytorch_model.bin": b"pickle", "onnx/model.onnx": b"o",
                 "flax_model.msgpack": b"f", "1_Pooling/config.json": b"{\"a\": 1}"}
        hub = self.hub(files, {"model.safetensors"})
        done = self.pull(hub)
        self.assertEqual(done["path"], str(self.snapshot))
        self.assertEqual((done["commit"], done["files"]), (COMMIT, 4))
        self.assertEqual(done["bytes"], done["received"])
        found = {str(path.relative_to(self.snapshot)) for path in self.snapshot.rglob("*")
                 if path.is_file()}
        self.assertEqual(found, {"config.json", "model.safetensors", "tokenizer.json",
                                 "1_Pooling/config.json"})
        for name in found:
            link = self.snapshot / name
            self.assertTrue(link.is_symlink())
            self.assertEqual(link.resolve(), self.models.resolve() / "blobs" / hub.etag(name))
            self.assertEqual(link.read_bytes(), files[name])
        self.assertEqual((self.models / "refs" / "main").read_text(), COMMIT)
        before = len(hub.requests)
        self.assertEqual(self.pull(hub)["received"], 0)
        self.assertEqual(len(hub.requests), before + 1)  # the list alone

    def test_parts_of_a_folder(self):
        files = {"config.json": b"{}", "model.safetensors.index.json": b"{}",
                 "model-00001-of-00002.safetensors": b"1", "model-00002-of-00002.safetensors": b"2",
                 "consolidated.safetensors": b"3", "other/model.safetensors": b"4"}
        self.assertEqual(self.pull(self.hub(files))["files"], 4)
        self.assertFalse((self.snapshot / "consolidated.safetensors").exists())

    def test_adapter(self):
        files = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"1", "a.bin": b""}
        self.assertEqual(self.pull(self.hub(files))["files"], 2)

    def test_one_gguf_file_is_a_model_by_its_name(self):
        hub = self.hub({"tiny.gguf": TINY.read_bytes(), "README.md": b""}, {"tiny.gguf"})
        self.assertEqual(self.pull(hub)["path"], str(self.snapshot / "tiny.gguf"))
        data = self.write("data.jsonl", TEXTS)
        for model in ("owner/name", "owner/name/tiny.gguf"):
            done = self.hone("eval", "--model", model, "--data", data, "--json")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(self.hone("inspect", model).returncode, 0)
            self.assertEqual(self.hone("tokenize", "--model", model).returncode, 0)
        self.refused(USAGE, ["owner/other", "hone pull"], "eval", "--model", "owner/other",
                     "--data", data)

    def test_several_gguf_files(self):
        hub = self.hub({"a.gguf": TINY.read_bytes(), "b.gguf": TINY.read_bytes(),
                        "c-00001-of-00002.gguf": b"1", "c-00002-of-00002.gguf": b"2",
                        "d-00002-of-00003.gguf": b"2"})
        self.fails(hub, USAGE, ["3 GGUF models", "--file", "a.gguf, b.gguf"])
        self.assertEqual(self.pull(hub, "--file", "b.gguf")["files"], 1)
        self.assertEqual(self.pull(hub, "--file", "c-00001-of-00002.gguf")["files"], 2)
        self.refused(USAGE, ["owner/name/FILE", "b.gguf"], "inspect", "owner/name")
        self.assertEqual(self.hone("inspect", "owner/name/b.gguf").returncode, 0)

    def test_pickles_are_refused_with_the_line_that_converts_them(self):
        hub = self.hub({"config.json": b"{}", "pytorch_model.bin": b"1"})
        self.fails(hub, USAGE, ["pytorch_model.bin", "pickle", "save_pretrained"])
        self.fails(hub, USAGE, ["pickle"], "--file", "pytorch_model.bin")
        self.assertEqual(hub.asked("GET", "/resolve/"), [])

    def test_nothing_to_read(self):
        self.fails(self.hub({"README.md": b""}), USAGE, ["no model", "safetensors"])
        self.fails(self.hub({"a.gguf": b""}), USAGE, ["no file b.gguf", "a.gguf"], "--file", "b.gguf")

    def test_revision(self):
        hub = self.hub({"model.safetensors": b"1"})
        self.pull(hub, "--revision", "refs/pr/1")
        self.assertEqual((self.models / "refs/refs/pr/1").read_text(), COMMIT)
        self.assertEqual(len(hub.asked("GET", "/revision/refs%2Fpr%2F1?")), 1)

    def test_places(self):
        hub = self.hub({"model.safetensors": b"1"})
        for settings, place in (({"HF_HOME": "a"}, "a/hub"), ({"XDG_CACHE_HOME": "b"},
                                "b/huggingface/hub"), ({}, ".cache/huggingface/hub")):
            settings = {key: str(self.folder / value) for key, value in settings.items()}
            self.environment.pop("HF_HUB_CACHE", None)
            environment = dict(self.environment, **settings)
            done = self.hone("pull", "owner/name", "--endpoint", hub.url, env=environment)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertTrue((self.folder / place / "models--owner--name/refs/main").exists())

    # ---- the token

    def test_token_from_each_place_and_to_no_other_host(self):
        hub = self.hub({"model.safetensors": LARGE}, {"model.safetensors"})
        hub.token = "hf_secret"
        self.fails(hub, USAGE, ["401", "HF_TOKEN"])
        self.write("token", "hf_secret\n")
        home = self.folder / ".cache" / "huggingface"
        home.mkdir(parents=True)
        for settings in ({"HF_TOKEN": "hf_secret"}, {"HF_TOKEN_PATH": str(self.folder / "token")},
                         None):
            if settings is None:
                (home / "token").write_text(" hf_secret ")
            environment = dict(self.environment, **(settings or {}))
            environment["HF_HUB_CACHE"] = str(self.folder / f"cache{len(hub.requests)}")
            done = self.hone("pull", "owner/name", "--endpoint", hub.url, env=environment)
            self.assertEqual(done.returncode, 0, done.stderr)
        stored = [entry for entry in hub.requests if entry[0] == "store"]
        self.assertEqual(len(stored), 3)
        for _, _, _, headers in stored:
            self.assertNotIn("Authorization", headers)
        hub.token = "another"
        environment["HF_TOKEN"] = "hf_secret"
        environment["HF_HUB_CACHE"] = str(self.folder / "none")
        done = self.hone("pull", "owner/name", "--endpoint", hub.url, env=environment)
        self.assertEqual(done.returncode, USAGE)
        self.assertNotIn("hf_secret", done.stderr)

    def test_no_token_that_breaks_a_header(self):
        self.environment["HF_TOKEN"] = "a\r\nX-Evil: 1"
        self.fails(self.hub({"model.safetensors": b"1"}), USAGE, ["HF_TOKEN"])

    @unittest.skipUnless(shutil.which("openssl"), "no openssl to make a certificate with")
    def test_tls_is_verified_and_never_left(self):
        made = self.folder / "server.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj",
                        "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2",
                        "-keyout", made, "-out", self.folder / "authority.pem"], check=True,
                       stderr=subprocess.DEVNULL)
        with open(made, "ab") as file:
            file.write((self.folder / "authority.pem").read_bytes())
        hub = Hub({"model.safetensors": LARGE, "config.json": b"{}"}, certificate=made)
        self.addCleanup(hub.close)
        self.fails(hub, WORK, ["cannot be trusted"])
        self.environment["SSL_CERT_FILE"] = str(self.folder / "authority.pem")
        self.assertEqual(self.pull(hub)["files"], 2)
        (self.models / "refs" / "main").unlink()
        (self.snapshot / "model.safetensors").unlink()
        (self.models / "blobs" / hub.etag("model.safetensors")).unlink()
        hub.large.add("model.safetensors")  # from a host without TLS
        self.fails(hub, USAGE, ["from https to"])

    # ---- broken lines

    def test_goes_on_where_it_broke_off(self):
        hub = self.hub({"model.safetensors": LARGE}, {"model.safetensors"})
        cuts = [100000, 50000]

        def cut(handler, name):
            if handler.role != "store" or not cuts:
                return False
            size, begin = cuts.pop(0), len(LARGE) - left(handler)
            handler.send(206 if begin else 200, LARGE[begin:begin + size], length=len(LARGE) - begin,
                         about={"Content-Range": "bytes %d-%d/%d" % (begin, len(LARGE) - 1,
                                                                     len(LARGE))})
            return True

        def left(handler):
            wanted = handler.headers.get("Range")
            return len(LARGE) - (int(wanted[6:-1]) if wanted else 0)

        hub.faults.append(cut)
        done = self.pull(hub)
        self.assertEqual(done["received"], len(LARGE))  # nothing twice
        self.assertEqual([entry[3].get("Range") for entry in hub.asked("GET", "/store/")],
                         [None, "bytes=100000-", "bytes=150000-"])
        self.assertEqual((self.snapshot / "model.safetensors").read_bytes(), LARGE)

    def part_of(self, hub, name, content):
        part = self.models / "blobs" / (hub.etag(name) + ".incomplete")
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        return part

    def test_goes_on_from_what_an_earlier_call_left(self):
        hub = self.hub({"model.safetensors": LARGE, "config.json": LARGE[5:]},
                       {"model.safetensors"})
        self.part_of(hub, "model.safetensors", LARGE[:200000])
        self.part_of(hub, "config.json", LARGE[5:7])
        self.assertEqual(self.pull(hub)["received"], 2 * len(LARGE) - 5 - 200000 - 2)
        [(_, _, _, headers)] = hub.asked("GET", "config.json")
        self.assertEqual(headers["If-Range"], '"%s"' % hub.etag("config.json"))

    def test_server_without_ranges_sends_it_anew(self):
        hub = self.hub({"model.safetensors": LARGE}, {"model.safetensors"})
        self.part_of(hub, "model.safetensors", LARGE[:200000])

        def whole(handler, name):
            if handler.role == "store":
                handler.send(200, LARGE)
            return handler.role == "store"

        hub.faults.append(whole)
        self.assertEqual(self.pull(hub)["received"], len(LARGE))

    def test_what_was_there_before_is_of_another_file(self):
        hub = self.hub({"model.safetensors": LARGE}, {"model.safetensors"})
        for part in (b"x" * 1000, b"x" * len(LARGE), b"x" * (len(LARGE) + 1)):
            self.part_of(hub, "model.safetensors", part)
            self.pull(hub)
            self.assertEqual((self.snapshot / "model.safetensors").read_bytes(), LARGE)
            (self.models / "blobs" / hub.etag("model.safetensors")).unlink()

    def test_gives_up_where_nothing_more_comes(self):
        hub = self.hub({"model.safetensors": LARGE}, {"model.safetensors"})
        hub.faults.append(lambda handler, name: handler.role == "store" and (
            handler.send(206, b"", {"Content-Range": "bytes 0-1/%d" % len(LARGE)}), True)[1])
        self.fails(hub, WORK, ["0 of 307200 bytes"])

    def test_interrupted_leaves_a_part_to_go_on_from(self):
        hub = self.hub({"model.safetensors": LARGE}, {"model.safetensors"})
        sent, go_on = threading.Event(), threading.Event()

        def stall(handler, name):
            if handler.role != "store":
                return False
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(LARGE)))
            handler.end_headers()
            handler.wfile.write(LARGE[:100000])
            sent.set()
            go_on.wait(60)
            handler.close_connection = True
            return True

        hub.faults.append(stall)
        self.addCleanup(go_on.set)
        process = subprocess.Popen([HONE, "pull", "owner/name", "--endpoint", hub.url],
                                   env=self.environment, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, universal_newlines=True)
        self.assertTrue(sent.wait(60))
        part = self.models / "blobs" / (hub.etag("model.safetensors") + ".incomplete")
        while not part.exists() or part.stat().st_size < 100000:
            self.assertIsNone(process.poll())
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        self.assertEqual(process.returncode, INTERRUPTED, said)
        self.assertIn("goes on from there", said)
        self.assertFalse((self.models / "refs" / "main").exists())
        hub.faults.clear()
        self.assertEqual(self.pull(hub)["received"], len(LARGE) - 100000)

    # ---- servers that are busy, wrong or hostile

    def test_busy_server_is_asked_again(self):
        hub = self.hub({"model.safetensors": LARGE, "config.json": b"{}"}, {"model.safetensors"})
        answers = [429, 503, 500, 502]

        def busy(handler, name):
            if not answers:
                return False
            handler.send(answers.pop(0), b"later", {"Retry-After": "0"})
            return True

        hub.faults.append(busy)
        self.assertEqual(self.pull(hub)["files"], 2)

    def test_busy_for_good(self):
        for status in (429, 503):
            hub = self.hub({"model.safetensors": b"1"})
            hub.faults.append(lambda handler, name, status=status: (
                handler.send(status, b"", {"Retry-After": "0"}), True)[1])
            self.fails(hub, WORK if status == 503 else USAGE, [str(status)])
        hub.faults[0] = lambda handler, name: (
            handler.send(429, b"", {"Retry-After": "100000"}), True)[1]
        self.fails(hub, USAGE, ["429"])  # and does not sleep for a day

    def test_not_there(self):
        hub = self.hub({"model.safetensors": b"1"})
        done = self.hone("pull", "owner/gone", "--endpoint", hub.url)
        self.assertEqual(done.returncode, USAGE)
        self.assertIn("404: Not here", done.stderr)
        hub.faults.append(lambda handler, name: name == "model.safetensors" and (
            handler.send(403, b"", {"X-Error-Message": "gated"}), True)[1])
        self.fails(hub, USAGE, ["403: gated"])

    def test_nobody_there(self):
        done = self.hone("pull", "owner/name", "--endpoint", "http://127.0.0.1:1")
        self.assertEqual(done.returncode, WORK)
        self.assertIn("127.0.0.1", done.stderr)

    def test_wrong_checksum(self):
        hub = self.hub({"model.safetensors": LARGE, "config.json": b"{}"}, {"model.safetensors"})
        true = hub.files["model.safetensors"]
        hub.faults.append(lambda handler, name: handler.role == "store" and (
            handler.send(200, b"x" + true[1:]), True)[1])
        self.fails(hub, WORK, ["checksum", hub.etag("model.safetensors"), "thrown away"])
        self.assertEqual(list((self.models / "blobs").iterdir()), [])
        hub.faults[0] = lambda handler, name: name == "config.json" and \
            handler.command == "GET" and (handler.send(200, b"[]"), True)[1]
        self.fails(hub, WORK, ["checksum", hub.etag("config.json")])

    def test_more_than_announced(self):
        hub = self.hub({"model.safetensors": LARGE}, {"model.safetensors"})
        hub.faults.append(lambda handler, name: handler.role == "store" and (
            handler.send(200, LARGE * 3), True)[1])
        self.fails(hub, USAGE, ["more than the 307200 bytes"])
        for path in (self.models / "blobs").iterdir():
            self.assertLessEqual(path.stat().st_size, len(LARGE))

    def test_sizes_that_disagree(self):
        hub = self.hub({"model.safetensors": b"12"})
        hub.faults.append(lambda handler, name: handler.command == "HEAD" and (
            handler.send(200, b"", {"ETag": '"%s"' % blob_name(b"12")}, length=9), True)[1])
        self.fails(hub, USAGE, ["9 bytes", "list 2"])

    def test_ranges_that_were_not_asked_for(self):
        hub = self.hub({"model.safetensors": LARGE}, {"model.safetensors"})
        self.part_of(hub, "model.safetensors", LARGE[:1000])
        hub.faults.append(lambda handler, name: handler.role == "store" and (
            handler.send(206, LARGE[7:], {"Content-Range": "bytes 7-307199/307200"}), True)[1])
        self.fails(hub, USAGE, ["from 7 of 307200", "from 1000"])

    def test_compressed_answers(self):
        hub = self.hub({"model.safetensors": b"1" * 1000, "config.json": b"{}"})
        squeezed = gzip.compress(b"1" * 1000)
        hub.faults.append(lambda handler, name: name == "model.safetensors" and
                          handler.command == "GET" and (
                              handler.send(200, squeezed, {"Content-Encoding": "gzip"}), True)[1])
        self.fails(hub, USAGE, ["gzip"])
        hub.faults[0] = lambda handler, name: "/api/" in handler.path and (
            handler.send(200, gzip.compress(hub.list()), {"Content-Encoding": "gzip"}), True)[1]
        self.fails(hub, USAGE, ["gzip"])

    def test_redirections(self):
        hub = self.hub({"model.safetensors": b"1", "config.json": b"{}"})
        moved = lambda place: lambda handler, name: name == "model.safetensors" and (  # noqa: E731
            handler.send(307, b"", {"Location": place}), True)[1]
        secret = self.write("secret", "12")
        for place, says in ((f"file://{secret}", "no http or https"), ("ftp://127.0.0.1/x", "ftp"),
                            ("gopher://127.0.0.1:1/x", "no http or https"),
                            (hub.url + "/owner/name/resolve/main/model.safetensors", "more than 10"),
                            (hub.store.url + "/store/model.safetensors", "names no checksum")):
            hub.faults[:] = [moved(place)]
            self.fails(hub, USAGE, [says])
        # A relative one on the same host is followed.
        hub.faults[:] = [lambda handler, name: "resolve-cache" not in handler.path and
                         name == "config.json" and (handler.send(307, b"", {
                             "Location": "/owner/name/resolve/resolve-cache/config.json"}), True)[1]]
        self.assertEqual(self.pull(hub)["files"], 2)

    def test_names_that_lead_out_of_the_cache(self):
        for name in ("../../../evil.safetensors", "/etc/evil.safetensors", "a/../../b.safetensors",
                     "a//b.safetensors", "./model.safetensors", "a\\b.safetensors", "", "a\nb",
                     "x" * 300 + ".safetensors"):
            hub = self.hub({})
            hub.listing = json.dumps({"sha": COMMIT, "siblings": [
                {"rfilename": "model.safetensors"}, {"rfilename": name}]}).encode()
            self.fails(hub, USAGE, ["leads out of the repository"])
            self.assertFalse(self.cache.exists())

    def test_checksums_that_are_paths(self):
        for etag in ("../../../../evil", "a/b", "x" * 64, "0" * 41, ""):
            hub = self.hub({"model.safetensors": b"1"})
            hub.faults.append(lambda handler, name, etag=etag: name == "model.safetensors" and (
                handler.send(200, b"1", {"ETag": f'"{etag}"'}), True)[1])
            self.fails(hub, USAGE, ["no checksum"])
            self.assertEqual(list(self.folder.rglob("evil*")), [])

    def test_lists_that_are_none(self):
        for listing in (b"", b"[]", b"{\"sha\": \"main\", \"siblings\": []}", b"<html>",
                        b"{\"sha\": \"%s\"}" % COMMIT.encode(), b"{\"sha\":\"../../x\",\"siblings\":[]}",
                        b"{\"sha\": \"%s\", \"siblings\": [3]}" % COMMIT.encode(),
                        b"{\"sha\": \"%s\", \"siblings\": [{}]}" % COMMIT.encode()):
            hub = self.hub({})
            hub.listing = listing
            self.fails(hub, USAGE, ["hub"])

    def test_arguments(self):
        for name in ("name", "a/b/c", "../x", "a/..", "-a/b", "a/b--c", "a/b c", "", "/b", "a/"):
            self.refused(USAGE, [], "pull", name)
        self.refused(USAGE, ["--file", "cannot"][1:], "pull", "a/b", "--file", "../x")
        self.refused(USAGE, ["revision"], "pull", "a/b", "--revision", "../x")
        for endpoint in ("file:///etc", "ftp://a", "127.0.0.1"):
            self.refused(USAGE, ["http"], "pull", "a/b", "--endpoint", endpoint)
        self.refused(USAGE, ["which"], "pull")


if __name__ == "__main__":
    main()
