"""A service under test: the built program with the built-in model, on a port of its own."""
import base64
import contextlib
import http.server
import json
import os
import pathlib
import re
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
import zlib

import openai
import pytest

TESTS = pathlib.Path(__file__).resolve().parents[2]
MEDIA = TESTS / "golden/media"  # with expected.json: what the reference makes of them
PROGRAM = pathlib.Path(os.environ.get("INTERNVL_PROGRAM", "build/internvl")).resolve()


class Service:
    def __init__(self, *flags, env=None, model="demo", wait=True):
        self.folder = tempfile.TemporaryDirectory()
        self.log_file = pathlib.Path(self.folder.name) / "log"
        clean = {k: v for k, v in os.environ.items() if not k.startswith("INTERNVL_")}
        self.process = subprocess.Popen(
            [PROGRAM, "serve", model, "--port", "0", "--log-file", self.log_file, *map(str, flags)],
            env={**clean, **(env or {})}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if wait:
            self.wait_for("ready")
        else:
            self.wait_for("listening")
        url = next(line["url"] for line in self.log() if line.get("message") == "listening")
        self.base = url.removesuffix("/v1")
        self.port = int(re.search(r":(\d+)$", self.base)[1])

    def wait_for(self, message, seconds=60):
        end = time.time() + seconds
        while time.time() < end:
            if self.process.poll() is not None:
                raise AssertionError(f"ended early: {self.process.stderr.read()}")
            if any(line.get("message") == message for line in self.log()):
                return
            time.sleep(0.02)
        raise AssertionError(f"no {message!r} in the log")

    def log(self):
        if not self.log_file.exists():
            return []
        return [json.loads(line) for line in self.log_file.read_text().splitlines() if line.endswith("}")]

    def client(self, key="none", **options):
        return openai.OpenAI(base_url=self.base + "/v1", api_key=key, **{"max_retries": 0, **options})

    def async_client(self, key="none", **options):
        return openai.AsyncOpenAI(base_url=self.base + "/v1", api_key=key, **{"max_retries": 0, **options})

    def metrics(self, api_key=None):
        """Samples of /metrics by name and labels."""
        from prometheus_client.parser import text_string_to_metric_families

        text = self.get("/metrics", api_key).body.decode()
        return {(sample.name, frozenset(sample.labels.items())): sample.value
                for family in text_string_to_metric_families(text) for sample in family.samples}

    def metric(self, name, api_key=None, **labels):
        """The sum over all series that have these labels."""
        wanted = set(labels.items())
        return sum(v for (n, found), v in self.metrics(api_key).items() if n == name and wanted <= found)

    def wait_metric(self, name, value, seconds=10, **labels):
        end = time.time() + seconds
        while self.metric(name, **labels) != value:
            assert time.time() < end, f"{name} is {self.metric(name, **labels)}, expected {value}"
            time.sleep(0.01)

    def wait_idle(self, seconds=10):
        for state in ("running", "waiting"):
            self.wait_metric(f"internvl_requests_{state}", 0, seconds)

    def connect(self):
        return Wire(self.port)

    def get(self, path, key=None, headers=""):
        return self.send("GET", path, None, key, headers)

    def post(self, path, body, key=None, headers=""):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.send("POST", path, data, key, headers)

    def send(self, method, path, data, key=None, headers=""):
        if key:
            headers += f"Authorization: Bearer {key}\r\n"
        if data is not None:
            headers += f"Content-Length: {len(data)}\r\n"
        with self.connect() as wire:
            wire.send(f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n".encode() + (data or b""))
            return wire.response()

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def end(self, seconds=40):
        """The exit status after SIGTERM."""
        if self.process.poll() is None:
            self.terminate()
        return self.process.wait(seconds)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()
        self.folder.cleanup()


class Response:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    @property
    def code(self):
        return self.json()["error"]["code"]


class Wire:
    """A connection that says bytes as they are."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.seen = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data):
        with contextlib.suppress(ConnectionError):
            self.socket.sendall(data)

    def more(self):
        try:
            data = self.socket.recv(65536)
        except ConnectionError:
            return False
        self.seen += data
        return bool(data)

    def until(self, mark):
        while mark not in self.seen:
            if not self.more():
                raise AssertionError(f"the connection ended before {mark!r}: {self.seen[-300:]!r}")

    def rest(self):
        while self.more():
            pass
        return self.seen

    def head(self):
        self.until(b"\r\n\r\n")
        text, self.seen = self.seen.split(b"\r\n\r\n", 1)
        first, *lines = text.decode().split("\r\n")
        headers = {}
        for line in lines:
            name, value = line.split(": ", 1)
            headers[name.lower()] = value
        return int(first.split(" ")[1]), headers

    def response(self):
        status, headers = self.head()
        if headers.get("transfer-encoding") == "chunked":
            return Response(status, headers, b"".join(self.chunks()))
        length = int(headers.get("content-length", 0))
        while len(self.seen) < length and self.more():
            pass
        body, self.seen = self.seen[:length], self.seen[length:]
        return Response(status, headers, body)

    def chunks(self):
        while True:
            self.until(b"\r\n")
            size, self.seen = self.seen.split(b"\r\n", 1)
            size = int(size, 16)
            while len(self.seen) < size + 2:
                assert self.more(), "the connection ended in a chunk"
            data, self.seen = self.seen[:size], self.seen[size + 2:]
            if size == 0:
                return
            yield data


def chat(text="Hello, who are you?", **fields):
    return {"model": "demo", "messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 24,
            **fields}


def png(width, height, shade=90):
    """A picture of one grey, as a PNG file."""
    row = b"\0" + bytes([shade, shade // 2, 255 - shade]) * width

    def part(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (b"\x89PNG\r\n\x1a\n" + part(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
            + part(b"IDAT", zlib.compress(row * height)) + part(b"IEND", b""))


def picture(width=448, height=448, shade=90, **fields):
    url = "data:image/png;base64," + base64.b64encode(png(width, height, shade)).decode()
    return {"type": "image_url", "image_url": {"url": url, **fields}}


def medium(file, kind="image_url", **fields):
    """A file as a part of a message, with a type that says nothing."""
    url = "data:application/octet-stream;base64," + base64.b64encode(file.read_bytes()).decode()
    return {"type": kind, kind: {"url": url, **fields}}


def video(file, **fields):
    return medium(file, "video_url", **fields)


def words(text):
    return {"type": "text", "text": text}


def events(body):
    """The JSON of a stream, whose grammar is checked: nothing but data lines and comments."""
    found = []
    for block in body.decode().split("\n\n"):
        if block.startswith("data: "):
            assert "\n" not in block, block
            found.append(block[6:])
        else:
            assert block == "" or block.startswith(":"), block
    return found


@pytest.fixture(scope="module")
def service():
    with Service() as running:
        yield running
        assert running.get("/health").status == 200


@contextlib.contextmanager
def other_server(answer, context=None):
    """The port of somebody else's server, over TLS with a `context`. answer(path) gives a status, headers and a body."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            status, headers, body = answer(self.path)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
