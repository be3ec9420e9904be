"""Every row of the table of errors (E1 of the conformance list; M4, T9, E3, E4). Rows that need a service in some state are
elsewhere: loading, draining, a full queue and deadlines in api_operation_test.py, keys and limits in api_access_test.py, media that
take too long in tests/unit/serve/media_hostile_test.cpp, 500 and a stalled engine in answers_fault_test.cpp there."""
import struct
import zlib

import pytest
from api_site import MEDIA, TESTS, Service, chat, medium, other_server, picture, png, service, video, words  # noqa: F401

CHAT = "/v1/chat/completions"
CONTENT = "messages[0].content"
FILE = {"type": "image_url", "image_url": {"url": "file:///etc/hostname"}}


def url(address, kind="image_url"):
    return {"type": kind, kind: {"url": address}}


def data(raw, kind="image_url"):
    import base64

    return url("data:;base64," + base64.b64encode(raw).decode(), kind)


def huge_png():
    head = b"IHDR" + struct.pack(">IIBBBBB", 65535, 65535, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))


def ask(*parts, **fields):
    return ("POST", CHAT, chat(list(parts), **fields))


def message(**fields):
    return ("POST", CHAT, chat() | {"messages": [fields]})


# request, status, code, param, words of the message
ROWS = [
    (("POST", CHAT, b'{"model": \xff}'), 400, "invalid_json", None, "byte"),
    (("POST", CHAT, b'{"model": "\\ud800"}'), 400, "invalid_json", None, "byte"),
    (("POST", CHAT, b"[1]"), 400, "invalid_json", None, "object"),
    (("POST", CHAT, b"[" * 65), 400, "invalid_json", None, "64"),
    (("POST", CHAT, {"messages": []}), 400, "missing_field", "model", "model"),
    (("POST", CHAT, {"model": "demo"}), 400, "missing_field", "messages", "messages"),
    (("POST", CHAT, chat(temperature="hot")), 400, "invalid_type", "temperature", "hot"),
    (("POST", CHAT, chat(temperature=3)), 400, "invalid_value", "temperature", "0 to 2, found 3"),
    (("POST", CHAT, chat(tools=[{"type": "function"}])), 400, "unsupported_parameter", "tools", "tools"),
    (ask(words("x"), {"type": "input_audio", "input_audio": {}}), 400, "unsupported_content_part", f"{CONTENT}[1].type",
     "text, image_url or video_url"),
    (("POST", CHAT, chat() | {"messages": [{"role": "user", "content": "x"}, {"role": "system", "content": "x"}]}), 400,
     "invalid_messages", "messages[1].role", "before"),
    (message(role="system", content="x"), 400, "invalid_messages", "messages", "user"),
    (message(role="tool", content="x", tool_call_id="1"), 400, "unsupported_parameter", "messages[0].role", "tool"),
    (message(role="user", content=[]), 400, "invalid_value", CONTENT, "at least one"),
    (message(role="user"), 400, "missing_field", CONTENT, "missing"),
    (message(role="assistant", tool_calls=[{"id": "1"}]), 400, "unsupported_parameter", "messages[0].tool_calls", "tool_calls"),
    (message(role="assistant", content=[picture(9, 9)]), 400, "unsupported_content_part", f"{CONTENT}[0].type", "refusal"),
    (message(role="king", content="x"), 400, "invalid_value", "messages[0].role", "king"),
    (("POST", CHAT, chat(model="gpt-4o")), 404, "model_not_found", "model", "served here: demo"),
    (("GET", "/v1/models/gpt-4o", None), 404, "model_not_found", "model", "gpt-4o"),
    (("GET", "/nope", None), 404, "unknown_endpoint", None, "/nope"),
    (("POST", "/v1/responses", {}), 404, "unsupported_endpoint", None, CHAT),
    (("POST", "/v1/models", {}), 405, "method_not_allowed", None, "GET"),
    (("POST", CHAT, chat("word " * 9000)), 400, "context_length_exceeded", "messages",
     "this model's maximum context length is 8192 tokens"),
    (ask(*[picture(9, 9)] * 33), 400, "too_many_images", "messages", "32"),
    (ask(video(MEDIA / "clip_24fps.mp4", num_segments=129)), 400, "too_many_frames", f"{CONTENT}[0].video_url.num_segments",
     "1 to 128, found 129"),
    (ask(*[video(MEDIA / "clip_24fps.mp4")] * 2), 400, "too_many_frames", "messages", "1 video"),
    (ask(picture(640, 480), max_total_tiles=3), 400, "too_many_tiles", "max_total_tiles", "13"),
    (ask(picture(9, 9), words("no mark"), image_placement="markers"), 400, "image_marker_mismatch", CONTENT, "found 0"),
    (ask(url("ftp://example.org/a.png")), 400, "invalid_image_url", f"{CONTENT}[0].image_url.url", "data:, https: or http:"),
    (ask(url("http://exa mple.org/a.png")), 400, "invalid_image_url", f"{CONTENT}[0].image_url.url", "address"),
    (ask(url("x.mp4", "video_url")), 400, "invalid_video_url", f"{CONTENT}[0].video_url.url", "data:, https: or http:"),
    (ask(FILE), 400, "invalid_image_url", f"{CONTENT}[0].image_url.url", "data:<type>;base64"),  # without --media-root
    (ask(url("http://169.254.169.254/latest")), 400, "url_not_allowed", f"{CONTENT}[0].image_url.url", "not allowed"),
    (ask(url("http://1.1.1.1:22/a.png")), 400, "url_not_allowed", f"{CONTENT}[0].image_url.url", "not allowed"),
    (ask(url("data:image/png;base64,!")), 400, "invalid_base64", f"{CONTENT}[0].image_url.url", "base64"),
    (ask(data(b"<svg xmlns='http://www.w3.org/2000/svg'/>")), 400, "unsupported_image_format",
     f"{CONTENT}[0].image_url.url", "format"),
    (ask(data(png(9, 9)[:-20])), 400, "invalid_image", f"{CONTENT}[0].image_url.url", "damaged"),
    (ask(data(huge_png())), 400, "image_too_large", f"{CONTENT}[0].image_url.url", "65535"),
    (ask(medium(MEDIA / "gray.png", "video_url")), 400, "unsupported_video_format", f"{CONTENT}[0].video_url.url", "format"),
    (ask(video(TESTS / "unit/serve/media/two_sizes.avi")), 400, "invalid_video", f"{CONTENT}[0].video_url.url", "video"),
    (("POST", CHAT, chat(priority=1)), 403, "not_permitted", "priority", "priority"),
]
TYPES = {400: "invalid_request_error", 404: "invalid_request_error", 405: "invalid_request_error",
         413: "invalid_request_error", 415: "invalid_request_error", 431: "invalid_request_error",
         401: "authentication_error", 403: "permission_error"}


