"""The ways to ask that this API has, by their paths."""

from __future__ import annotations

from typing import Final

from meshnode.api.chat import ChatRenderer
from meshnode.api.chat_schema import parse_chat
from meshnode.api.completions import CompletionRenderer
from meshnode.api.completions_schema import parse_completion
from meshnode.api.dialect import Dialect
from meshnode.api.embeddings import EmbeddingRenderer
from meshnode.api.embeddings_schema import parse_embedding
from meshnode.api.messages.count import CountRenderer
from meshnode.api.messages.render import MessagesRenderer
from meshnode.api.messages.schema import parse_count, parse_messages
from meshnode.api.read_back import read_back
from meshnode.api.rerank import RerankRenderer
from meshnode.api.rerank_schema import parse_rerank
from meshnode.api.responses.routes import RESPONSE, RESPONSE_COUNT
from meshnode.api.sessions import in_session
from meshnode.api.tokens import TokensRenderer
from meshnode.api.tokens_schema import parse_apply_template, parse_detokenize, parse_tokenize
from meshnode.api.voice import ANTHROPIC

CHAT: Final = Dialect("chat", "chatcmpl-", parse_chat, ChatRenderer, prepare=in_session)
COMPLETION: Final = Dialect("completion", "cmpl-", parse_completion, CompletionRenderer, prepare=read_back)
EMBEDDING: Final = Dialect("embedding", "embd-", parse_embedding, EmbeddingRenderer)
MESSAGES: Final = Dialect("messages", "msg_", parse_messages, MessagesRenderer, ANTHROPIC, in_session)
COUNT: Final = Dialect("messages count", "count_", parse_count, CountRenderer, ANTHROPIC)
DIALECTS: Final = {
    "chat/completions": CHAT,
    "completions": COMPLETION,
    "embeddings": EMBEDDING,
    "responses": RESPONSE,
    "responses/input_tokens": RESPONSE_COUNT,
    "messages": MESSAGES,
    "messages/count_tokens": COUNT,
}
"""Those that generate, by their path below ``/v1``."""
RERANK: Final = Dialect("rerank", "rank-", parse_rerank, RerankRenderer)
AT_ROOT: Final = {
    "tokenize": Dialect("tokenize", "tok-", parse_tokenize, TokensRenderer),
    "detokenize": Dialect("detokenize", "tok-", parse_detokenize, TokensRenderer),
    "apply-template": Dialect("apply-template", "tok-", parse_apply_template, TokensRenderer),
    "rerank": RERANK,
    "reranking": RERANK,
}
"""Those that have llama.cpp's paths, with and without ``/v1`` before them."""
