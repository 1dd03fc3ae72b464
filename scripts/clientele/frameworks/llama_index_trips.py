"""LlamaIndex: OpenAILike for chat, tools and objects, OpenAILikeEmbedding for an index."""

from enum import StrEnum
from typing import Any, Literal

from llama_index.core import Document, VectorStoreIndex
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

from clientele.checks.checklist import Checklist, Target, same, target

check = Checklist[Target]()


class Place(StrEnum):
    """Where to look."""

    GARDEN = "garden"
    HOUSE = "house"


class Animal(BaseModel):
    """What is asked for."""

    kind: Literal["cat", "dog"]


def model(of: Target, **more: Any) -> OpenAILike:
    """Chat completions."""
    return OpenAILike(
        model=of.model, api_base=f"{of.api}/v1", api_key="unused", is_chat_model=True, is_function_calling_model=True,
        context_window=8192, max_tokens=200, temperature=0, timeout=90, max_retries=0, **more,
    )  # fmt: skip


@check("complete, chat and stream_chat")
def chat(of: Target) -> None:
    """Text three ways."""
    llm = model(of)
    asked = [ChatMessage(role="user", content="Say hello.")]
    assert llm.complete("Say hello.", max_tokens=12).text, "no text"
    assert llm.chat(asked, max_tokens=12).message.content, "no text in a chat"
    assert "".join(piece.delta or "" for piece in llm.stream_chat(asked, max_tokens=12)), "no text in a stream"


@check("predict_and_call a forced tool")
def tools(of: Target) -> None:
    """A function of one argument out of two words."""
    called: list[str] = []

    def look(where: Place) -> str:
        """Look for an animal."""
        called.append(str(where))
        return "a cat"

    done = model(of).predict_and_call(
        [FunctionTool.from_defaults(look)], "Look in the garden.", tool_required=True, allow_parallel_tool_calls=False
    )
    assert called, f"not called: {done}"
    assert set(called) <= {"garden", "house"}, f"arguments: {called}"


@check("structured_predict")
def structured(of: Target) -> None:
    """An object by a forced call."""
    from llama_index.core.prompts import PromptTemplate

    found = model(of).structured_predict(Animal, PromptTemplate("An animal."))
    assert isinstance(found, Animal), f"found: {found!r}"


@check("an index over embeddings answers a query")
def index(of: Target) -> None:
    """Retrieval and an answer."""
    embedder = OpenAILikeEmbedding(
        model_name=of.model, api_base=f"{of.embeddings}/v1", api_key="unused", timeout=90, max_retries=0
    )
    documents = [Document(text="The lighthouse stands in Brest."), Document(text="Sourdough needs time.")]
    made = VectorStoreIndex.from_documents(documents, embed_model=embedder)
    found = made.as_retriever(similarity_top_k=1).retrieve("The lighthouse stands in Brest.")
    same(found[0].text, "The lighthouse stands in Brest.", "nearest document")
    assert str(made.as_query_engine(llm=model(of)).query("Where does the lighthouse stand?")), "no answer"


if __name__ == "__main__":
    check.run(target())
