"""Chat completions and completions, without tools and schemas."""

from __future__ import annotations

from typing import Any

from clientele.checks.checklist import same
from clientele.checks.openai_subject import HI, OpenAIChecks, Subject

check = OpenAIChecks()


@check("chat: an answer, its usage adds up")
def text(of: Subject) -> None:
    """One answer in words."""
    answer = of.sdk.chat.completions.create(model=of.model, messages=HI, max_tokens=16)
    assert answer.choices[0].message.content, "no text"
    same(answer.choices[0].message.role, "assistant", "role")
    usage = answer.usage
    assert usage is not None, "no usage"
    same(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens, "total_tokens")
    assert 0 < usage.completion_tokens <= 16, f"completion_tokens: {usage.completion_tokens}"


@check("chat: a stream of deltas, role first, finish last")
def stream(of: Subject) -> None:
    """The same text in pieces."""
    whole = of.sdk.chat.completions.create(model=of.model, messages=HI, max_tokens=16, temperature=0)
    chunks = list(
        of.sdk.chat.completions.create(model=of.model, messages=HI, max_tokens=16, temperature=0, stream=True)
    )
    same(chunks[0].choices[0].delta.role, "assistant", "role of the first delta")
    assert all(c.choices[0].delta.role is None for c in chunks[1:] if c.choices), "a role after the first delta"
    joined = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    same(joined, whole.choices[0].message.content, "text")
    same(chunks[-1].choices[0].finish_reason, whole.choices[0].finish_reason, "finish_reason")
    same(len({c.id for c in chunks}), 1, "ids in a stream")
    assert all(c.usage is None for c in chunks), "usage that nobody asked for"


@check("chat: usage in a stream comes last, alone")
def stream_usage(of: Subject) -> None:
    """``stream_options.include_usage``."""
    options: Any = {"include_usage": True}
    asked = of.sdk.chat.completions.create(
        model=of.model, messages=HI, max_tokens=8, stream=True, stream_options=options
    )
    *rest, last = list(asked)
    same(last.choices, [], "choices of the last chunk")
    assert last.usage is not None and last.usage.completion_tokens > 0, "no usage in the last chunk"
    assert all("usage" in c.model_fields_set and c.usage is None for c in rest), "not null before the last chunk"


@check("chat: n answers")
def several(of: Subject) -> None:
    """Three choices, numbered."""
    answer = of.sdk.chat.completions.create(model=of.model, messages=HI, max_tokens=8, n=3, temperature=1)
    same(sorted(choice.index for choice in answer.choices), [0, 1, 2], "indexes")


