"""The endpoints of what is kept for its principal: jobs, stored answers, sessions, files and batches."""

from __future__ import annotations

from typing import Any, Final

from meshnode.api.batches.schema import BatchFields
from meshnode.api.openapi import kept_answers as told
from meshnode.api.openapi import responses_answers
from meshnode.api.openapi.bodies import Upload
from meshnode.api.openapi.endpoint import WHOLE, Endpoint, Parameter, Shape
from meshnode.api.stored_chats import StoredFields

_AFTER: Final = Parameter("after", "query", "Those after this one.")
_LIMIT: Final = Parameter("limit", "query", "How many.", WHOLE)
_ORDER: Final = Parameter("order", "query", "`asc` or `desc`, by age.", {"enum": ["asc", "desc"]})
_INCLUDE: Final = Parameter("include", "query", "What to tell beside; may be given again.")


def _kept(method: str, path: str, name: str, room: str, summary: str, answer: Shape | None, **more: Any) -> Endpoint:
    refused = {403, 404} if "{" in path else {403}
    if method == "GET":
        refused.add(400)
    if _AFTER in more.get("parameters", ()):
        refused.add(404)  # there is nothing that the page could begin behind
    if method == "POST" and "body" in more:
        refused.add(507)  # the disk that it would be kept on is full
    return Endpoint(method, path, name, room, summary, answer=answer, refused=tuple(refused))._replace(**more)


KEPT: Final = (
    _kept(
        "GET", "/v1/responses/{id_}", "retrieveResponse", "Responses", "Fetch a kept response",
        responses_answers.Response, event=responses_answers.ResponseEvent,
        parameters=(
            _INCLUDE,
            Parameter("stream", "query", "As the stream it was or is, for one in the background."),
            Parameter("starting_after", "query", "Only the events behind this number.", WHOLE),
            Parameter("include_obfuscation", "query", "Accepted without effect."),
        ),
    ),
    _kept(
        "DELETE", "/v1/responses/{id_}", "deleteResponse", "Responses", "Forget one",
        responses_answers.ResponseDeleted,
    ),
    _kept(
        "POST", "/v1/responses/{id_}/cancel", "cancelResponse", "Responses", "Stop one in the background",
        responses_answers.Response, refused=(400, 403, 404),
    ),
    _kept(
        "GET", "/v1/responses/{id_}/input_items", "listInputItems", "Responses", "List what was asked",
        responses_answers.InputItems, parameters=(_AFTER, _LIMIT, _ORDER, _INCLUDE),
    ),
    _kept(
        "GET", "/v1/jobs", "listJobs", "Jobs", "List the jobs", told.JobPage, parameters=(_AFTER, _LIMIT, _ORDER),
    ),
    _kept("GET", "/v1/jobs/{id_}", "retrieveJob", "Jobs", "Tell of one, with its answer once it is over", told.JobTold),
    _kept("POST", "/v1/jobs/{id_}/cancel", "cancelJob", "Jobs", "Stop one", told.JobTold),
    _kept("DELETE", "/v1/jobs/{id_}", "deleteJob", "Jobs", "Stop and forget one", told.Deleted),
    _kept("GET", "/v1/sessions/{id_}", "retrieveSession", "Jobs", "Show a remembered conversation", told.SessionTold),
    _kept("DELETE", "/v1/sessions/{id_}", "deleteSession", "Jobs", "Forget one", told.Deleted),
    _kept(
        "GET", "/v1/chat/completions", "listStoredChats", "Stored chats", "List them", told.ChatPage,
        parameters=(
            _AFTER, _LIMIT, _ORDER,
            Parameter("model", "query", "Only those of this model."),
            Parameter("metadata", "query", "Only those with these notes: `metadata[key]=value`."),
        ),
    ),
    _kept("GET", "/v1/chat/completions/{id_}", "retrieveStoredChat", "Stored chats", "Fetch one", told.StoredChat),
    _kept(
        "POST", "/v1/chat/completions/{id_}", "updateStoredChat", "Stored chats", "Put other metadata on one",
        told.StoredChat, body=StoredFields,
    ),
    _kept("DELETE", "/v1/chat/completions/{id_}", "deleteStoredChat", "Stored chats", "Forget one", told.Deleted),
    _kept(
        "GET", "/v1/chat/completions/{id_}/messages", "listStoredChatMessages", "Stored chats",
        "List the messages that were answered", told.ChatMessagePage, parameters=(_AFTER, _LIMIT, _ORDER),
    ),
    _kept(
        "POST", "/v1/files", "uploadFile", "Files", "Upload requests for a batch", told.FileTold,
        body=Upload, body_media="multipart/form-data", refused=(403, 429, 507),
        about="The one call whose body is no JSON; never from another site's page.",
    ),
    _kept(
        "GET", "/v1/files", "listFiles", "Files", "List the files", told.FilePage,
        parameters=(_AFTER, _LIMIT, _ORDER, Parameter("purpose", "query", "Only those of this purpose.")),
    ),
    _kept("GET", "/v1/files/{id_}", "retrieveFile", "Files", "Tell of one", told.FileTold),
    _kept("DELETE", "/v1/files/{id_}", "deleteFile", "Files", "Forget one", told.Deleted),
    _kept(
        "GET", "/v1/files/{id_}/content", "downloadFile", "Files", "Download one",
        {"type": "string", "format": "binary"}, media="application/octet-stream",
    ),
    _kept(
        "POST", "/v1/batches", "createBatch", "Batches", "Have the requests of a file answered", told.BatchTold,
        body=BatchFields, refused=(403, 404, 429, 507),
    ),
    _kept(
        "GET", "/v1/batches", "listBatches", "Batches", "List the batches", told.BatchPage,
        parameters=(_AFTER, _LIMIT),
    ),
    _kept("GET", "/v1/batches/{id_}", "retrieveBatch", "Batches", "Tell of one", told.BatchTold),
    _kept(
        "POST", "/v1/batches/{id_}/cancel", "cancelBatch", "Batches", "Stop one", told.BatchTold,
        refused=(403, 404, 409, 507),
    ),
)  # fmt: skip
