"""How the service is run (O1 to O5, Q2)."""
import concurrent.futures
import json
import os
import pathlib
import resource
import signal
import socket
import subprocess
import time

import pytest
from api_site import MEDIA, PROGRAM, Service, chat, events, picture, service, video, words  # noqa: F401

LONG = {"ignore_eos": True, "stream": True}


def begin(service, **fields):
    wire = service.connect()
    body = json.dumps(chat(**fields)).encode()
    wire.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    return wire


def test_an_end_waits_for_answers():  # O1, O2
    with Service("--max-batch", 3) as service:
        wires = [begin(service, max_tokens=1500, **LONG) for _ in range(5)]
        for wire in wires[:3]:
            wire.until(b'"content":"')
        service.terminate()
        service.wait_for("draining")
        assert service.get("/readyz").json()["status"] == "draining"
        assert service.get("/livez").status == 200
        late = service.post("/v1/chat/completions", chat())
        assert (late.status, late.code) == (503, "shutting_down")
        assert late.headers["connection"] == "close" and int(late.headers["retry-after"]) > 0
        for wire in wires:
            assert events(wire.response().body)[-1] == "[DONE]"
            wire.close()
        assert service.process.wait(10) == 0


def test_an_end_does_not_wait_for_ever():  # O1
    with Service("--drain-timeout", 0.5, "--max-batch", 1) as service:
        running = begin(service, max_tokens=8000, **LONG)
        running.until(b'"content":"')
        waiting = begin(service, max_tokens=8000, ignore_eos=True)
        time.sleep(0.2)
        service.terminate()
        last = events(running.response().body)[-1]
        assert json.loads(last)["error"]["code"] == "shutting_down"
        refused = waiting.response()
        assert (refused.status, refused.code) == (503, "shutting_down")
        assert service.process.wait(10) == 0


def test_a_second_signal_ends_at_once():  # O1
    with Service() as service:
        wire = begin(service, max_tokens=8000, **LONG)
        wire.until(b'"content":"')
        service.process.send_signal(signal.SIGINT)
        service.wait_for("draining")
        service.process.send_signal(signal.SIGINT)
        assert service.process.wait(2) == 130


def test_a_killed_service_starts_again():
    with Service() as service:
        wire = begin(service, max_tokens=8000, **LONG)
        wire.until(b'"content":"')
        service.process.kill()
        assert not wire.rest().endswith(b"0\r\n\r\n")  # a stream that broke off looks like one
    with Service() as service:
        assert service.get("/readyz").status == 200


def test_an_idle_service_does_nothing(service):
    def spent():
        return sum(map(int, pathlib.Path(f"/proc/{service.process.pid}/stat").read_text().split(")")[1].split()[11:13]))

    service.wait_idle()
    before = spent()
    time.sleep(2)
    assert spent() - before <= 1  # a hundredth of a second


def test_queue_and_deadline():  # Q2
    with Service("--max-batch", 1, "--max-queue", 4) as service:
        first = begin(service, max_tokens=4000, **LONG)
        first.until(b'"content":"')
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda _: service.post("/v1/chat/completions", chat(max_tokens=2)), range(9)))
        codes = sorted(a.status for a in answers)
        assert codes == [200] * 4 + [429] * 5
        refused = next(a for a in answers if a.status == 429)
        assert refused.code == "queue_full" and 1 <= int(refused.headers["retry-after"]) <= 60
        first.close()
        busy = begin(service, max_tokens=8000, **LONG)
        busy.until(b'"content":"')
        late = service.post("/v1/chat/completions", chat(deadline_ms=300))
        assert (late.status, late.code) == (504, "deadline_exceeded")
        busy.close()


