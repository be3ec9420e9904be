"""Libraries that people reach the service with, unmodified (L1 of the conformance list): LangChain, LlamaIndex and LiteLLM. Not
part of the suite, because to install them takes minutes:
    scripts/clients_tests.sh build
"""
import asyncio

import pytest
from api_site import Service, chat, picture

KEY = "sk-0123456789abcdef"
PICTURE = picture(640, 480)["image_url"]["url"]


@pytest.fixture(scope="module")
def site():
    with Service(env={"INTERNVL_API_KEYS": KEY}) as running:
        yield running
        assert running.get("/health").status == 200


@pytest.fixture(scope="module")
def expected(site):
    """The greedy answer to the usual question."""
    return site.post("/v1/chat/completions", chat(), KEY).json()["choices"][0]["message"]["content"]


def test_langchain(site, expected):
    from langchain_core.messages import HumanMessage, SystemMessage
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(model="demo", base_url=site.base + "/v1", api_key=KEY, temperature=0, max_tokens=24, max_retries=0)
    answer = model.invoke("Hello, who are you?")
    assert answer.content == expected and answer.usage_metadata["output_tokens"] > 0
    pieces = list(model.stream("Hello, who are you?"))
    assert "".join(p.content for p in pieces) == expected and len(pieces) > 3

    async def gather():
        return [p.content async for p in model.astream("Hello, who are you?")]

    assert "".join(asyncio.run(gather())) == expected
    seen = model.invoke([SystemMessage("Be brief."), HumanMessage([
        {"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": PICTURE}}])])
    assert seen.usage_metadata["input_tokens"] > 13 * 256
    assert [a.content for a in model.batch(["Hello, who are you?"] * 3)] == [expected] * 3


def test_llama_index(site, expected):
    from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
    from llama_index.llms.openai_like import OpenAILike

    model = OpenAILike(model="demo", api_base=site.base + "/v1", api_key=KEY, is_chat_model=True, temperature=0, max_tokens=24,
                       max_retries=0)
    question = [ChatMessage(role="user", content="Hello, who are you?")]
    assert model.chat(question).message.content == expected
    assert "".join(p.delta or "" for p in model.stream_chat(question)) == expected
    assert model.complete("Hello, who are you?").text == expected
    picture_block = ImageBlock(url=PICTURE)
    seen = model.chat([ChatMessage(role="user", blocks=[TextBlock(text="What is it?"), picture_block])])
    assert seen.raw.usage.prompt_tokens > 13 * 256
    plain = OpenAILike(model="demo", api_base=site.base + "/v1", api_key=KEY, temperature=0, max_tokens=8)
    assert plain.complete("Once upon a time").text


def test_litellm(site, expected):
    import litellm

    fields = {"model": "hosted_vllm/demo", "api_base": site.base + "/v1", "api_key": KEY, "num_retries": 0}
    question = [{"role": "user", "content": "Hello, who are you?"}]
    greedy = {"temperature": 0, "max_tokens": 24}
    assert litellm.completion(messages=question, **fields, **greedy).choices[0].message.content == expected
    stream = litellm.completion(messages=question, stream=True, stream_options={"include_usage": True}, **fields, **greedy)
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == expected
    assert any(getattr(c, "usage", None) for c in chunks)
    seen = litellm.completion(messages=[{"role": "user", "content": [
        {"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": PICTURE}}]}], **fields, **greedy)
    assert seen.usage.prompt_tokens > 13 * 256
    with pytest.raises(litellm.ContextWindowExceededError):
        litellm.completion(messages=[{"role": "user", "content": "word " * 9000}], **fields)
    with pytest.raises(litellm.ContextWindowExceededError):
        list(litellm.completion(messages=[{"role": "user", "content": "word " * 9000}], stream=True, **fields))
    with pytest.raises(litellm.AuthenticationError):
        litellm.completion(messages=question, **{**fields, "api_key": "wrong"})
    with pytest.raises(litellm.NotFoundError):
        litellm.completion(messages=question, **{**fields, "model": "hosted_vllm/other"})
    with pytest.raises(litellm.BadRequestError):
        litellm.completion(messages=question, top_k=-5, **fields)
