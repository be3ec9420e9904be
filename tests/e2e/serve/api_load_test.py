"""Many at once, states of the service, and what it counts (E2, K2, O2, O3, Q1, Q3 of the conformance list)."""
import concurrent.futures
import json
import re
import threading
import time

import openai
import pytest
from api_site import MEDIA, Service, chat, picture, service, video, words  # noqa: F401

CHAT = "/v1/chat/completions"
ALICE, BOB = "alice-0123456789", "bob-0123456789ab"
KEYS = {"INTERNVL_API_KEYS": f"{ALICE},{BOB}"}


def mixed(number):
    """A request; every fourth is of another kind."""
    fields = {"seed": number, "temperature": 1.2, "max_tokens": 6, "ignore_eos": True, "return_token_ids": True}
    kinds = [f"Question {number}", [words("Look"), picture(448, 448, shade=number)],
             [video(MEDIA / "clip_24fps.mp4", num_segments=1 + number % 3), words("?")], f"Say {number} twice"]
    return chat(kinds[number % 4], **fields, n=2 if number % 4 == 3 else 1)


def test_a_crowd(service):  # Q1
    def ask(number):
        answer = service.post(CHAT, mixed(number))
        assert answer.status == 200, answer.body
        return [(c["token_ids"], c["message"]["content"]) for c in answer.json()["choices"]]

    service.wait_idle()
    held = service.metric("internvl_kv_blocks_used")
    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        together = list(pool.map(ask, range(64)))
    assert len({str(answer) for answer in together}) > 32
    for number in range(0, 64, 7):
        assert ask(number) == together[number]  # the same alone
    service.wait_idle()
    service.wait_metric("internvl_kv_blocks_used", held)


def test_pictures_of_one_key_do_not_hold_up_another():  # Q3
    with Service("--max-batch", 1, env=KEYS) as service, concurrent.futures.ThreadPoolExecutor(32) as pool:
        def look(number):
            assert service.post(CHAT, chat([picture(640, 480, shade=number)], max_tokens=30, ignore_eos=True), ALICE).status == 200
            return time.monotonic()

        many = [pool.submit(look, number) for number in range(30)]
        end = time.monotonic() + 20
        while service.metric("internvl_requests_waiting", ALICE) < 20:
            assert time.monotonic() < end
        asked = time.monotonic()
        assert service.post(CHAT, chat(max_tokens=2), BOB).status == 200
        answered = time.monotonic()
        ends = [future.result() for future in many]
        assert sum(asked < end < answered for end in ends) <= 4  # not all that had come before
        assert sum(end > answered for end in ends) >= 10


def test_a_limit_of_tokens(tmp_path):  # K2
    file = tmp_path / "keys"
    file.write_text(f"alice:{ALICE}:tpm=700\nbob:{BOB}:concurrency=1\n")
    file.chmod(0o600)
    with Service("--api-key-file", file) as service:
        first = service.post(CHAT, chat(max_tokens=500, ignore_eos=True), ALICE)
        spent = first.json()["usage"]["total_tokens"]
        assert first.headers["x-ratelimit-limit-tokens"] == "700" and 500 < spent < 700
        for _ in range(2):
            refused = service.post(CHAT, chat("word " * 60, max_tokens=1), ALICE)
            assert (refused.status, refused.code) == (429, "rate_limit_exceeded")
            assert refused.json()["error"]["type"] == "rate_limit_error" and "x-should-retry" not in refused.headers
            assert 1 <= int(refused.headers["retry-after"]) <= 60
            assert int(refused.headers["x-ratelimit-remaining-tokens"]) < 700 - spent + 40
            assert re.fullmatch(r"\d+s", refused.headers["x-ratelimit-reset-tokens"])
        stream = service.client(BOB).chat.completions.create(
            **chat(max_tokens=7000), stream=True, extra_body={"ignore_eos": True})
        next(iter(stream))
        second = service.post(CHAT, chat(), BOB)
        assert (second.status, second.code, second.headers["retry-after"]) == (429, "rate_limit_exceeded", "1")
        stream.close()
        end = time.monotonic() + 10
        while service.post(CHAT, chat(), BOB).status != 200:
            assert time.monotonic() < end
        assert service.metric("internvl_requests_rejected_total", BOB, reason="rate_limit") >= 3


def test_a_client_waits_for_the_model():  # E2, O2: from the first moment on it is 503 with Retry-After, or an answer
    with Service(wait=False) as service:
        early = service.post(CHAT, chat())
        if early.status != 200:
            assert (early.status, early.code) == (503, "model_loading")
            assert 1 <= int(early.headers["retry-after"]) <= 60 and "x-should-retry" not in early.headers
        states = []
        while not states or states[-1] != 200:
            ready = service.get("/readyz")
            states.append(ready.status)
            assert ready.json()["status"] == ("ok" if ready.status == 200 else "loading") and ready.status in (200, 503)
            assert service.get("/livez").status == 200 and service.get("/").status == 200
        assert service.get("/readyz").json() == {"status": "ok", "progress": 1.0}
    with Service(wait=False) as service:
        answer = service.client(max_retries=5).chat.completions.create(**chat())
        assert answer.choices[0].finish_reason


def test_a_long_step_is_a_stall_where_that_is_asked_for():  # O2; a step that never ends: answers_fault_test.cpp
    with Service("--stall-timeout", 0.01, "--prefill-chunk", 65536, "--prefix-cache", "off") as service:
        stop = threading.Event()

        def work():
            while not stop.is_set():
                service.post(CHAT, chat("word " * 2500, max_tokens=1))

        worker = threading.Thread(target=work)
        worker.start()
        try:
            end = time.monotonic() + 30
            while (seen := service.get("/livez")).status == 200:
                assert time.monotonic() < end
            assert (seen.status, seen.json()["status"]) == (503, "stalled")
            while (refused := service.post(CHAT, chat(max_tokens=1))).status == 200:
                assert time.monotonic() < end
            assert (refused.status, refused.code) == (503, "engine_unavailable")
            assert refused.headers["retry-after"] == "10" and "x-should-retry" not in refused.headers
        finally:
            stop.set()
            worker.join()
        while service.get("/livez").status != 200:  # an answer leaves before its last step is counted
            assert time.monotonic() < end


