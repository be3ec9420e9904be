"""What goes wrong, and how it is said (E1 to E5, parts of table 4.4)."""
import json
import threading
import time

import openai
import pytest
from api_site import Service, chat, service  # noqa: F401


@pytest.mark.parametrize("body", [
    b"", b"{", b"[]", b"null", b'"x"', b'{"a":1}}', b'{"model":"\xff"}', b'{"model":"\\ud800"}',
    b'{"a":' + b"[" * 100 + b"]" * 100 + b"}", b"[" * 100_000, b'{"temperature":1e400}', b"\xef\xbb\xbf{",
])
def test_bodies_that_are_no_json(service, body):  # E3, A1
    begin = time.time()
    answer = service.post("/v1/chat/completions", body)
    assert (answer.status, answer.code) == (400, "invalid_json")
    assert answer.json()["error"]["type"] == "invalid_request_error" and time.time() - begin < 1


def test_of_equal_keys_the_last_counts(service):  # A1
    body = json.dumps(chat()).encode()[:-1] + b',"max_tokens":1,"max_tokens":2}'
    assert service.post("/v1/chat/completions", body).json()["usage"]["completion_tokens"] <= 2


def test_a_million_keys(service):  # A1
    begin = time.time()
    body = b"{" + b",".join(b'"k%d":1' % i for i in range(1_000_000)) + b"}"
    assert service.post("/v1/chat/completions", body).status == 400
    assert time.time() - begin < 3


@pytest.mark.parametrize("head, status, code", [
    ("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
     400, "invalid_http"),
    ("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
     400, "invalid_http"),
    ("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 135266304\r\n\r\n", 413,
     "payload_too_large"),
    ("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\n{}",
     415, "unsupported_media_type"),
    ("GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + "x" * 40_000 + "\r\n\r\n", 431, "header_too_large"),
    ("nonsense\r\n\r\n", 400, "invalid_http"),
    ("GET health HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "invalid_http"),
    ("GET /%zz HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "invalid_http"),
    ("GET /health HTTP/1.1\r\n\r\n", 400, "invalid_http"),
    ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "invalid_http"),
])
def test_http_that_is_wrong(service, head, status, code):  # E3
    with service.connect() as wire:
        wire.send(head.encode())
        answer = wire.response()
        assert (answer.status, answer.code) == (status, code)
        assert answer.headers["x-request-id"]
        if answer.headers.get("connection") == "close":
            assert wire.rest() == b""


def test_a_body_that_breaks_off(service):  # E3
    with service.connect() as wire:
        wire.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        wire.socket.shutdown(1)
        assert wire.rest() == b""


def test_the_body_is_asked_for(service):  # E3
    with service.connect() as wire:
        body = json.dumps(chat()).encode()
        wire.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
                  b"Content-Length: %d\r\n\r\n" % len(body))
        wire.until(b"HTTP/1.1 100 Continue\r\n\r\n")
        wire.seen = b""
        wire.send(body)
        assert wire.response().status == 200


def test_limits_of_the_context(service):  # E5
    client = service.client()
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(**chat("word " * 9000))
    assert error.value.code == "context_length_exceeded"
    assert "maximum context length is 8192 tokens" in error.value.message
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(**chat(max_tokens=8192))
    assert error.value.code == "context_length_exceeded"
    fields = {"model": "demo", "temperature": 0}
    answer = client.completions.create(prompt=[40] * 8191, max_tokens=1, **fields)
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (8191, 8192)
    for prompt, more in (([40] * 8192, 1), ([40] * 8191, 2)):
        with pytest.raises(openai.BadRequestError) as error:
            client.completions.create(prompt=prompt, max_tokens=more, **fields)
        assert error.value.code == "context_length_exceeded" and "8192 tokens" in error.value.message


def test_what_clients_retry(tmp_path):  # E2
    file = tmp_path / "keys"
    file.write_text("one:aaaaaaaaaaaaaaaa:concurrency=1\n")
    file.chmod(0o600)
    with Service("--api-key-file", file) as limited:
        client = limited.client("aaaaaaaaaaaaaaaa", max_retries=2)
        stream = client.chat.completions.create(**chat(max_tokens=7000), stream=True, extra_body={"ignore_eos": True})
        next(iter(stream))
        threading.Timer(0.3, stream.close).start()
        answer = client.chat.completions.create(**chat())  # refused at first, then taken
        assert answer.choices[0].finish_reason
        assert limited.metric("internvl_requests_rejected_total", "aaaaaaaaaaaaaaaa", reason="rate_limit") >= 1


def test_a_deadline_is_told_once(service):  # E2
    client = service.client(max_retries=2)
    before = service.metric("internvl_requests_total", status="504")
    with pytest.raises(openai.APIStatusError) as error:
        client.chat.completions.create(**chat(max_tokens=4000), extra_body={"deadline_ms": 30, "ignore_eos": True})
    assert error.value.status_code == 504 and error.value.code == "deadline_exceeded"
    assert service.metric("internvl_requests_total", status="504") == before + 1
    with pytest.raises(openai.APIError) as error:
        list(client.chat.completions.create(**chat(max_tokens=4000), stream=True,
                                            extra_body={"deadline_ms": 100, "ignore_eos": True}))
    assert error.value.code == "deadline_exceeded"


def test_errors_say_nothing_of_the_inside(service):  # E4
    part = {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}
    answer = service.post("/v1/chat/completions", chat([part]))
    assert answer.status == 400
    bad = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgoAAAAA"}}
    damaged = service.post("/v1/chat/completions", chat([{"type": "text", "text": "x"}, bad]))
    assert damaged.status == 400
    for text in (answer.body, damaged.body):
        for word in (b"/etc", b"/tmp", b"/work", b"libpng", b"errno", b"0x"):
            assert word not in text
