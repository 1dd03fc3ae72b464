"""LangChain's own standard tests, its chat models and embeddings pointed at the target; pytest runs this file."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.embeddings import Embeddings
from langchain_core.exceptions import ContextOverflowError
from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langchain_tests.integration_tests import ChatModelIntegrationTests, EmbeddingsIntegrationTests

from clientele.checks.checklist import target

AIM = target()
PATIENCE: dict[str, Any] = {"timeout": 90, "max_retries": 0, "max_tokens": 300, "temperature": 0, "stop": None}
UNLOOPED: dict[str, Any] = {"dry_multiplier": 1.0, "dry_allowed_length": 2}
"""Keeps a small model from filling a string of a schema with one word until its tokens end."""
WITS = pytest.mark.xfail(reason="the model must do by itself what nothing makes it do", strict=False)


class OneCall(ChatOpenAI):
    """Asks for one call that has what its schema names and nothing else: a small model knows no measure."""

    def bind_tools(self, tools: Any, *, tool_choice: Any = None, **options: Any) -> Any:
        """As ``ChatOpenAI`` does it."""
        given = {"parallel_tool_calls": False, "strict": True} | options
        return super().bind_tools(tools, tool_choice=tool_choice, **given)


class OneUse(ChatAnthropic):
    """The same in Anthropic's words."""

    def bind_tools(self, tools: Any, *, tool_choice: Any = None, **options: Any) -> Any:
        """As ``ChatAnthropic`` does it."""
        given = {"parallel_tool_calls": False, "strict": True} | options
        return super().bind_tools(tools, tool_choice=tool_choice, **given)


class TestOpenAI(ChatModelIntegrationTests):
    """``langchain-openai`` over chat completions."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        """The class under test."""
        return OneCall

    @property
    def chat_model_params(self) -> dict[str, Any]:
        """How it is made."""
        return {
            "model": AIM.model, "base_url": f"{AIM.api}/v1", "api_key": "unused", "stream_usage": True,
            "extra_body": UNLOOPED,
        }  # fmt: skip

    @property
    def standard_chat_model_params(self) -> dict[str, Any]:
        """Longer answers and more time than LangChain's own, for one thread of a processor."""
        return PATIENCE

    @property
    def supports_json_mode(self) -> bool:
        """``response_format: json_object``."""
        return True

    def test_context_overflow(self, model: BaseChatModel) -> None:
        """Not of the suite: a prompt that is too long is LangChain's own error."""
        with pytest.raises(ContextOverflowError):
            model.invoke("word " * 9000)

    @WITS
    def test_agent_loop(self, model: BaseChatModel) -> None:
        """As in the suite."""
        super().test_agent_loop(model)

    @WITS
    def test_json_mode(self, model: BaseChatModel) -> None:
        """As in the suite: the shape is only asked for in words."""
        super().test_json_mode(model)


class TestAnthropic(ChatModelIntegrationTests):
    """``langchain-anthropic`` over messages."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        """The class under test."""
        return OneUse

    @property
    def chat_model_params(self) -> dict[str, Any]:
        """How it is made."""
        return {"model": AIM.model, "base_url": AIM.api, "api_key": "unused"}

    @property
    def standard_chat_model_params(self) -> dict[str, Any]:
        """As above."""
        return PATIENCE

    def test_context_overflow(self, model: BaseChatModel) -> None:
        """Not of the suite: a prompt that is too long is LangChain's own error."""
        with pytest.raises(ContextOverflowError):
            model.invoke("word " * 9000)

    @WITS
    def test_agent_loop(self, model: BaseChatModel) -> None:
        """As in the suite."""
        super().test_agent_loop(model)


class TestEmbeddings(EmbeddingsIntegrationTests):
    """``langchain-openai``'s embeddings, which send token ids unless they are told not to."""

    @property
    def embeddings_class(self) -> type[Embeddings]:
        """The class under test."""
        return OpenAIEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        """How it is made; the token ids would be those of another tokenizer, which LangChain would have to fetch."""
        return {
            "model": AIM.model, "base_url": f"{AIM.api}/v1", "api_key": "unused", "check_embedding_ctx_length": False,
            "max_retries": 0,
        }  # fmt: skip