def check(answer, status, code, param, told):
    assert (answer.status, answer.code) == (status, code), answer.body
    body = answer.json()
    error = body["error"]
    assert list(body) == ["error"] and set(error) == {"message", "type", "param", "code"}
    assert error["type"] == TYPES[status] and error["param"] == param and told in error["message"], error
    headers = answer.headers
    assert headers["content-type"] == "application/json" and headers["cache-control"] == "no-store"
    assert headers["x-request-id"] and headers["x-should-retry"] == "false" and "retry-after" not in headers
    assert headers["x-content-type-options"] == "nosniff" and headers["server"] == "internvl"
    for inside in ("/etc", "/tmp", "/work", "/usr", "libpng", "libav", "curl", "boost", "errno", "what()", "169.254", "1.1.1.1"):
        assert inside not in error["message"]  # E4


@pytest.mark.parametrize("request_, status, code, param, told", ROWS,
                         ids=[f"{row[2]}-{number}" for number, row in enumerate(ROWS)])
def test_codes(service, request_, status, code, param, told):
    method, path, body = request_
    if isinstance(body, dict):
        answer = service.post(path, body)
    else:
        answer = service.send(method, path, body)
    check(answer, status, code, param, told)
    assert ("allow" in answer.headers) == (status == 405)
    if path == CHAT and isinstance(body, dict):  # before the first byte of a stream it is the same
        check(service.post(path, body | {"stream": True}), status, code, param, told)


def test_a_request_has_an_id(service):
    assert service.post(CHAT, chat(n=0), headers="x-request-id: my.id-1\r\n").headers["x-request-id"] == "my.id-1"
    assert service.post(CHAT, chat(n=0), headers="x-request-id: not mine\r\n").headers["x-request-id"] != "not mine"


@pytest.mark.parametrize("head, status, code", [
    ("Content-Type: text/plain\r\nContent-Length: 2\r\n", 415, "unsupported_media_type"),
    ("Content-Length: 135266304\r\n", 413, "payload_too_large"),
    ("X: " + "x" * 40_000 + "\r\n", 431, "header_too_large"),
    ("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", 400, "invalid_http"),
    ("Host: evil.example\r\n", 400, "invalid_http"),
    ("Origin: https://evil.example\r\nContent-Length: 2\r\n", 403, "origin_not_allowed"),
])
def test_codes_of_heads(service, head, status, code):
    with service.connect() as wire:
        wire.send(f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\n{head}\r\n{{}}".encode())
        check(wire.response(), status, code, None, "")


def test_a_body_in_chunks_has_its_limit_too():  # E3
    with Service("--max-body-bytes", 1024) as small, small.connect() as wire:
        wire.send(f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        for _ in range(4):
            wire.send(b"190\r\n" + b" " * 400 + b"\r\n")
        refused = wire.response()
        check(refused, 413, "payload_too_large", None, "1024")
        assert refused.headers["connection"] == "close" and wire.rest() == b""
    with Service(env={"INTERNVL_API_KEYS": "k" * 16}) as keyed, keyed.connect() as wire:  # E3: no 100 without a key
        wire.send(f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n".encode())
        refused = wire.response()
        check(refused, 401, "invalid_api_key", None, "API key")
        assert refused.headers["www-authenticate"] == "Bearer"


def test_what_other_servers_do_wrong():
    """Their status is told, not what they say."""
    def theirs(path):
        return ({"/gone": 404, "/broken": 503, "/moved": 302}.get(path, 200), {"Location": "http://169.254.169.254/latest"},
                b"a secret of the other side")

    with other_server(theirs) as port, Service("--media-port", port, "--media-port", 1, "--media-allow-net", "127.0.0.0/8") as service:
        for path, code, told in (("/gone", "image_fetch_failed", "404"), ("/broken", "image_fetch_failed", "503"),
                                 ("/moved", "url_not_allowed", "not allowed"), ("/text", "unsupported_image_format", "another kind")):
            answer = service.post(CHAT, chat([url(f"http://127.0.0.1:{port}{path}")]))
            check(answer, 400, code, f"{CONTENT}[0].image_url.url", told)
            assert b"secret" not in answer.body and b"61 20 73" not in answer.body and str(port) not in answer.json()["error"]["message"]
        check(service.post(CHAT, chat([url("http://127.0.0.1:1/")])), 400, "image_fetch_failed",
              f"{CONTENT}[0].image_url.url", "fetched")
        check(service.post(CHAT, chat([url("http://nowhere.invalid/")])), 400, "image_fetch_failed",
              f"{CONTENT}[0].image_url.url", "fetched")
        assert service.metric("internvl_requests_rejected_total", reason="media_fetch") == 4
