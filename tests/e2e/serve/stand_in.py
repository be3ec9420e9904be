#!/usr/bin/env python3
"""A stand-in for `internvl serve`: the part of the service contract that the web page uses, without a model.

    stand_in.py [--port 0] [--web DIR] [--key KEY]

Prints its address on the first line. Answers stream made-up words; tile counts follow the real grid rule; the tiles of
`return_tiles` are plain colours. `POST /script` with a list of replies decides what the next chat requests get:

    {"text": "…", "finish": "stop", "delay": 0.01, "boxes": [...], "break": "error" | "cut"}
    {"status": 429, "headers": {"Retry-After": "1"}, "error": {"message": "…", "code": "queue_full"}}

`GET /script` tells the chat requests so far and how many were cancelled.
"""
import argparse
import base64
import binascii
import colorsys
import json
import math
import pathlib
import re
import struct
import sys
import threading
import time
import urllib.parse
import uuid
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SIDE, TILE_TOKENS, CONTEXT, MODEL = 448, 256, 8192, "OpenGVLab/InternVL2-1B"
CHECKPOINT_LIMIT, MOST_TILES = 12, 40
DETAIL = {"low": 1, "medium": 6, "high": 12, "original": 24}
POLICY = ("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src blob:; "
          "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8",
         ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
WORDS = ("The picture shows a quiet street in the morning. Light falls on the left side, and a red car stands near the "
         "corner. Two people walk towards the camera. Behind them one sees trees and an old wall. ").split(" ")


class Refusal(Exception):
    """An error as the contract words it."""

    def __init__(self, status, code, message, param=None, headers=None):
        super().__init__(message)
        self.status, self.code, self.param, self.headers = status, code, param, headers or {}


def grid_of(width, height, most, least=1):
    """The grid whose shape is nearest to the picture's, (columns, rows)."""
    pairs = {(i, j) for n in range(least, most + 1) for i in range(1, n + 1) for j in range(1, n + 1)
             if least <= i * j <= most}
    best, best_difference = (1, 1), math.inf
    for columns, rows in sorted(pairs, key=lambda pair: pair[0] * pair[1]):
        difference = abs(width / height - columns / rows)
        if difference < best_difference:
            best, best_difference = (columns, rows), difference
        elif difference == best_difference and width * height > 0.5 * SIDE * SIDE * columns * rows:
            best = (columns, rows)
    return best


def picture_size(data):
    """Width and height from the header of a PNG, GIF, WebP or JPEG."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return struct.unpack(">II", data[16:24])
    if data[:4] == b"GIF8":
        return struct.unpack("<HH", data[6:10])
    if data[:4] == b"RIFF" and data[12:16] == b"VP8 ":
        return tuple(side & 0x3FFF for side in struct.unpack("<HH", data[26:30]))
    if data[:4] == b"RIFF" and data[12:16] == b"VP8L":
        bits = struct.unpack("<I", data[21:25])[0]
        return (bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1
    if data[:4] == b"RIFF" and data[12:16] == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    at = 2
    while data[:2] == b"\xff\xd8" and at + 9 < len(data) and data[at] == 0xFF:
        if 0xC0 <= data[at + 1] <= 0xCF and data[at + 1] not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[at + 5:at + 9])
            return width, height
        at += 2 + struct.unpack(">H", data[at + 2:at + 4])[0]
    raise Refusal(400, "unsupported_image_format", "The picture is in no format that is read here.")


def bytes_of(url):
    if not re.match(r"data:[^,]*;base64,", url):
        raise Refusal(400, "invalid_image_url", "A data: address was expected.")
    try:
        return base64.b64decode(url.split(",", 1)[1], validate=False)
    except binascii.Error:
        raise Refusal(400, "invalid_base64", "The picture is not valid base64.") from None


def whole(fields, name, least, most):
    value = fields.get(name)
    if value is not None and (type(value) is not int or not least <= value <= most):
        raise Refusal(400, "invalid_value", f"{name}: a whole number from {least} to {most} was expected, found {value}.", name)
    return value


def image_row(index, width, height, fields):
    """One row of an estimate."""
    limit = whole(fields, "max_dynamic_patch", 1, MOST_TILES) or DETAIL.get(fields.get("detail")) or CHECKPOINT_LIMIT
    columns, rows = grid_of(width, height, limit)
    thumbnail = columns * rows > 1
    tiles = columns * rows + thumbnail
    return {"index": index, "width": width, "height": height, "grid": [columns, rows], "thumbnail": thumbnail,
            "tiles": tiles, "tokens": tiles * TILE_TOKENS}


def png(red, green, blue, width=SIDE, height=SIDE):
    """A picture of one colour."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    row = b"\0" + bytes((red, green, blue)) * width
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(row * height)) + chunk(b"IEND", b""))


