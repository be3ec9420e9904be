#!/usr/bin/env python3
"""Requests a second of OpenAI-compatible services, in turns: each of some clients sends a picture of one tile and waits for 32
tokens, again and again. No two pictures are alike, so nothing comes from a cache.

    internvl serve MODEL_DIR --port 23333 &
    llama-server -m language.gguf --mmproj vision.gguf -c 16384 -np 4 --port 8080 &
    python3 bench/compare/serve_load.py http://127.0.0.1:23333/v1 http://127.0.0.1:8080/v1 --clients 4

A service that is not asked waits, so it should do nothing then.
"""
import argparse
import base64
import json
import random
import statistics
import struct
import threading
import time
import urllib.request
import zlib


def picture(side=448, block=16):
    """A PNG of coloured blocks, as a data: address."""
    rows = b""
    for _ in range(side // block):
        colours = [random.randbytes(3) for _ in range(side // block)]
        rows += (b"\0" + b"".join(colour * block for colour in colours)) * block

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    png = (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)) +
           chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b""))
    return "data:image/png;base64," + base64.b64encode(png).decode()


def ask(url, model, tokens):
    """Seconds to the first text and to the end, and how many tokens came."""
    body = {"model": model, "max_tokens": tokens, "temperature": 0, "ignore_eos": True, "stream": True,
            "stream_options": {"include_usage": True}, "messages": [{"role": "user", "content": [
                {"type": "image_url", "image_url": {"url": picture()}},
                {"type": "text", "text": "Please describe the image shortly."}]}]}
    request = urllib.request.Request(url + "/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    begin, first, count = time.perf_counter(), None, 0
    with urllib.request.urlopen(request, timeout=1800) as reply:
        for line in reply:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            count = (event.get("usage") or {}).get("completion_tokens", count)
            if first is None and any(choice["delta"].get("content") for choice in event["choices"]):
                first = time.perf_counter() - begin
    return first, time.perf_counter() - begin, count


def load(url, flags):
    """Requests a second, and the times to the first text, of one turn."""
    with urllib.request.urlopen(url + "/models") as reply:
        model = json.load(reply)["data"][0]["id"]
    ask(url, model, flags.tokens)  # does not count
    found = []

    def client():
        for _ in range(flags.requests):
            found.append(ask(url, model, flags.tokens))

    threads = [threading.Thread(target=client) for _ in range(flags.clients)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - begin
    assert len(found) == flags.clients * flags.requests, "a request has failed"
    assert all(count == flags.tokens for _, _, count in found), "an answer is shorter than asked"
    return len(found) / seconds, sorted(first for first, _, _ in found if first is not None)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("urls", nargs="+", metavar="URL", help="of services, to /v1")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--requests", type=int, default=3, help="of each client in each turn")
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--turns", type=int, default=3)
    flags = parser.parse_args()
    rates = {url: [] for url in flags.urls}
    for _ in range(flags.turns):
        for url in flags.urls:
            rate, first = load(url, flags)
            rates[url].append(rate)
            print(f"{url}: {rate:.3f} requests/s, first text after {first[0]:.2f} to {first[-1]:.2f} s, "
                  f"median {statistics.median(first):.2f}", flush=True)
    for url, all_turns in rates.items():
        ratio = statistics.median(a / b for a, b in zip(rates[flags.urls[0]], all_turns))
        print(f"{url}: median {statistics.median(all_turns):.3f} requests/s; the first has {ratio:.2f} times as many")


if __name__ == "__main__":
    main()
