"""openai-agents: a run over responses and over chat completions, with a tool whose call is forced."""

from __future__ import annotations

from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)  # fmt: skip
from agents.models.interface import Model
from openai import AsyncOpenAI

from clientele.checks.checklist import Checklist, Target, target

check = Checklist[Target]()


def client(of: Target) -> AsyncOpenAI:
    """The SDK below."""
    return AsyncOpenAI(base_url=f"{of.api}/v1", api_key="unused", max_retries=0, timeout=90)


def with_tool(model: Model) -> None:
    """A run that must call the tool first, and then answers in words."""
    asked: list[int] = []

    @function_tool
    def look(number: int) -> str:
        """Look behind a door by its number."""
        asked.append(number)
        return "a cat"

    agent = Agent(
        name="Porter", instructions="Be brief.", model=model, tools=[look],
        model_settings=ModelSettings(tool_choice="required", max_tokens=200, temperature=0, parallel_tool_calls=False),
    )  # fmt: skip
    done = Runner.run_sync(agent, "What is behind door 1?", max_turns=4)
    assert asked, "the tool was not called"
    assert done.final_output, "no words after the result"


@check("an answer (responses)")
def answer(of: Target) -> None:
    """Without tools."""
    agent = Agent(
        name="Greeter", model=OpenAIResponsesModel(of.model, client(of)), model_settings=ModelSettings(max_tokens=300)
    )
    assert Runner.run_sync(agent, "Say hello.").final_output, "no text"


@check("a tool is called and its result goes back (responses)")
def responses(of: Target) -> None:
    """The loop of the package."""
    with_tool(OpenAIResponsesModel(of.model, client(of)))


@check("a tool is called and its result goes back (chat completions)")
def chat(of: Target) -> None:
    """The loop of the package."""
    with_tool(OpenAIChatCompletionsModel(of.model, client(of)))


if __name__ == "__main__":
    set_tracing_disabled(True)
    check.run(target())