def test_metrics_after_a_known_script():  # O3
    with Service("--warmup", "off") as service:
        counted = service.metrics()
        assert service.metric("internvl_model_loaded") == 1
        tokens = [service.post("/v1/chat/completions", chat(max_tokens=5, ignore_eos=True)).json()["usage"] for _ in range(3)]
        image = service.post("/v1/chat/completions", chat([{"type": "text", "text": "x"}, picture(640, 480)],
                                                          max_tokens=5, ignore_eos=True)).json()["usage"]
        service.post("/v1/chat/completions", b"{")
        service.get("/nope")
        now = service.metric
        assert now("internvl_requests_total", endpoint="chat", status="200", finish="length") == 4
        assert now("internvl_requests_total", endpoint="chat", status="400", finish="error") == 1
        assert now("internvl_requests_rejected_total", reason="bad_request") == 2
        assert now("internvl_prompt_tokens_total", kind="text") == sum(t["prompt_tokens"] for t in tokens) + \
            image["prompt_tokens_details"]["text_tokens"]
        assert now("internvl_prompt_tokens_total", kind="image") == 3328
        assert now("internvl_generation_tokens_total") == 20
        assert now("internvl_image_tiles_total", source="image") == 13
        assert now("internvl_request_duration_seconds_count", media="none") == 3
        assert now("internvl_time_to_first_token_seconds_count", media="image") == 1
        assert now("internvl_requests_running") == 0 and now("internvl_kv_blocks_total") > 0
        assert now("internvl_media_bytes_total", source="data") > 0
        assert {name for name, labels in counted if name.startswith("internvl_")
                and not dict(labels).get("model") == "demo"} == set()
        assert now("process_resident_memory_bytes") > 1e6 and now("process_open_fds") > 3


def test_those_who_only_hold_connections_hold_up_nobody(service):  # A1
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    idle = []
    try:
        for _ in range(min(hard - 200, 5000)):
            idle.append(socket.create_connection(("127.0.0.1", service.port)))
        start = time.time()
        assert service.post("/v1/chat/completions", chat(max_tokens=2)).status == 200
        assert time.time() - start < 1
        assert service.metric("process_open_fds") < 1400
    finally:
        for connection in idle:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_openapi_names_every_route(service):  # O4
    document = service.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/models", "/v1/models/{id}", "/tokenize", "/detokenize",
                 "/v1/estimate", "/v1/chat/completions/input_tokens", "/health", "/livez", "/readyz", "/metrics", "/version"):
        assert path in document["paths"], path
        for method, operation in document["paths"][path].items():
            assert method in ("get", "post") and operation["responses"], path
    for kind in ("title", "version"):
        assert document["info"][kind]


def test_estimates_are_what_comes(service):  # O5
    for fields in (chat(), chat([{"type": "text", "text": "Look"}, picture(300, 900), picture(448, 448, 20)]),
                   chat([video(MEDIA / "clip_24fps.mp4", num_segments=3), words("?")]),
                   chat(max_tokens=1) | {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}):
        usage = service.post("/v1/chat/completions", fields).json()["usage"]
        assert service.post("/v1/estimate", fields).json()["prompt_tokens"] == usage["prompt_tokens"]
        assert service.post("/v1/chat/completions/input_tokens", fields).json()["input_tokens"] == usage["prompt_tokens"]
        assert service.post("/tokenize", {"messages": fields["messages"]}).json()["count"] == usage["prompt_tokens"]
    ids = service.post("/tokenize", {"prompt": "Hello there"}).json()["tokens"]
    plain = service.post("/v1/completions", {"model": "demo", "prompt": "Hello there", "max_tokens": 1}).json()
    assert plain["usage"]["prompt_tokens"] == len(ids)
    assert service.post("/detokenize", {"tokens": ids}).json()["prompt"] == "Hello there"


def run(*words, env=None):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("INTERNVL_")}
    return subprocess.run([PROGRAM, "serve", *map(str, words)], capture_output=True, text=True, timeout=60,
                          env={**clean, **(env or {})})


def test_the_model_may_stand_anywhere():
    for words in (["demo", "--quant", "int8"], ["--quant", "int8", "demo"], ["--allowed-host", "a", "demo", "--quant", "int8"]):
        printed = run(*words, "--print-config").stdout.replace("'", '"')
        assert 'model = "demo"' in printed and 'quant = "int8"' in printed, words