def test_a_client_asks_again():  # E2: 429 and 503 say when, and the client obeys
    with Service("--max-batch", 1, "--max-queue", 1) as service, service.connect() as waiting:
        stream = service.client().chat.completions.create(
            **chat(max_tokens=7000), stream=True, extra_body={"ignore_eos": True})
        next(iter(stream))
        body = json.dumps(chat()).encode()
        waiting.send(b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (CHAT.encode(), len(body), body))
        service.wait_metric("internvl_requests_waiting", 1)
        with pytest.raises(openai.RateLimitError) as error:
            service.client().chat.completions.create(**chat())
        assert error.value.code == "queue_full"
        threading.Timer(0.2, stream.close).start()
        assert service.client(max_retries=3).chat.completions.create(**chat()).choices[0].finish_reason
        assert service.metric("internvl_requests_rejected_total", reason="queue_full") >= 2


LONG = "0.005 0.01 0.025 0.05 0.1 0.25 0.5 1 2.5 5 10 20 40 80 160 320 640"
SHORT = "0.001 0.0025 0.005 0.01 0.02 0.03 0.05 0.075 0.1 0.15 0.25 0.5 1 2.5 5"
TOKENS = "1 16 64 128 256 512 1024 2048 4096 8192 16384 32768"
TILES = "1 2 3 4 5 7 9 10 13 16 25 41 64"
ROWS = "1 2 4 8 16 32 64 128 256 512"
HISTOGRAMS = {  # labels, buckets
    "request_duration_seconds": ("media", LONG), "time_to_first_token_seconds": ("media", LONG),
    "queue_time_seconds": ("media", LONG), "inter_token_latency_seconds": ("", SHORT), "step_duration_seconds": ("", SHORT),
    "stage_duration_seconds": ("stage", LONG), "request_prompt_tokens": ("", TOKENS),
    "request_generation_tokens": ("", TOKENS), "request_image_tiles": ("source", TILES), "vit_batch_tiles": ("", ROWS),
    "batch_rows": ("", ROWS),
}
COUNTERS = {
    "requests": "endpoint status finish", "requests_rejected": "reason", "prompt_tokens": "kind", "prefill_tokens": "kind",
    "generation_tokens": "", "prefix_cache_queried_tokens": "", "prefix_cache_hit_tokens": "", "image_tiles": "source",
    "vit_cache_hits": "", "vit_cache_misses": "", "vit_cache_evictions": "", "preemptions": "", "media_bytes": "source",
    "media_refused": "reason", "key_requests": "key", "config_reloads": "result",
}
GAUGES = {
    "requests_running": "", "requests_waiting": "", "requests_preempted": "", "vit_cache_bytes": "", "kv_blocks_used": "",
    "kv_blocks_cached": "", "kv_blocks_total": "", "engine_stalled": "", "draining": "", "model_loaded": "",
    "build_info": "version commit device dtype",
}


def test_names_and_buckets_of_metrics():  # O3
    from prometheus_client.parser import text_string_to_metric_families

    with Service(env={"INTERNVL_API_KEYS": ALICE}) as service:
        service.post(CHAT, chat([words("?"), picture(640, 480)], max_tokens=5), ALICE)
        service.post(CHAT, chat([video(MEDIA / "clip_24fps.mp4")], max_tokens=5), ALICE)
        service.post(CHAT, chat([{"type": "image_url", "image_url": {"url": "http://127.0.0.1/"}}]), ALICE)
        service.post(CHAT, b"{", ALICE)
        service.process.send_signal(1)
        service.wait_for("configuration read again")
        raw = service.get("/metrics", ALICE)
    assert raw.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {f.name: f for f in text_string_to_metric_families(raw.body.decode())}
    expected = {"internvl_" + name: (kind, labels) for kind, table in (
        ("counter", COUNTERS), ("gauge", GAUGES), ("histogram", {n: v[0] for n, v in HISTOGRAMS.items()}))
        for name, labels in table.items()}
    found = {name for name in families if name.startswith("internvl_")}
    # The parser takes the ending off counters; a gauge keeps it.
    assert found == {name.removesuffix("_total") if families.get(name) is None else name for name in expected}
    for name, (kind, labels) in expected.items():
        family = families.get(name) or families[name.removesuffix("_total")]
        assert family.type in (kind, "gauge") and family.documentation, name
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == {"model", *labels.split()}, sample
    for name, (_, buckets) in HISTOGRAMS.items():
        bounds = {}
        for sample in families["internvl_" + name].samples:
            if sample.name.endswith("_bucket"):
                series = tuple(v for k, v in sample.labels.items() if k != "le")
                bounds.setdefault(series, []).append((sample.labels["le"], sample.value))
        assert bounds, name
        for rows in bounds.values():
            assert [float(le) for le, _ in rows] == [*map(float, buckets.split()), float("inf")], name
            assert [v for _, v in rows] == sorted(v for _, v in rows)
    stages = {s.labels["stage"] for s in families["internvl_stage_duration_seconds"].samples}
    assert stages == {"fetch", "decode", "resize", "vit", "projector", "prefill", "decode_tokens"}
    standard = {"process_resident_memory_bytes", "process_cpu_seconds", "process_open_fds", "process_start_time_seconds"}
    assert standard <= {name.removesuffix("_total") for name in families}
