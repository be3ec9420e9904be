"""Who may ask (K1 to K5)."""
import signal
import subprocess
import time

import openai
import pytest
from api_site import PROGRAM, Service, chat, picture

ALICE, BOB, CAROL = "alice-0123456789", "bob-0123456789ab", "carol-0123456789"
KEYED = [("GET", "/v1/models"), ("GET", "/v1/models/demo"), ("GET", "/metrics"), ("GET", "/v1/estimate?width=9&height=9"),
         ("POST", "/v1/chat/completions"), ("POST", "/v1/completions"), ("POST", "/tokenize"), ("POST", "/detokenize"),
         ("POST", "/v1/estimate"), ("POST", "/v1/chat/completions/input_tokens")]
OPEN = ["/health", "/livez", "/readyz", "/version", "/openapi.json", "/docs", "/"]


@pytest.fixture
def keys(tmp_path):
    file = tmp_path / "keys"

    def write(text):
        file.write_text(text)
        file.chmod(0o600)
        return file

    return write


def test_keys_and_their_rotation(keys):  # K1
    file = keys(f"# ours\nalice:{ALICE}\nbob:{BOB}:priority\n")
    with Service("--api-key-file", file) as service:
        for method, path in KEYED:
            body = b"{}" if method == "POST" else None
            for key in (None, "wrong-0123456789", ALICE[:-1], ALICE + "x"):
                refused = service.send(method, path, body, key)
                assert (refused.status, refused.code) == (401, "invalid_api_key"), path
                assert refused.headers["www-authenticate"] == "Bearer"
            assert service.send(method, path, body, ALICE).status != 401, path
        for path in OPEN:
            assert service.get(path).status == 200, path
        with pytest.raises(openai.AuthenticationError):
            service.client("wrong-0123456789").models.list()
        assert service.post("/v1/chat/completions", chat(priority=-1), ALICE).code == "not_permitted"
        assert service.post("/v1/chat/completions", chat(priority=-1), BOB).status == 200
        keys(f"carol:{CAROL}\n")
        service.process.send_signal(signal.SIGHUP)
        service.wait_for("configuration read again")
        assert service.get("/v1/models", ALICE).status == 401
        assert service.get("/v1/models", CAROL).status == 200
        keys("broken\n")
        service.process.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        assert service.get("/v1/models", CAROL).status == 200
        assert service.metric("internvl_config_reloads_total", CAROL, result="failed") == 1
        assert service.metric("internvl_key_requests_total", CAROL, key="bob") == 1


def test_limits_of_a_key(keys):  # K2
    file = keys(f"alice:{ALICE}:rpm=3\nbob:{BOB}:tpm=100\ncarol:{CAROL}\n")
    with Service("--api-key-file", file) as service:
        for _ in range(3):
            assert service.post("/tokenize", {"prompt": "x"}, ALICE).status == 200
        refused = service.post("/tokenize", {"prompt": "x"}, ALICE)
        assert (refused.status, refused.code) == (429, "rate_limit_exceeded")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert refused.headers["x-ratelimit-limit-requests"] == "3"
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        first = service.post("/v1/chat/completions", chat(), BOB)
        assert first.status == 200 and first.headers["x-ratelimit-limit-tokens"] == "100"
        codes = [service.post("/v1/chat/completions", chat(), BOB).status for _ in range(3)]
        assert 429 in codes
        assert service.post("/v1/chat/completions", chat(), CAROL).status == 200


def test_hosts_and_origins():  # K3
    with Service("--cors-origin", "https://chat.example", "--allowed-host", "vision.example") as service:
        def ask(method, headers, host="127.0.0.1"):
            body = b"{}" if method == "POST" else b""
            with service.connect() as wire:
                wire.send(f"{method} /tokenize HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
                          .encode() + body)
                return wire.response()

        for host in ("evil.example", "127.0.0.1.evil.example", "localhost.", "[::1"):
            assert ask("POST", "", host).code == "host_not_allowed", host
        for host in ("localhost", "LOCALHOST:1", "0.0.0.0:23333", "[::1]:23333", "vision.example"):
            assert ask("POST", "", host).status == 400, host
        assert ask("POST", "Origin: https://evil.example\r\n").code == "origin_not_allowed"
        assert ask("POST", "Origin: null\r\n").code == "origin_not_allowed"
        listed = ask("POST", "Origin: https://chat.example\r\n")
        assert listed.headers["access-control-allow-origin"] == "https://chat.example"
        assert listed.headers["vary"] == "Origin" and "access-control-allow-credentials" not in listed.headers
        wanted = "authorization, content-type, x-stainless-lang"
        preflight = ask("OPTIONS", f"Origin: https://chat.example\r\nAccess-Control-Request-Method: POST\r\n"
                                   f"Access-Control-Request-Headers: {wanted}\r\n")
        assert preflight.status == 204 and preflight.headers["access-control-allow-headers"] == wanted
    with Service() as closed, closed.connect() as wire:
        wire.send(b"OPTIONS /tokenize HTTP/1.1\r\nHost: localhost\r\nOrigin: https://chat.example\r\n\r\n")
        _, headers = wire.head()
        assert not any(name.startswith("access-control") for name in headers)


def test_nobody_is_let_in_by_accident():  # K4
    ended = subprocess.run([PROGRAM, "serve", "demo", "--host", "0.0.0.0", "--port", "0"], capture_output=True, text=True,
                           timeout=30, env={})
    assert ended.returncode == 2
    assert "--api-key-file" in ended.stderr and "--allow-unauthenticated" in ended.stderr
    with Service("--host", "0.0.0.0", "--allow-unauthenticated") as service:
        assert service.get("/v1/models").status == 200
    with Service("--host", "0.0.0.0", env={"INTERNVL_API_KEYS": ALICE}) as service:
        assert service.get("/v1/models").status == 401
        assert service.get("/v1/models", ALICE).status == 200


def test_the_log_tells_nothing_of_requests(keys):  # K5
    file = keys(f"alice:{ALICE}\n")
    with Service("--api-key-file", file, "--log-level", "debug") as service:
        for i in range(40):
            service.post("/v1/chat/completions", chat(f"Kumquat{i} is a secret word", max_tokens=2), ALICE)
            service.post("/tokenize", {"prompt": "Kumquat pie"}, ALICE)
            service.get(f"/v1/models/Kumquat{i}?Kumquat=1", ALICE)
        service.post("/v1/chat/completions", chat([{"type": "text", "text": "Kumquat"}, picture(32, 32)]), ALICE)
        service.post("/v1/chat/completions", b"{Kumquat", ALICE)
        service.get("/v1/models", "wrong-kumquat-key")
        time.sleep(0.2)
        text = service.log_file.read_text()
        assert "umquat" not in text and ALICE not in text and "iVBOR" not in text
        requests = [line for line in service.log() if line["message"] == "request"]
        assert len(requests) == 123 and {"id", "key", "endpoint", "status", "seconds"} <= requests[0].keys()
        assert requests[0]["key"] == "alice" and requests[0]["prompt_tokens"] > 0
