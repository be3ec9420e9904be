"""What fields of a request do (P1 to P5, P8 to P12 of the conformance list; P6 and P7 compare numbers, in
tests/unit/engine/sampler_test.cpp)."""
import json

import openai
import pytest
from api_site import Service, chat, events, service  # noqa: F401


def ask(service, text="Tell me a story.", **fields):
    """The answer of the official client, any field; ids are returned too."""
    known = {k: fields.pop(k) for k in ("n", "logprobs", "top_logprobs", "stop", "seed", "temperature", "max_tokens", "top_p",
                                        "logit_bias", "max_completion_tokens") if k in fields}
    request = chat(text, **known)
    if "max_completion_tokens" in known and "max_tokens" not in known:
        del request["max_tokens"]
    return service.client().chat.completions.create(**request, extra_body={"return_token_ids": True, **fields})


def text_of(answer):
    return answer.choices[0].message.content


def ids_of(answer):
    return answer.model_dump()["choices"][0]["token_ids"]


def refused(service, code, param, **fields):
    with pytest.raises(openai.BadRequestError) as error:
        ask(service, **fields)
    assert (error.value.code, error.value.param) == (code, param), error.value.body
    return error.value.message


def test_greedy_and_seeds(service):  # P1
    greedy = ids_of(ask(service, temperature=0))
    assert ids_of(ask(service, temperature=0, seed=5)) == greedy
    assert ids_of(ask(service, temperature=1.5, top_k=1)) == greedy
    seven = ids_of(ask(service, temperature=1.5, seed=7))
    assert ids_of(ask(service, temperature=1.5, seed=7)) == seven
    assert ids_of(ask(service, temperature=1.5, seed=8)) != seven
    assert ask(service, seed=-(2 ** 63), return_info=True).model_dump()["internvl"]["seed"] == -(2 ** 63)
    drawn = ask(service, temperature=1.5, return_info=True)  # the seed that was drawn gives the answer again
    assert ids_of(ask(service, temperature=1.5, seed=drawn.model_dump()["internvl"]["seed"])) == ids_of(drawn)


def test_stops(service):  # P2
    whole = ask(service, temperature=0)
    text, first = text_of(whole), service.post("/detokenize", {"tokens": ids_of(whole)[:1]}).json()["prompt"]
    assert len(text) > 12
    for stop in (text[5:8], text[7], text[4:12], first, ["nowhere to be found", text[5:8]], ["x" * 1024] * 15 + [text[6:9]]):
        options = [stop] if isinstance(stop, str) else stop
        answer = ask(service, temperature=0, stop=stop)
        assert text_of(answer) == text[:min(text.find(s) for s in options if s in text)], stop
        assert answer.choices[0].finish_reason == "stop"
        streamed = service.client().chat.completions.create(**chat("Tell me a story.", stop=stop), stream=True)
        assert "".join(c.choices[0].delta.content or "" for c in streamed if c.choices) == text_of(answer)
    assert text_of(ask(service, temperature=0, stop=first)) == ""
    for stop in (["x"] * 17, [""], "", ["x" * 1025]):
        refused(service, "invalid_value", "stop", stop=stop)


def test_limits_of_the_answer(service):  # P3
    one = ask(service, max_tokens=1)
    assert one.choices[0].finish_reason == "length" and one.usage.completion_tokens == 1
    for fields in ({"max_completion_tokens": 3}, {"max_completion_tokens": 3, "max_tokens": 3}):
        answer = ask(service, ignore_eos=True, **fields)
        assert answer.usage.completion_tokens == 3 and answer.choices[0].finish_reason == "length"
    assert "3" in refused(service, "invalid_value", "max_tokens", max_completion_tokens=3, max_tokens=4)
    refused(service, "invalid_value", "max_tokens", max_tokens=0)
    message = refused(service, "context_length_exceeded", "messages", max_tokens=8192)
    assert "maximum context length is 8192 tokens" in message and str(8192 + one.usage.prompt_tokens) in message
    room = 8192 - one.usage.prompt_tokens
    assert ask(service, max_tokens=room, stop_token_ids=[i for i in range(64)]).choices[0].finish_reason
    refused(service, "context_length_exceeded", "messages", max_tokens=room + 1)
    with Service("--clamp-max-tokens", "--max-model-len", 400) as clamped:
        answer = ask(clamped, max_tokens=8192, ignore_eos=True)
        assert answer.usage.total_tokens == 400 and answer.choices[0].finish_reason == "length"


def test_default_limit(service):  # P3: 1024 tokens, or what is left
    request = chat(ignore_eos=True)
    del request["max_tokens"]
    assert service.post("/v1/chat/completions", request).json()["usage"]["completion_tokens"] == 1024
    with Service("--max-model-len", 300) as short:
        assert short.post("/v1/chat/completions", request).json()["usage"]["total_tokens"] == 300


