"""pydantic-ai: agents over chat completions, responses and messages."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic_ai import Agent, NativeOutput, RunContext, ToolOutput
from pydantic_ai.capabilities import PrepareOutputTools
from pydantic_ai.models import Model
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.tools import ToolDefinition

from clientele.checks.checklist import Checklist, Target, same, target

check = Checklist[Target]()
SHORT: Any = {"max_tokens": 200, "temperature": 0, "parallel_tool_calls": False}


class Animal(BaseModel):
    """What is asked for."""

    model_config = ConfigDict(extra="forbid")
    kind: Literal["cat", "dog"]
    legs: int = Field(ge=0, le=8)


def chat(of: Target) -> Model:
    """Chat completions."""
    return OpenAIChatModel(of.model, provider=OpenAIProvider(base_url=f"{of.api}/v1", api_key="unused"))


@check("an agent's answer (chat completions)")
def answer(of: Target) -> None:
    """Text with its usage."""
    done = Agent(chat(of), instructions="Be brief.").run_sync("Say hello.", model_settings={"max_tokens": 16})
    assert done.output, "no text"
    assert done.usage.output_tokens > 0, "no usage"


@check("an object by a forced call of the output tool")
def by_tool(of: Target) -> None:
    """``ToolOutput``."""
    done = Agent(chat(of), output_type=ToolOutput(Animal)).run_sync("An animal.", model_settings=SHORT)
    assert isinstance(done.output, Animal), f"output: {done.output!r}"


@check("an object by the schema of the answer")
def native(of: Target) -> None:
    """``NativeOutput``."""
    done = Agent(chat(of), output_type=NativeOutput(Animal)).run_sync("An animal.", model_settings=SHORT)
    assert isinstance(done.output, Animal), f"output: {done.output!r}"


@check("a tool is called, its result goes back, an object comes")
def tool(of: Target) -> None:
    """The agent's own loop, of two forced calls: the tool's, then that of the output."""
    asked: list[str] = []
    agent = Agent(chat(of), output_type=ToolOutput(Animal), capabilities=[PrepareOutputTools(later)])

    @agent.tool_plain(prepare=first)
    def look(where: Literal["garden", "house"]) -> str:
        """Look for an animal."""
        asked.append(where)
        return "a cat"

    done = agent.run_sync("Look in the garden, then tell the animal.", model_settings=SHORT)
    assert isinstance(done.output, Animal), f"output: {done.output!r}"
    assert asked and set(asked) <= {"garden", "house"}, f"arguments: {asked}"


async def first(context: RunContext[None], tool: ToolDefinition) -> ToolDefinition | None:
    """Offer the tool in the first step only."""
    return tool if context.run_step == 1 else None


async def later(context: RunContext[None], tools: list[ToolDefinition]) -> list[ToolDefinition]:
    """Offer the output's tool from the second step on."""
    return tools if context.run_step > 1 else []


@check("an agent's answer (responses)")
def responses(of: Target) -> None:
    """The responses endpoint."""
    model = OpenAIResponsesModel(of.model, provider=OpenAIProvider(base_url=f"{of.api}/v1", api_key="unused"))
    assert Agent(model).run_sync("Say hello.", model_settings={"max_tokens": 16}).output, "no text"


@check("an object from messages")
def messages(of: Target) -> None:
    """Anthropic's endpoint, by a forced call."""
    model = AnthropicModel(of.model, provider=AnthropicProvider(base_url=of.api, api_key="unused"))
    done = Agent(model, output_type=ToolOutput(Animal)).run_sync("An animal.", model_settings={"max_tokens": 300})
    assert isinstance(done.output, Animal), f"output: {done.output!r}"
    same(done.output.kind in {"cat", "dog"}, True, "kind")


if __name__ == "__main__":
    check.run(target())
