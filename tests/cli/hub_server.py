# SPDX-License-Identifier: Apache-2.0
"""A model hub on loopback, as far as hone pull and huggingface_hub ask one, and with faults."""
import hashlib
import http.server
import json
import ssl
import threading
import urllib.parse

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def blob_name(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Hub:
    """Files of one repository. Names in `large` lie in LFS: their bytes come from another host."""

    def __init__(self, files, large=(), repository="owner/name", certificate=None):
        self.files, self.large, self.repository = dict(files), set(large), repository
        self.requests = []        # (host, method, path as it came, headers)
        self.token = None         # wanted, where it is not None
        self.faults = []          # of answers to come: callables (handler, name) → True if it answered
        self.listing = None       # instead of the true list
        self.store = Server(self, "store")
        self.home = Server(self, "home", certificate)
        self.url = self.home.url

    def close(self):
        self.home.close()
        self.store.close()

    def etag(self, name):
        content = self.files[name]
        return hashlib.sha256(content).hexdigest() if name in self.large else blob_name(content)

    def list(self):
        if self.listing is not None:
            return self.listing
        siblings = []
        for name, content in self.files.items():
            entry = {"rfilename": name, "size": len(content), "blobId": blob_name(content)}
            if name in self.large:
                entry["lfs"] = {"sha256": self.etag(name), "size": len(content), "pointerSize": 134}
            siblings.append(entry)
        return json.dumps({"id": self.repository, "sha": COMMIT, "siblings": siblings}).encode()

    def tree(self):
        """What huggingface_hub asks for instead."""
        entries = []
        for name, content in self.files.items():
            entry = {"type": "file", "path": name, "size": len(content), "oid": blob_name(content)}
            if name in self.large:
                entry["lfs"] = {"oid": self.etag(name), "size": len(content), "pointerSize": 134}
            entries.append(entry)
        return json.dumps(entries).encode()

    def asked(self, method, part):
        return [entry for entry in self.requests if entry[1] == method and part in entry[2]]


class Server:
    def __init__(self, hub, role, certificate=None):
        class Handler(Answers):
            pass

        Handler.hub, Handler.role = hub, role
        self.server = Quiet(("127.0.0.1", 0), Handler)
        scheme = "http"
        if certificate:  # a file with the key too
            scheme = "https"
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = "%s://127.0.0.1:%d" % (scheme, self.server.server_address[1])
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Quiet(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """A client that hangs up is what some tests are about."""


class Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub = role = None

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.answer()

    def do_HEAD(self):
        self.answer()

    def answer(self):
        path, _, _ = self.path.partition("?")
        path = urllib.parse.unquote(path)
        self.hub.requests.append((self.role, self.command, self.path, dict(self.headers)))
        name = path.partition("/resolve/")[2].partition("/")[2] or path.rpartition("/store/")[2]
        for fault in list(self.hub.faults):
            if fault(self, name):
                return
        if self.role == "home" and self.hub.token is not None and \
                self.headers.get("Authorization") != "Bearer " + self.hub.token:
            self.send(401, b"", {"X-Error-Message": "Invalid credentials"})
        elif path.startswith("/api/models/%s/revision/" % self.hub.repository):
            self.send(200, self.hub.list())
        elif path.startswith("/api/models/%s/tree/" % self.hub.repository):
            self.send(200, self.hub.tree(), {"Content-Type": "application/json"})
        elif name in self.hub.files and self.hub.repository in path:
            self.resolve(name)
        elif self.role == "store" and name in self.hub.files:
            self.content(name, {})
        else:
            self.send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Not here"})

    def resolve(self, name):
        about = {"X-Repo-Commit": COMMIT}
        content = self.hub.files[name]
        if name in self.hub.large:
            about.update({"X-Linked-ETag": '"%s"' % self.hub.etag(name),
                          "X-Linked-Size": str(len(content)),
                          "Location": self.hub.store.url + "/store/" + urllib.parse.quote(name)})
            self.send(302, b"", about)
        else:
            about["ETag"] = '"%s"' % self.hub.etag(name)
            self.content(name, about)

    def content(self, name, about):
        content, wanted = self.hub.files[name], self.headers.get("Range")
        about = dict(about)
        same = self.headers.get("If-Range") in (None, about.get("ETag"))
        if wanted and same:
            begin = int(wanted[len("bytes="):].rstrip("-"))
            if begin >= len(content):
                return self.send(416, b"", {"Content-Range": "bytes */%d" % len(content)})
            about["Content-Range"] = "bytes %d-%d/%d" % (begin, len(content) - 1, len(content))
            return self.send(206, content[begin:], about)
        return self.send(200, content, about)

    def send(self, status, body, about=(), length=None):
        """The body whole; with `length` what is announced is that."""
        self.send_response(status)
        for key, value in dict(about).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        if length is not None and length != len(body):
            self.close_connection = True