@pytest.mark.parametrize("top", [0, 5, 20])
def test_logprobs(service, top):  # P4
    answer = ask(service, temperature=0, logprobs=True, top_logprobs=top)
    content = answer.choices[0].logprobs.content
    assert len(content) == answer.usage.completion_tokens
    assert b"".join(bytes(t.bytes or []) for t in content).decode() == text_of(answer)
    for token in content:
        assert -9999 <= token.logprob <= 0 and len(token.top_logprobs) == top
        others = [o.logprob for o in token.top_logprobs]
        assert others == sorted(others, reverse=True)
        if top:
            assert token.logprob == others[0] and token.token == token.top_logprobs[0].token  # greedy
    stream = service.client().chat.completions.create(
        **chat("Tell me a story.", logprobs=True, top_logprobs=top), stream=True)
    streamed = [t for c in stream if c.choices and c.choices[0].logprobs for t in c.choices[0].logprobs.content]
    assert [t.model_dump() for t in streamed] == [t.model_dump() for t in content]
    sampled = ask(service, temperature=1.7, seed=1, logprobs=True, top_logprobs=top, repetition_penalty=1.5).choices[0]
    assert all(t.logprob <= (t.top_logprobs[0].logprob if top else 0) for t in sampled.logprobs.content)


def test_logprobs_sum_to_one(service):  # P4: of the whole vocabulary, each token forced in turn
    request = chat("Tell me a story.", max_tokens=1, logprobs=True, top_logprobs=20)
    tops = service.post("/v1/chat/completions", request).json()["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    assert 0 < sum(2.718281828459045 ** t["logprob"] for t in tops) <= 1 + 1e-5
    biased = service.post("/v1/chat/completions", request | {"temperature": 2, "seed": 3, "logit_bias": {"40": 100}}).json()
    assert biased["choices"][0]["logprobs"]["content"][0]["top_logprobs"] == tops  # before bias and temperature


def test_logprobs_out_of_range(service):  # P4
    refused(service, "invalid_value", "top_logprobs", logprobs=True, top_logprobs=21)
    refused(service, "invalid_value", "top_logprobs", top_logprobs=5)


def test_bias(service):  # P5
    forced = ask(service, temperature=0, logit_bias={"40": 100}, max_tokens=5)
    assert ids_of(forced) == [40] * 5
    plain = ids_of(ask(service, temperature=0))
    forbidden = ask(service, temperature=0, logit_bias={str(i): -100 for i in set(plain)})
    assert not set(ids_of(forbidden)) & set(plain)
    for bias in ({"1000000": 1}, {"-1": 1}, {"40": 101}, {"4.5": 1}, {"x": 1}):
        refused(service, "invalid_value", "logit_bias", logit_bias=bias)


def test_ends_that_are_asked_for(service):  # P8
    whole = ids_of(ask(service, temperature=0, ignore_eos=True))
    stop = next(i for i, token in enumerate(whole) if i >= 4 and token not in whole[:i])
    by_id = ask(service, temperature=0, ignore_eos=True, stop_token_ids=[whole[stop]])
    assert by_id.choices[0].finish_reason == "stop" and ids_of(by_id)[:stop] == whole[:stop]
    assert len(ids_of(by_id)) == stop and by_id.usage.completion_tokens == stop
    late = ask(service, temperature=0, ignore_eos=True, stop_token_ids=[whole[stop]], min_tokens=stop + 5)
    assert late.usage.completion_tokens >= stop + 5 and whole[stop] not in ids_of(late)[:stop + 5]
    text = text_of(ask(service, temperature=0, ignore_eos=True))
    kept = ask(service, temperature=0, ignore_eos=True, stop=text[5:8], include_stop_str_in_output=True)
    assert text_of(kept) == text[:text.find(text[5:8])] + text[5:8]
    until = ask(service, temperature=0, ignore_eos=True, stop=text[:2], min_tokens=12)
    assert until.usage.completion_tokens >= 12
    assert ask(service, ignore_eos=True, max_tokens=300).usage.completion_tokens == 300


def test_tags_of_grounding(service):  # P8
    box = service.post("/tokenize", {"prompt": "<box>"}).json()["tokens"]
    assert len(box) == 1
    fields = {"temperature": 0, "max_tokens": 2, "logit_bias": {str(box[0]): 100}}
    dropped = ask(service, **fields, logprobs=True)
    assert text_of(dropped) == "" and [t.bytes for t in dropped.choices[0].logprobs.content] == [None, None]
    assert text_of(ask(service, **fields, skip_special_tokens=False)) == "<box><box>"


# P9: values that are taken, values that are refused; null is absent, nothing is coerced. More of the same:
# tests/unit/serve/fields_test.cpp.
RANGES = {
    "max_tokens": ([1, 2], [0, -1], ["1", 1.0, True]), "min_tokens": ([0, 2], [-1, 3], ["0"]),
    "max_completion_tokens": ([2], [0], [1.5]), "temperature": ([0, 2, 0.5], [-0.01, 2.01], ["hot", True]),
    "top_p": ([1e-6, 1], [0, 1.01], ["1"]), "top_k": ([-1, 0, 1, 700], [-2, 10 ** 6], [1.0, [1]]),
    "min_p": ([0, 1], [-0.1, 1.1], ["0"]), "repetition_penalty": ([0.001, 10], [0, 10.1], [False]),
    "presence_penalty": ([-2, 2], [-2.1, 2.1], ["0"]), "frequency_penalty": ([-2, 2], [-2.1, 2.1], ["0"]),
    "logit_bias": ([{}, {"0": -100}], [{"1": 101}], [[], {"1": "2"}]), "seed": ([-2 ** 63, 2 ** 63 - 1], [2 ** 63], [1.0, "1"]),
    "n": ([1, 8], [0, 9, 10 ** 9], [1.0]), "stop": (["x", [], ["x"] * 16], ["", ["x"] * 17, ["x"] * 10 ** 5], [1, [1]]),
    "stop_token_ids": ([[], [0]], [[10 ** 6], [-1], [1] * 65], [["1"], 1]), "ignore_eos": ([True], [], [1, "true"]),
    "include_stop_str_in_output": ([True], [], [0]), "skip_special_tokens": ([False], [], [0]),
    "logprobs": ([True, False], [], [1, "true"]), "top_logprobs": ([0], [-1, 21, 10 ** 9], [True, 1.0]),
    "stream": ([False], [], [1]), "user": (["", "u" * 512], ["u" * 513], [1]), "metadata": ([{"a": "b"}], [], ["a"]),
    "mm_processor_kwargs": ([{}, {"max_dynamic_patch": 40}], [], [1]), "media_io_kwargs": ([{"video": {"fps": 1}}], [], [1]),
    "max_total_tiles": ([1, 1024], [0, 1025], ["3"]), "image_fit": (["error", "reduce"], ["crop"], [1]),
    "image_placement": (["auto", "parts", "inline", "combined", "markers"], ["above"], [1]),
    "cache_salt": (["", "s" * 128], ["s" * 129], [1]), "deadline_ms": ([20000, 540000], [0, 540001], [1e3]),
    "priority": ([0], [-11, 11], ["0"]), "return_info": ([True], [], [1]), "return_token_ids": ([True], [], [1]),
    "add_generation_prompt": ([True], [False], [1]), "continue_final_message": ([False], [True], [1]),
    "reasoning_effort": (["low"], [], [1]), "parallel_tool_calls": ([True], [], [1]), "prediction": ([{}], [], ["a"]),
}


@pytest.mark.parametrize("field", sorted(RANGES))
def test_ranges(service, field):
    taken, outside, wrong = RANGES[field]

    def post(value):
        body = chat(max_tokens=2)
        if field == "max_completion_tokens":
            del body["max_tokens"]
        return service.post("/v1/chat/completions", body | {field: value})

    for value in [*taken, None]:
        assert post(value).status == 200, value
    for values, code in ((outside, "invalid_value"), (wrong, "invalid_type")):
        for value in values:
            answer = post(value)
            assert answer.status == 400, value
            error = answer.json()["error"]
            assert (error["code"], error["param"], error["type"]) == (code, field, "invalid_request_error"), value
            assert field in error["message"] and len(error["message"]) < 400


@pytest.mark.parametrize("fields", [  # P10
    {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}, {"tool_choice": "required"},
    {"audio": {"voice": "alloy", "format": "wav"}}, {"functions": [{"name": "f"}]}, {"function_call": {"name": "f"}},
    {"modalities": ["text", "audio"]}, {"response_format": {"type": "json_object"}}, {"web_search_options": {}},
    {"best_of": 2}, {"prompt_logprobs": 1}, {"guided_json": {}}, {"structured_outputs": {}}, {"chat_template": "x"},
    {"chat_template_kwargs": {"a": 1}},
])
def test_what_is_not_there_is_refused(service, fields):
    refused(service, "unsupported_parameter", next(iter(fields)), **fields)


def test_schemas_are_refused(service):  # P10
    from pydantic import BaseModel

    class Cat(BaseModel):
        name: str

    completions = service.client().chat.completions
    parse = completions.parse if hasattr(completions, "parse") else service.client().beta.chat.completions.parse
    with pytest.raises(openai.BadRequestError) as error:
        parse(**chat(), response_format=Cat)
    assert (error.value.code, error.value.param) == ("unsupported_parameter", "response_format")


def test_what_has_no_effect(service):  # P11
    plain = service.post("/v1/chat/completions", chat()).json()["choices"]
    quiet = {"user": "somebody", "metadata": {"a": "b"}, "store": True, "service_tier": "auto", "verbosity": "low",
             "prompt_cache_key": "k", "tools": [], "tool_choice": "none", "modalities": ["text"],
             "response_format": {"type": "text"}, "chat_template_kwargs": {}}
    answer = service.post("/v1/chat/completions", chat(**quiet))
    assert answer.json()["choices"] == plain and "x-internvl-ignored" not in answer.headers
    many = service.post("/v1/chat/completions", chat(foo=1, **{f"bar{i} \r\n": 1 for i in range(20)}, **{"x" * 100: 1}))
    names = [name.strip() for name in many.headers["x-internvl-ignored"].split(",")]
    assert many.json()["choices"] == plain and len(names) == 10 and all(len(n) <= 64 for n in names)
    raw = service.client().chat.completions.with_raw_response.create(**chat(), extra_body={"foo": 1})
    assert raw.headers["x-internvl-ignored"] == "foo"
    with Service("--strict-fields") as strict:
        refused(strict, "unsupported_parameter", "foo", foo=1)
        assert strict.post("/v1/chat/completions", chat(**quiet)).status == 200


def test_completions(service):  # P12
    client = service.client()
    fields = {"model": "demo", "max_tokens": 4, "temperature": 0}
    single = [client.completions.create(prompt=p, **fields).choices[0].text for p in ("One", "Two", "Three")]
    listed = client.completions.create(prompt=["One", "Two", "Three"], n=2, **fields)
    assert listed.object == "text_completion" and listed.id.startswith("cmpl-")
    assert [c.index for c in listed.choices] == list(range(6))
    assert [c.text for c in listed.choices] == [text for text in single for _ in range(2)]  # prompt-major
    ids = [service.post("/tokenize", {"prompt": p}).json()["tokens"] for p in ("One", "Two")]
    assert client.completions.create(prompt=ids[0], **fields).choices[0].text == single[0]
    assert [c.text for c in client.completions.create(prompt=ids, **fields).choices] == single[:2]
    told = client.completions.create(prompt="One", logprobs=3, best_of=1, echo=False, suffix="", **fields).choices[0]
    shape = told.logprobs
    assert len(shape.tokens) == len(shape.token_logprobs) == len(shape.text_offset) == len(shape.top_logprobs) == 4
    assert shape.text_offset[0] == 0 and shape.text_offset == sorted(shape.text_offset)
    assert all(1 <= len(top) <= 3 and max(top.values()) == lp for top, lp in zip(shape.top_logprobs, shape.token_logprobs))
    assert len(client.completions.create(model="demo", prompt="One", temperature=0,
                                         extra_body={"ignore_eos": True, "return_token_ids": True}).choices) == 1
    assert client.completions.create(model="demo", prompt="One", extra_body={"ignore_eos": True}).usage.completion_tokens == 16
    for wrong, code, param in (
            ({"echo": True}, "unsupported_parameter", "echo"), ({"suffix": "x"}, "unsupported_parameter", "suffix"),
            ({"best_of": 2}, "unsupported_parameter", "best_of"), ({"max_tokens": 0}, "invalid_value", "max_tokens"),
            ({"logprobs": 21}, "invalid_value", "logprobs"), ({"prompt": ""}, "invalid_value", "prompt"),
            ({"prompt": []}, "invalid_value", "prompt"), ({"prompt": ["x"] * 33}, "invalid_value", "prompt"),
            ({"prompt": [10 ** 6]}, "invalid_value", "prompt")):
        with pytest.raises(openai.BadRequestError) as error:
            client.completions.create(**{"prompt": "One", **fields, **wrong})
        assert (error.value.code, error.value.param) == (code, param)
    picture_ids = service.post("/v1/completions", fields | {"prompt": [image_id(service)]})
    assert (picture_ids.status, picture_ids.json()["error"]["param"]) == (400, "prompt")
    raw = service.post("/v1/completions", fields | {"prompt": "One", "stream": True, "logprobs": 1})
    chunks = [json.loads(e) for e in events(raw.body)[:-1]]
    assert {c["object"] for c in chunks} == {"text_completion"}
    assert "".join(c["choices"][0]["text"] for c in chunks) == single[0]


def image_id(service):
    """The id that a picture's rows have."""
    from api_site import picture

    ids = service.post("/tokenize", {"messages": [{"role": "user", "content": [picture()]}]}).json()["tokens"]
    return max(set(ids), key=ids.count)