def tile_address(index, count):
    colour = [int(255 * x) for x in colorsys.hsv_to_rgb(index / count, 0.35, 0.85)]
    return "data:image/png;base64," + base64.b64encode(png(*colour)).decode()


def count_messages(messages):
    """(text tokens, image rows, tokens of images) of a conversation."""
    text, images, tokens = 20, [], 0
    for message in messages:
        text += 5
        content = message["content"]
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            if part["type"] == "text":
                text += len(re.findall(r"\w+|[^\w\s]|\n", part["text"]))
            elif part["type"] == "image_url":
                fields = part["image_url"]
                images.append(image_row(len(images), *picture_size(bytes_of(fields["url"])), fields))
                tokens += images[-1]["tokens"]
                text += 3
            elif part["type"] == "video_url":
                frames = whole(part["video_url"], "num_segments", 1, 128) or 8
                tokens += frames * TILE_TOKENS
                text += 5 * frames
    return text, images, tokens


def estimate(fields):
    images, text, tokens = [], None, 0
    if "messages" in fields:
        text, images, tokens = count_messages(fields["messages"])
    for index, image in enumerate(fields.get("images", [])):
        given = image.get("image_url", image)
        size = picture_size(bytes_of(given["url"])) if "url" in given else (given["width"], given["height"])
        images.append(image_row(index, *size, given))
        tokens += images[-1]["tokens"]
    total = None if text is None else text + tokens
    reply = {"object": "estimate", "images": images, "videos": [], "text_tokens": text, "image_tokens": tokens,
             "prompt_tokens": total, "input_tokens": total, "max_model_len": CONTEXT,
             "fits": (total or tokens) < CONTEXT, "kv_blocks": -(-(total or tokens) // 16),
             "seconds": {"vision": tokens / TILE_TOKENS * 1.6, "prefill": tokens / 600}}
    if fields.get("return_tiles"):
        reply["tiles_png"] = [tile_address(i, images[0]["tiles"]) for i in range(images[0]["tiles"])]
    return reply


class StandIn(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port, web, key):
        super().__init__(("127.0.0.1", port), Handler)
        self.web, self.key = pathlib.Path(web), key
        self.replies, self.requests, self.cancelled, self.lock = [], [], 0, threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, status, body, kind="application/json", **headers):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": len(data), "Cache-Control": "no-store",
                            "x-request-id": self.request_id, "X-Content-Type-Options": "nosniff", **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(data)

    def refuse(self, refusal):
        self.reply(refusal.status, {"error": {"message": str(refusal), "type": "invalid_request_error",
                                              "param": refusal.param, "code": refusal.code}}, **refusal.headers)

    def do_GET(self):
        self.handle_with({})

    def do_POST(self):
        self.handle_with(json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}"))

    def handle_with(self, body):
        self.request_id = "req-" + uuid.uuid4().hex[:12]
        try:
            self.route(urllib.parse.urlsplit(self.path), body)
        except Refusal as refusal:
            self.refuse(refusal)
        except (BrokenPipeError, ConnectionResetError):
            with self.server.lock:
                self.server.cancelled += 1
            self.close_connection = True

    def route(self, url, body):
        if url.path == "/script":
            return self.script(body)
        if url.path == "/" or url.path.startswith("/assets/"):
            return self.asset("index.html" if url.path == "/" else url.path.removeprefix("/assets/"))
        if self.server.key and self.headers.get("Authorization") != f"Bearer {self.server.key}":
            raise Refusal(401, "invalid_api_key", "An API key is needed: Authorization: Bearer KEY.",
                          headers={"WWW-Authenticate": "Bearer"})
        if url.path == "/v1/models":
            return self.reply(200, {"object": "list", "data": [{
                "id": MODEL, "object": "model", "created": 1790000000, "owned_by": "internvl", "max_model_len": CONTEXT,
                "modalities": ["text", "image", "video"], "max_dynamic_patch": CHECKPOINT_LIMIT,
                "defaults": {"temperature": 0.7, "top_p": 1.0, "top_k": 40, "max_tokens": 1024}}]})
        if url.path == "/v1/estimate":
            return self.reply(200, estimate(body if self.command == "POST" else self.query(url.query)))
        if url.path == "/v1/chat/completions" and self.command == "POST":
            return self.chat(body)
        raise Refusal(404, "unknown_endpoint", f"There is no {url.path[:64]}.")

    def script(self, body):
        with self.server.lock:
            if self.command == "POST":
                self.server.replies = body["replies"]
            told = {"requests": self.server.requests[-5:], "cancelled": self.server.cancelled}
        self.reply(200, told)

    def asset(self, name):
        path = self.server.web / name
        if "/" in name or not path.is_file():
            raise Refusal(404, "unknown_endpoint", "There is no such file.")
        self.reply(200, path.read_bytes(), TYPES[path.suffix], Content_Security_Policy=POLICY, Referrer_Policy="no-referrer")

    def query(self, text):
        given = dict(urllib.parse.parse_qsl(text))
        fields = {"detail": given.get("detail")}
        if "max_num" in given:
            fields["max_dynamic_patch"] = int(given["max_num"])
        return {"images": [{"width": int(given["width"]), "height": int(given["height"]), **fields}]}

    def chat(self, body):
        with self.server.lock:
            self.server.requests.append(body)
            planned = self.server.replies.pop(0) if self.server.replies else {}
        if "status" in planned:
            error = planned.get("error", {})
            raise Refusal(planned["status"], error.get("code"), error.get("message", "scripted"), headers=planned.get("headers"))
        text, images, image_tokens = count_messages(body["messages"])
        limit = body.get("max_tokens", 1024)
        if not planned and text + image_tokens + 1 > CONTEXT:
            raise Refusal(400, "context_length_exceeded", f"this model's maximum context length is {CONTEXT} tokens; the prompt has "
                          f"{text + image_tokens}: {text} of text and {image_tokens} of pictures.", "messages")
        self.stream(body, planned, limit, {"prompt_tokens": text + image_tokens, "prompt_tokens_details": {
            "cached_tokens": 0, "text_tokens": text, "image_tokens": image_tokens, "audio_tokens": 0}})

    def event(self, data):
        line = f"data: {data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        self.wfile.flush()

    def stream(self, body, planned, limit, usage):
        self.send_response(200)
        for name, value in (("Content-Type", "text/event-stream; charset=utf-8"), ("Transfer-Encoding", "chunked"),
                            ("Cache-Control", "no-store"), ("x-request-id", self.request_id)):
            self.send_header(name, value)
        self.end_headers()
        head = {"id": "chatcmpl-" + self.request_id, "object": "chat.completion.chunk", "created": int(time.time()),
                "model": body["model"], "system_fingerprint": "fp_standin"}
        if body.get("stream_options", {}).get("include_usage"):
            head["usage"] = None

        def choice(delta, finish=None, **more):
            self.event({**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}], **more})
        choice({"role": "assistant", "content": ""})
        pieces = re.findall(r"\s*\S+|\s+$", planned["text"]) if "text" in planned else [
            (" " if i else "") + WORDS[i % len(WORDS)] for i in range(limit)]
        for index, piece in enumerate(pieces):
            time.sleep(planned.get("delay", 0.02))
            choice({"content": piece})
            if planned.get("break") and index == len(pieces) // 2:
                if planned["break"] == "error":
                    self.event({"error": {"message": "Internal error, request id " + self.request_id, "type": "server_error",
                                          "param": None, "code": "internal_error"}})
                    self.wfile.write(b"0\r\n\r\n")
                self.close_connection = True
                return
        finish = planned.get("finish", "stop" if "text" in planned else "length")
        info = {"internvl": {"seed": 1, "images": [], "videos": [], "boxes": planned.get("boxes", []), "timings": {}}}
        choice({}, finish, **(info if body.get("return_info") else {}))
        if "usage" in head:
            self.event({**head, "choices": [], "usage": {**usage, "completion_tokens": len(pieces),
                                                         "total_tokens": usage["prompt_tokens"] + len(pieces)}})
        self.event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--port", type=int, default=0)
    options.add_argument("--web", default=pathlib.Path(__file__).resolve().parents[3] / "web")
    options.add_argument("--key", default="")
    given = options.parse_args()
    server = StandIn(given.port, given.web, given.key)
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