@check("chat: stop")
def stop(of: Subject) -> None:
    """A stop string ends the answer and is not in it."""
    asked: list[Any] = [{"role": "user", "content": "Count: 1, 2, 3, 4, 5, 6, 7, 8, 9"}]
    free = of.sdk.chat.completions.create(model=of.model, messages=asked, max_tokens=32, temperature=0)
    words = free.choices[0].message.content or ""
    mark = words[len(words) // 2 :][:3]
    cut = of.sdk.chat.completions.create(model=of.model, messages=asked, max_tokens=32, temperature=0, stop=[mark])
    same(cut.choices[0].finish_reason, "stop", "finish_reason")
    same(cut.choices[0].message.content, words[: words.index(mark)], "text")


@check("chat: max_completion_tokens ends with length")
def length(of: Subject) -> None:
    """The limit by its newer name."""
    answer = of.sdk.chat.completions.create(model=of.model, messages=HI, max_completion_tokens=3)
    same(answer.choices[0].finish_reason, "length", "finish_reason")
    assert answer.usage is not None
    same(answer.usage.completion_tokens, 3, "completion_tokens")


@check("chat: logprobs and top_logprobs")
def logprobs(of: Subject) -> None:
    """Every token with its likeliest alternatives."""
    answer = of.sdk.chat.completions.create(
        model=of.model, messages=HI, max_tokens=6, logprobs=True, top_logprobs=3, temperature=0
    )
    found = answer.choices[0].logprobs
    assert found is not None and found.content, "no logprobs"
    assert all(len(one.top_logprobs) == 3 and one.logprob <= 0 for one in found.content), "not three alternatives"
    content = answer.choices[0].message.content or ""
    joined = b"".join(bytes(one.bytes or []) for one in found.content).decode()
    assert joined.startswith(content), f"the tokens' bytes {joined!r} are not the text {content!r}"


@check("chat: the same seed, the same answer")
def seed(of: Subject) -> None:
    """At temperature 1."""
    said = {
        of.sdk.chat.completions.create(model=of.model, messages=HI, max_tokens=12, temperature=1, seed=7)
        .choices[0]
        .message.content
        for _ in range(3)
    }
    same(len(said), 1, "different answers")


@check("chat: system, developer and several turns")
def roles(of: Subject) -> None:
    """Every role in one conversation, content as parts too."""
    messages: list[Any] = [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": [{"type": "text", "text": "Use English."}]},
        {"role": "user", "content": [{"type": "text", "text": "Hi."}, {"type": "text", "text": "Who are you?"}]},
        {"role": "assistant", "content": "A model."},
        {"role": "user", "content": "Whose?"},
    ]
    answer = of.sdk.chat.completions.create(model=of.model, messages=messages, max_tokens=6)
    assert answer.choices[0].message.content, "no text"


@check("chat: harmless fields are accepted")
def harmless(of: Subject) -> None:
    """What a program sends along."""
    answer = of.sdk.chat.completions.create(
        model=of.model, messages=HI, max_tokens=4, reasoning_effort="low", metadata={"a": "b"}, user="me",
        service_tier="auto", verbosity="low", prompt_cache_key="k", safety_identifier="s", frequency_penalty=0.1,
        presence_penalty=0.1, top_p=0.9, logit_bias={"5": -1}, modalities=["text"], store=False,
    )  # fmt: skip
    assert answer.choices[0].message.content is not None, "no text"


@check("chat: the raw answer carries a request id")
def request_id(of: Subject) -> None:
    """As the SDK shows it."""
    answer = of.sdk.chat.completions.create(model=of.model, messages=HI, max_tokens=2)
    assert answer._request_id, "no x-request-id"


@check("completions: text, list of prompts, usage")
def completions(of: Subject) -> None:
    """The older endpoint."""
    answer = of.sdk.completions.create(model=of.model, prompt=["The sky is", "Snow is"], max_tokens=4)
    same([choice.index for choice in answer.choices], [0, 1], "indexes")
    assert all(choice.text for choice in answer.choices), "no text"
    assert answer.usage is not None, "no usage"


@check("completions: echo")
def completions_echo(of: Subject) -> None:
    """The prompt in front of the answer."""
    answer = of.sdk.completions.create(model=of.model, prompt="The sky is", max_tokens=3, echo=True)
    assert answer.choices[0].text.startswith("The sky is"), f"no echo: {answer.choices[0].text!r}"


@check("completions: logprobs")
def completions_logprobs(of: Subject) -> None:
    """Every token scored."""
    answer = of.sdk.completions.create(model=of.model, prompt="The sky is", max_tokens=3, logprobs=2)
    scores = answer.choices[0].logprobs
    assert scores is not None and scores.tokens and scores.top_logprobs, "no logprobs"
    same(len(scores.tokens), len(scores.token_logprobs or []), "scores")


@check("completions: echo with logprobs")
def completions_echo_scored(of: Subject) -> None:
    """The prompt's tokens scored too, but for the first."""
    answer = of.sdk.completions.create(model=of.model, prompt="The sky is", max_tokens=3, echo=True, logprobs=2)
    scores = answer.choices[0].logprobs
    assert scores is not None and scores.tokens, "no logprobs"
    same("".join(scores.tokens), answer.choices[0].text, "tokens")


@check("completions: a stream")
def completions_stream(of: Subject) -> None:
    """Read without validation: the package's type has no ``finish_reason: null``, which OpenAI's own streams send."""
    lenient = of.sdk.with_options()
    lenient._strict_response_validation = False
    asked: Any = {"model": of.model, "prompt": "The sky is", "max_tokens": 6, "temperature": 0}
    whole = lenient.completions.create(**asked)
    pieces = list(lenient.completions.create(**asked, stream=True))
    same("".join(piece.choices[0].text for piece in pieces), whole.choices[0].text, "text")
    same(pieces[-1].choices[0].finish_reason, whole.choices[0].finish_reason, "finish_reason")
