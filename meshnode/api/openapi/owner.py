"""The endpoints that are the owner's: models on disk and in memory, the mesh, stopping."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from meshnode.api.admin import AddFields, PullFields
from meshnode.api.chat_schema import ChatFields
from meshnode.api.completions_schema import CompletionFields
from meshnode.api.embeddings_schema import EmbeddingFields
from meshnode.api.mesh import JoinFields, ServeFields
from meshnode.api.openapi.endpoint import WHOLE, Access, Endpoint, Parameter
from meshnode.api.templates import TemplateFields
from meshnode.client_answers import Explanation, Receipt, Template, TemplateHead
from meshnode.client_records import Credits, History, Model, Outlook, Peer, PullProgress, Served


class Models(msgspec.Struct):
    """Some models."""

    models: list[Model]


class OneModel(msgspec.Struct):
    """One model."""

    model: Model


class Removed(Model, frozen=True, omit_defaults=False):
    """A model that is no longer there."""

    deleted: bool = True


class Templates(msgspec.Struct):
    """Stored prompts, each by its newest version."""

    templates: list[TemplateHead]


class Forgotten(msgspec.Struct):
    """A stored prompt that is no longer there, and how many versions it had."""

    id: str
    deleted: bool
    versions: int


class Stopping(msgspec.Struct):
    """The node stops."""

    stopping: bool


class Peers(msgspec.Struct):
    """The peers that are connected, or whose offers are known."""

    peers: list[Peer]


class Joined(msgspec.Struct):
    """The peer that was reached."""

    peer: str


class Left(msgspec.Struct):
    """How many addresses were forgotten."""

    forgotten: int


class AllServed(msgspec.Struct):
    """The node's models, and whether strangers may use each."""

    models: list[Served]


def _own(method: str, path: str, name: str, room: str, summary: str, answer: type, **more: Any) -> Endpoint:
    refused = (404,) if "{" in path else ()
    endpoint = Endpoint(method, path, name, room, summary, access=Access.OWNER, answer=answer, refused=refused)
    return endpoint._replace(**more)


OWNER: Final = (
    _own("GET", "/api/models", "ownModels", "Models on disk", "List them, and those that only peers serve", Models),
    _own("POST", "/api/models/scan", "scanModels", "Models on disk", "Find models that other programs hold", Models),
    _own(
        "POST", "/api/models/add", "addModel", "Models on disk", "Refer to a file where it lies", OneModel,
        body=AddFields, refused=(422, 502),
    ),
    _own(
        "POST", "/api/models/pull", "pullModel", "Models on disk", "Fetch a model", PullProgress,
        body=PullFields, media="application/x-ndjson",
        about="Lines of JSON as it goes on, the last one with the model or an error. Leaving breaks off; the next pull "
        "of the same source goes on from there.",
    ),
    _own(
        "DELETE", "/api/models/{name}", "removeModel", "Models on disk", "Forget a model", Removed,
        refused=(404, 409),
    ),
    _own(
        "GET", "/api/models/{name}/fit", "fitModel", "Models in memory", "Whether it would run, where and how fast",
        Outlook, refused=(400, 404),
        parameters=(Parameter("context", "query", "Context in tokens; 0 is what the settings say.", WHOLE),),
    ),
    _own(
        "POST", "/api/models/{name}/load", "loadModel", "Models in memory", "Load it, and wait", OneModel,
        refused=(404, 503),
    ),
    _own(
        "POST", "/api/models/{name}/unload", "unloadModel", "Models in memory", "Free its memory", OneModel,
        refused=(404, 409),
    ),
    _own("GET", "/api/templates", "templates", "Stored prompts", "List the newest version of each", Templates),
    _own(
        "POST", "/api/templates/{name}", "addTemplate", "Stored prompts", "Add a version", TemplateHead,
        body=TemplateFields, refused=(409,),
    ),
    _own(
        "GET", "/api/templates/{name}", "template", "Stored prompts", "Tell of one with its text", Template,
        refused=(400, 404),
        parameters=(Parameter("version", "query", "Which version; left out, the newest.", WHOLE),),
    ),
    _own(
        "DELETE", "/api/templates/{name}", "removeTemplate", "Stored prompts", "Forget all its versions", Forgotten,
    ),
    _own("GET", "/api/peers", "peers", "Mesh", "List peers and how each did", Peers),
    _own("GET", "/api/history", "history", "Node", "How much is kept of what people asked", History),
    _own("DELETE", "/api/history", "clearHistory", "Node", "Forget all of it, everybody's", History),
    _own("GET", "/api/receipts/{receipt}", "receipt", "Mesh", "What one answer of a peer cost", Receipt),
    _own(
        "POST", "/api/explain", "explain", "Mesh", "Who would answer a request, and why not others", Explanation,
        body=ChatFields, other_bodies=(CompletionFields, EmbeddingFields),
        about="The body of a chat, a completion or an embedding; nobody is asked.",
    ),
    _own("GET", "/api/credits", "credits", "Mesh", "What was earned and spent", Credits),
    _own(
        "POST", "/api/mesh/join", "joinMesh", "Mesh", "Connect to a peer, now and at each start", Joined,
        body=JoinFields, refused=(502,),
    ),
    _own("POST", "/api/mesh/leave", "leaveMesh", "Mesh", "Forget every peer", Left),
    _own("GET", "/api/mesh/served", "servedModels", "Mesh", "Which models strangers may use", AllServed),
    _own(
        "POST", "/api/mesh/serve", "serveModel", "Mesh", "Let strangers use a model, or no more", Served,
        body=ServeFields, refused=(404,),
    ),
    _own("POST", "/api/stop", "stop", "Node", "End answers under way and stop the node", Stopping),
)  # fmt: skip
