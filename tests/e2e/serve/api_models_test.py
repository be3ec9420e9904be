"""Models, paths and plain answers (M1 to M4, T1 to T3, T8, T9 of the conformance list)."""
import openai
import pytest
from api_site import Service, chat, picture, service  # noqa: F401


def test_models_are_listed_and_found(service):  # M1, M2
    client = service.client()
    listed = client.models.list()
    entry = listed.data[0]
    assert listed.object == "list" and entry.id == "demo" and entry.object == "model"
    assert isinstance(entry.created, int)
    assert client.models.retrieve("demo").id == "demo"
    with pytest.raises(openai.NotFoundError) as error:
        client.models.retrieve("other")
    assert error.value.code == "model_not_found"


def test_a_served_name_with_a_slash():  # M2
    with Service("--served-model-name", "OpenGVLab/InternVL2-1B,small") as named:
        client = named.client()
        assert [m.id for m in client.models.list().data] == ["OpenGVLab/InternVL2-1B"]
        assert client.models.retrieve("OpenGVLab/InternVL2-1B").id == "OpenGVLab/InternVL2-1B"
        assert named.get("/v1/models/OpenGVLab%2FInternVL2-1B").status == 200
        for name in ("OpenGVLab/InternVL2-1B", "small"):
            answer = client.chat.completions.create(**chat(model=name))
            assert answer.model == name
        with pytest.raises(openai.NotFoundError) as error:
            client.chat.completions.create(**chat(model="large"))
        assert error.value.code == "model_not_found" and "small" in error.value.message


def test_paths_that_are_not_there(service):  # M4
    wrong = service.post("/v1/models", {})
    assert (wrong.status, wrong.code, wrong.headers["allow"]) == (405, "method_not_allowed", "GET")
    assert service.get("/nope").code == "unknown_endpoint"
    for path in ("/v1/responses", "/v1/embeddings", "/v1/messages", "/v1/audio/speech", "/v1/files", "/v1/batches"):
        answer = service.post(path, {})
        assert (answer.status, answer.code) == (404, "unsupported_endpoint"), path
        assert "/v1/chat/completions" in answer.json()["error"]["message"] or "/tokenize" in answer.json()["error"]["message"]


def test_a_plain_answer(service):  # T1
    client = service.client()
    answer = client.chat.completions.create(**chat())
    assert answer.object == "chat.completion" and answer.choices[0].finish_reason in ("stop", "length")
    assert answer.choices[0].message.role == "assistant" and answer.usage.completion_tokens > 0
    tokens = service.post("/tokenize", {"messages": chat()["messages"]}).json()
    assert tokens["count"] == answer.usage.prompt_tokens == len(tokens["tokens"])
    again = client.chat.completions.create(**chat())
    assert again.choices[0].message.content == answer.choices[0].message.content
    raw = service.post("/v1/chat/completions", chat())
    assert int(raw.headers["openai-processing-ms"]) >= 0 and raw.headers["cache-control"] == "no-store"


def test_system_messages(service):  # T3
    def count(*messages):
        return service.post("/tokenize", {"messages": [*messages, {"role": "user", "content": "Hi"}]}).json()["tokens"]

    absent, empty = count(), count({"role": "system", "content": ""})
    given = count({"role": "system", "content": "Be brief."})
    assert len({tuple(absent), tuple(empty), tuple(given)}) == 3
    assert count({"role": "developer", "content": "Be brief."}) == given
    joined = count({"role": "system", "content": "Be"}, {"role": "system", "content": "brief."})
    assert joined == count({"role": "system", "content": "Be\nbrief."})
    late = service.post("/v1/chat/completions", chat() | {"messages": [
        {"role": "user", "content": "Hi"}, {"role": "system", "content": "Be brief."}]})
    assert (late.status, late.code) == (400, "invalid_messages")


def test_a_picture_counts(service):  # T2, O5
    answer = service.client().chat.completions.create(**chat([
        {"type": "text", "text": "Please describe the image shortly."}, picture(640, 480)]))
    details = answer.usage.prompt_tokens_details.model_dump()
    assert details["image_tokens"] == 3328
    assert details["text_tokens"] + 3328 == answer.usage.prompt_tokens
    estimate = service.post("/v1/estimate", chat([
        {"type": "text", "text": "Please describe the image shortly."}, picture(640, 480)])).json()
    assert estimate["prompt_tokens"] == answer.usage.prompt_tokens
    assert estimate["images"][0]["grid"] == [4, 3] and estimate["images"][0]["tiles"] == 13
    by_size = service.get("/v1/estimate?width=640&height=480&max_num=12").json()
    assert by_size["images"][0]["tiles"] == 13 and by_size["prompt_tokens"] is None


def test_equal_sizes_are_not_equal_pictures(service):  # Q5
    """Two pictures of one size share nothing; the same one twice is known the second time."""
    client = service.client()

    def ask(shade):
        request = chat([{"type": "text", "text": "What is it?"}, picture(shade=shade)], max_tokens=1)
        return client.chat.completions.create(**request, extra_body={"cache_salt": "equal sizes"})

    first, other, again = ask(10), ask(200), ask(10)
    before = first.usage.prompt_tokens_details.text_tokens  # nothing from the picture's first row on
    assert first.usage.prompt_tokens_details.cached_tokens <= before
    assert other.usage.prompt_tokens_details.cached_tokens <= before
    assert again.usage.prompt_tokens_details.cached_tokens >= 256


def test_a_beginning_is_continued(service):  # T8
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "The answer is"}]
    open_ids = service.post("/tokenize", {"messages": messages}).json()["tokens"]
    closed = service.post("/tokenize", {"messages": messages, "continue_final_message": False}).json()["tokens"]
    assert closed[:len(open_ids)] == open_ids and len(closed) > len(open_ids)
    answer = service.client().chat.completions.create(**chat() | {"messages": messages})
    assert not answer.choices[0].message.content.startswith("The answer is")


@pytest.mark.parametrize("fields, param", [
    ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]}, "messages[0].role"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "system", "content": "x"}]}, "messages"),
    ({"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
     "messages[0].content[0].type"),
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"temperature": 3}, "temperature"), ({"temperature": "1"}, "temperature"), ({"n": 9}, "n"),
    ({"top_p": 0}, "top_p"), ({"max_tokens": 0}, "max_tokens"), ({"stop": [""]}, "stop[0]"),
])
def test_what_cannot_be_done_is_refused_by_name(service, fields, param):  # T9
    with pytest.raises(openai.BadRequestError) as error:
        service.client().chat.completions.create(**{**chat(), **fields})
    assert error.value.param == param or error.value.param == param.split("[")[0], error.value.body


def test_unknown_fields_are_named(service):  # P11
    raw = service.post("/v1/chat/completions", chat(foo=1, user="somebody", store=True))
    assert raw.status == 200 and raw.headers["x-internvl-ignored"] == "foo"
    with Service("--strict-fields") as strict:
        assert strict.post("/v1/chat/completions", chat(foo=1)).status == 400