def test_where_settings_come_from(tmp_path):
    file = tmp_path / "internvl.toml"
    file.write_text('max-batch = 5\nmax-queue = 6\nhost = "::1"\ncors-origin = ["https://a.example"]\n')
    printed = run("demo", "--config", file, "--max-batch", 7, "--print-config",
                  env={"INTERNVL_MAX_BATCH": "8", "INTERNVL_MAX_QUEUE": "9", "INTERNVL_API_KEYS": "x" * 20})
    assert printed.returncode == 0
    lines = printed.stdout.splitlines()
    for line in ("max-batch = 7", "max-queue = 9", 'host = "::1"', 'cors-origin = ["https://a.example"]', "rpm = 0"):
        assert line in [text.replace("'", '"') for text in lines], line
    assert "x" * 20 not in printed.stdout
    (tmp_path / "again.toml").write_text(printed.stdout)
    assert run("--config", tmp_path / "again.toml", "--print-config").stdout == printed.stdout


@pytest.mark.parametrize("words, env, text, status, said", [
    (["--port", "70000"], {}, "", 2, "--port"),
    (["--kv-cache", "int3"], {}, "", 2, "--kv-cache"),
    ([], {"INTERNVL_MAX_BATHC": "1"}, "", 2, "INTERNVL_MAX_BATHC"),
    ([], {}, "max-bathc = 1\n", 2, "max-bathc"),
    ([], {}, "max-batch = \n", 2, "line 1"),
    (["--trusted-proxy", "10.0.0.0/99"], {}, "", 2, "10.0.0.0/99"),
    (["--cors-origin", "*"], {}, "", 2, "--cors-origin"),
    (["--max-model-len", "9000000", "--kv-cache-mb", "1"], {}, "", 3, "memory"),
])
def test_wrong_settings(tmp_path, words, env, text, status, said):
    file = tmp_path / "c.toml"
    file.write_text(text)
    ended = run("demo", "--config", file, "--port", "0", *words, env=env)
    assert ended.returncode == status and said in ended.stderr, ended.stderr
    assert ended.stderr.count("\n") == 1 or status == 3


def test_what_stops_a_start(tmp_path):
    missing = run("nobody/nothing", "--port", "0")
    assert missing.returncode == 3 and missing.stderr.count("\n") == 1
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ended = run("demo", "--port", taken.getsockname()[1], "--log-file", tmp_path / "log")
        assert ended.returncode == 4 and ended.stderr.count("\n") == 1
    assert run("demo", "--check").returncode == 0
    assert run("nobody/nothing", "--check").returncode == 3


def test_a_unix_socket(tmp_path):
    path = tmp_path / "socket"
    with Service("--listen", f"unix:{path}") as service, socket.socket(socket.AF_UNIX) as wire:
        wire.connect(str(path))
        wire.sendall(b"GET /health HTTP/1.0\r\nHost: x\r\n\r\n")
        assert wire.recv(4096).startswith(b"HTTP/1.1 200")
        assert service.end() == 0
    assert not path.exists()


def test_metrics_have_a_door_of_their_own():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with Service("--metrics-listen", f"127.0.0.1:{port}", env={"INTERNVL_API_KEYS": "k" * 16}) as service:
        assert service.get("/metrics").status == 401
        service.port = port
        assert service.get("/metrics").status == 200
        assert service.get("/v1/models").status == 404


def test_systemd_hears_of_us(tmp_path):
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(10)
        env = {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "300000"}
        with Service(env=env) as service:
            heard = ""
            while "READY=1" not in heard or heard.count("WATCHDOG=1") < 3:
                heard += manager.recv(4096).decode() + "\n"
            service.terminate()
            while "STOPPING=1" not in heard:
                heard += manager.recv(4096).decode() + "\n"
            assert service.process.wait(10) == 0
