"""Answers in pieces (S1 to S8)."""
import asyncio
import importlib
import json
import time

import openai
import pytest
from api_site import Service, chat, events, service  # noqa: F401

LONG = {"max_tokens": 4000, "ignore_eos": True}


def test_pieces_are_the_whole(service):  # S1
    client = service.client()
    whole = client.chat.completions.create(**chat(max_tokens=64))
    for usage in (False, True):
        options = {"stream_options": {"include_usage": True}} if usage else {}
        stream = client.chat.completions.create(**chat(max_tokens=64), stream=True, **options)
        chunks = list(stream)
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert text == whole.choices[0].message.content
        reasons = [c.choices[0].finish_reason for c in chunks if c.choices]
        assert reasons[-1] == whole.choices[0].finish_reason and set(reasons[:-1]) == {None}
        assert len({(c.id, c.created) for c in chunks}) == 1
        if usage:
            assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens == whole.usage.total_tokens
            assert all(c.usage is None for c in chunks[:-1])


def test_bytes_of_a_stream(service):  # S2
    raw = service.post("/v1/chat/completions", chat(stream=True, n=2))
    assert raw.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert raw.headers["transfer-encoding"] == "chunked" and raw.headers["x-accel-buffering"] == "no"
    found = events(raw.body)
    assert found[-1] == "[DONE]"
    chunks = [json.loads(e) for e in found[:-1]]
    assert [c["choices"][0]["index"] for c in chunks[:2]] == [0, 1]
    assert all(c["choices"][0]["delta"] == {"role": "assistant", "content": ""} for c in chunks[:2])
    assert all("usage" not in c for c in chunks)
    last = [c["choices"][0] for c in chunks if c["choices"][0]["finish_reason"]]
    assert sorted(c["index"] for c in last) == [0, 1] and all(c["delta"] == {} for c in last)


def test_the_last_chunk_ends_the_answer_at_once(service):  # S2
    with service.connect() as wire:
        body = json.dumps(chat(stream=True)).encode()
        request = (f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n").encode()
        wire.send(request + body)
        wire.until(b"data: [DONE]\n\n\r\n")
        begin = time.time()
        wire.until(b"0\r\n\r\n")
        assert time.time() - begin < 0.05
        wire.seen = b""
        wire.send(request + body)  # the connection goes on
        assert wire.response().status == 200


def test_characters_are_never_cut(service):  # S3
    for limit in range(1, 12):
        fields = chat("Say something in Chinese, with emoji 😀", max_tokens=limit, temperature=2, seed=limit)
        fields["logit_bias"] = {}
        raw = service.post("/v1/chat/completions", fields | {"stream": True})
        text = "".join(json.loads(e)["choices"][0]["delta"].get("content") or "" for e in events(raw.body)[:-1])
        whole = service.post("/v1/chat/completions", fields).json()["choices"][0]["message"]["content"]
        assert text == whole and text.count("�") <= limit


def test_silence_is_broken_by_comments():  # S4
    with Service("--max-batch", 1, "--sse-keepalive", 0.1) as slow, slow.connect() as first:
        body = json.dumps(chat(stream=True, **LONG)).encode()
        first.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s"
                   % (len(body), body))
        first.until(b"data: ")
        raw = slow.post("/v1/chat/completions", chat(stream=True))
        assert raw.body.count(b": keep-alive\n\n") >= 2
        assert events(raw.body)[-1] == "[DONE]"
        waited = list(slow.client().chat.completions.create(**chat(), stream=True))
        assert waited[-1].choices[0].finish_reason


def test_three_choices(service):  # S5
    fields = chat(n=3, temperature=1, seed=3)
    whole = service.client().chat.completions.create(**fields)
    assert [c.index for c in whole.choices] == [0, 1, 2]
    with service.client().chat.completions.stream(**fields) as stream:
        for _ in stream:
            pass
        final = stream.current_completion_snapshot
    assert [c.message.content for c in final.choices] == [c.message.content for c in whole.choices]
    one = service.client().chat.completions.create(**fields | {"n": 1})
    assert one.choices[0].message.content == whole.choices[0].message.content
    assert whole.usage.prompt_tokens == one.usage.prompt_tokens


def test_many_streams_on_few_connections(service):  # S7
    # The client's own transport, whose package has another name since version 3.
    http = importlib.import_module(openai.DefaultAsyncHttpxClient.__mro__[1].__module__.split(".")[0])
    limits = http.Limits(max_connections=4, max_keepalive_connections=4)

    async def run():
        transport = openai.DefaultAsyncHttpxClient(limits=limits, timeout=120)
        async with service.async_client(http_client=transport) as client:
            async def one(number):
                text = ""
                async for chunk in await client.chat.completions.create(
                        **chat(f"Number {number}", max_tokens=8), stream=True):
                    text += chunk.choices[0].delta.content or "" if chunk.choices else ""
                return text
            return await asyncio.gather(*(one(i) for i in range(200)))

    answers = asyncio.run(run())
    assert len(answers) == 200
    assert answers[7] == service.client().chat.completions.create(**chat("Number 7", max_tokens=8)).choices[0].message.content


@pytest.mark.parametrize("stream", [True, False])
def test_who_leaves_is_not_computed_for(service, stream):  # S8
    service.wait_idle()
    held = service.metric("internvl_kv_blocks_used")
    before = service.metric("internvl_requests_total", finish="cancelled")
    with service.connect() as wire:
        body = json.dumps(chat("A client that leaves", stream=stream, **LONG)).encode()
        wire.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s"
                  % (len(body), body))
        if stream:
            wire.until(b"content\":\"")
        else:
            service.wait_metric("internvl_requests_running", 1)
    service.wait_metric("internvl_requests_total", before + 1, seconds=2, finish="cancelled", status="499")
    service.wait_metric("internvl_requests_running", 0, seconds=2)
    service.wait_metric("internvl_kv_blocks_used", held, seconds=2)


def test_leaving_after_the_end_is_no_cancellation(service):  # S8
    before = service.metric("internvl_requests_total", finish="cancelled")
    with service.connect() as wire:
        body = json.dumps(chat(stream=True)).encode()
        wire.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s"
                  % (len(body), body))
        wire.until(b"data: [DONE]\n\n")
    time.sleep(0.1)
    assert service.metric("internvl_requests_total", finish="cancelled") == before


def test_completions_stream_alike(service):  # P12
    fields = {"model": "demo", "prompt": ["One", "Two"], "max_tokens": 8, "temperature": 0}
    whole = service.client().completions.create(**fields)
    texts = ["", ""]
    for chunk in service.client().completions.create(**fields, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert texts == [c.text for c in whole.choices]
