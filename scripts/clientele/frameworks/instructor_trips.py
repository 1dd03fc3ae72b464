"""instructor: objects by a forced call and by a schema, one-shot and streamed."""

from __future__ import annotations

from typing import Literal

import instructor
from openai import OpenAI
from pydantic import BaseModel, ConfigDict, Field

from clientele.checks.checklist import Checklist, Target, target

check = Checklist[Target]()


class Animal(BaseModel):
    """What is asked for."""

    model_config = ConfigDict(extra="forbid")
    kind: Literal["cat", "dog"]
    legs: int = Field(ge=0, le=8)


def made(of: Target, mode: instructor.Mode, **more: bool) -> Animal:
    """An animal, by one of instructor's modes."""
    sdk = OpenAI(base_url=f"{of.api}/v1", api_key="unused", max_retries=0, timeout=90)
    found: Animal = instructor.from_openai(sdk, mode=mode).chat.completions.create(
        model=of.model, response_model=Animal, messages=[{"role": "user", "content": "An animal."}], max_tokens=200,
        temperature=0, max_retries=1, **more,
    )  # fmt: skip
    return found


@check("an object by a forced call (Mode.TOOLS)")
def tools(of: Target) -> None:
    """The default mode."""
    assert isinstance(made(of, instructor.Mode.TOOLS, parallel_tool_calls=False), Animal), "no object"


@check("an object by a schema (Mode.JSON_SCHEMA)")
def schema(of: Target) -> None:
    """``response_format``."""
    assert isinstance(made(of, instructor.Mode.JSON_SCHEMA), Animal), "no object"


@check("an object in pieces (create_partial)")
def partial(of: Target) -> None:
    """A stream of growing objects."""
    sdk = OpenAI(base_url=f"{of.api}/v1", api_key="unused", max_retries=0, timeout=90)
    *_, last = instructor.from_openai(sdk, mode=instructor.Mode.TOOLS).chat.completions.create_partial(
        model=of.model, response_model=Animal, messages=[{"role": "user", "content": "An animal."}], max_tokens=200,
        temperature=0, parallel_tool_calls=False,
    )  # fmt: skip
    assert last.kind in {"cat", "dog"}, f"object: {last!r}"


if __name__ == "__main__":
    check.run(target())
