"""The endpoints at which models answer, and those that list models."""

from __future__ import annotations

from typing import Final, NamedTuple

from meshnode.api.chat_schema import ChatFields
from meshnode.api.completions_schema import CompletionFields
from meshnode.api.embeddings_schema import EmbeddingFields
from meshnode.api.messages.schema import MessagesFields
from meshnode.api.messages.schema import PromptFields as CountFields
from meshnode.api.openapi import answers, kept_answers, messages_answers, responses_answers
from meshnode.api.openapi.bodies import ChatToTokens, Comparison, CountedResponse
from meshnode.api.openapi.endpoint import WHOLE, Either, Endpoint, Envelope, Parameter, Shape
from meshnode.api.rerank_schema import RerankFields
from meshnode.api.responses.schema import ResponseFields
from meshnode.api.tokens_schema import TextFields, TokenFields

SESSION: Final = Parameter(
    "x-session-id", "header", "The conversation this belongs to; the body's `session_id` goes before."
)


LATER: Final = ((202, kept_answers.JobHead),)
"""With ``async_mode``: what to ask for later."""
VERSION: Final = Parameter("anthropic-version", "header", "Asks for Anthropic's shape; its value is not looked at.")
PAGES: Final = (
    VERSION,
    Parameter("limit", "query", "How many, in Anthropic's shape; 20 unless said.", WHOLE),
    Parameter("after_id", "query", "Those after this one, in Anthropic's shape."),
    Parameter("before_id", "query", "Those before this one, in Anthropic's shape."),
)


class Spoken(NamedTuple):
    """A dialect by its path below ``/v1``: what it takes, answers and streams."""

    path: str
    name: str
    room: str
    summary: str
    body: type
    answer: Shape
    event: Shape | None = None
    other_bodies: tuple[type, ...] = ()
    also: tuple[tuple[int, Shape], ...] = ()
    at_root: bool = False
    envelope: Envelope = Envelope.OPENAI
    about: str = ""
    """llama.cpp's: also without ``/v1``."""


DIALECTS: Final = (
    Spoken(
        "chat/completions",
        "createChatCompletion",
        "Chat",
        "Answer a conversation",
        ChatFields,
        answers.ChatCompletion,
        answers.ChatCompletionChunk,
        also=LATER,
    ),
    Spoken(
        "completions",
        "createCompletion",
        "Completions",
        "Continue a text",
        CompletionFields,
        answers.Completion,
        answers.Completion,
        also=LATER,
    ),
    Spoken(
        "embeddings",
        "createEmbedding",
        "Embeddings",
        "Turn texts into vectors",
        EmbeddingFields,
        answers.EmbeddingList,
    ),
    Spoken(
        "responses",
        "createResponse",
        "Responses",
        "Answer a conversation, as OpenAI's Responses",
        ResponseFields,
        responses_answers.Response,
        responses_answers.ResponseEvent,
    ),
    Spoken(
        "responses/input_tokens",
        "countResponseTokens",
        "Responses",
        "Count the tokens of a prompt",
        CountedResponse,
        responses_answers.InputTokens,
    ),
    Spoken(
        "messages",
        "createMessage",
        "Messages",
        "Answer a conversation, as Anthropic's Messages",
        MessagesFields,
        messages_answers.MessageAnswer,
        messages_answers.MessageEvent,
        envelope=Envelope.ANTHROPIC,
    ),
    Spoken(
        "messages/count_tokens",
        "countMessageTokens",
        "Messages",
        "Count the tokens of a prompt",
        CountFields,
        messages_answers.MessageTokens,
        envelope=Envelope.ANTHROPIC,
    ),
)
"""Every one has three paths: its own, with the model in it, and where Azure's clients look for it."""


_RERANK: Final = Spoken(
    "rerank", "rerank", "Rerank", "Sort documents by how well they answer", RerankFields, answers.Reranked, at_root=True
)
AT_ROOT: Final = (
    Spoken(
        "tokenize",
        "tokenize",
        "Prompts",
        "Cut a text or a conversation into tokens",
        TextFields,
        answers.Tokens,
        other_bodies=(ChatToTokens,),
        at_root=True,
    ),
    Spoken("detokenize", "detokenize", "Prompts", "Read tokens back", TokenFields, answers.TokensText, at_root=True),
    Spoken(
        "apply-template",
        "applyTemplate",
        "Prompts",
        "Render a conversation with the model's chat template",
        ChatFields,
        answers.Rendered,
        at_root=True,
    ),
    _RERANK,
    _RERANK._replace(path="reranking", name="reranking"),
)
"""Those that have llama.cpp's paths too."""


def _paths(spoken: Spoken) -> list[Endpoint]:
    base = Endpoint(
        "POST",
        f"/v1/{spoken.path}",
        spoken.name,
        spoken.room,
        spoken.summary,
        parameters=(SESSION,),
        body=spoken.body,
        other_bodies=spoken.other_bodies,
        also=spoken.also,
        answer=spoken.answer,
        event=spoken.event,
        envelope=spoken.envelope,
        about=spoken.about,
        generates=True,
    )
    other = base._replace(same_as=base.path)
    root = other._replace(
        path=f"/{spoken.path}", name=f"{spoken.name}AtRoot", summary=f"{spoken.summary}, where llama.cpp's clients look"
    )
    return [
        base,
        *([root] if spoken.at_root else []),
        other._replace(
            path=f"/v1/models/{{model}}/{spoken.path}",
            name=f"{spoken.name}OfModel",
            summary=f"{spoken.summary}, with the model in the path",
        ),
        other._replace(
            path=f"/openai/deployments/{{model}}/{spoken.path}",
            name=f"{spoken.name}OfDeployment",
            summary=f"{spoken.summary}, where Azure's clients look for it",
        ),
    ]


GENERATING: Final = (
    *(endpoint for spoken in (*DIALECTS, *AT_ROOT) for endpoint in _paths(spoken)),
    Endpoint(
        "POST",
        "/v1/chat/compare",
        "compare",
        "Chat",
        "Put one prompt to several models at a time",
        "One model's failure is its own entry's error. In a stream every chunk says whose it is in `entry`.",
        body=Comparison,
        answer=answers.Compared,
        event=answers.ComparedChunk,
    ),
    Endpoint(
        "GET",
        "/v1/models",
        "listModels",
        "Models",
        "List the models here and at peers",
        "In Anthropic's shape, page by page, where the header `anthropic-version` is sent.",
        parameters=PAGES,
        answer=Either((answers.ModelList, messages_answers.ModelPage)),
        envelope=Envelope.EITHER,
        refused=(400,),
    ),
    Endpoint(
        "GET",
        "/v1/models/{name}",
        "retrieveModel",
        "Models",
        "Tell of one model, by any of its names",
        "In Anthropic's shape where the header `anthropic-version` is sent.",
        parameters=(VERSION,),
        answer=Either((answers.ModelEntry, messages_answers.ModelInfo)),
        envelope=Envelope.EITHER,
        refused=(404,),
    ),
)
