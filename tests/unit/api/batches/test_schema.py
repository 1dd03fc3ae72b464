"""Files and batches as they are asked for and shown."""

from __future__ import annotations

import json
from collections.abc import Mapping

import msgspec
import pytest
from openai.types import Batch as SdkBatch
from openai.types import FileObject

from meshnode.api.batches.multipart import Piece
from meshnode.api.batches.schema import (
    MOST_FIELD,
    BatchListFields,
    FileListFields,
    Form,
    Handed,
    batch_object,
    file_object,
    parse_batch,
    parse_query,
)
from meshnode.errors import InvalidField, MeshnodeError, UnknownField, UnsupportedParameter
from meshnode.events import Usage
from meshnode.gateway.batch import BatchStatus, Fault
from meshnode.gateway.batches import Creation
from meshnode.gateway.files import LONGEST_S, StoredFile
from tests.kit.batches import a_batch

ENDPOINTS = ["/v1/chat/completions", "/v1/embeddings"]
WANTED = {"input_file_id": "file-1", "endpoint": "/v1/embeddings", "completion_window": "24h"}


def test_a_batch_is_asked_for() -> None:
    assert parse_batch(json.dumps(WANTED).encode(), ENDPOINTS) == Creation("file-1", "/v1/embeddings", LONGEST_S)
    more = {"metadata": {"a": "b"}, "output_expires_after": {"anchor": "created_at", "seconds": 3600}}
    found = parse_batch(json.dumps(WANTED | more).encode(), ENDPOINTS)
    assert (found.metadata, found.output_s) == ({"a": "b"}, 3600)


def test_another_endpoint_is_refused_with_those_that_are_served() -> None:
    with pytest.raises(InvalidField, match="/v1/chat/completions or /v1/embeddings"):
        parse_batch(json.dumps(WANTED | {"endpoint": "/v1/moderations"}).encode(), ENDPOINTS)


@pytest.mark.parametrize("metadata", [{"a": 1}, {"a": "x" * 513}, {"x" * 65: ""}, {str(n): "" for n in range(17)}])
def test_metadata_is_bounded_and_never_quoted(metadata: dict[str, object]) -> None:
    with pytest.raises(InvalidField) as caught:
        parse_batch(json.dumps(WANTED | {"metadata": metadata}).encode(), ENDPOINTS)
    assert caught.value.param == "metadata"
    assert "xxx" not in str(caught.value)


def test_lists_have_openais_defaults() -> None:
    files, batches = parse_query({}, FileListFields), parse_query({"limit": "7", "after": "x"}, BatchListFields)
    assert (files.limit, files.order, files.after) == (10_000, "desc", None)
    assert (batches.limit, batches.after) == (7, "x")


@pytest.mark.parametrize(
    "query", [{"limit": "101"}, {"limit": "0"}, {"limit": "-1"}, {"limit": "²"}, {"limit": "1" * 20}, {"order": "asc"}]
)
def test_odd_parameters_of_a_list_are_refused(query: Mapping[str, str]) -> None:
    with pytest.raises(MeshnodeError):
        parse_query(query, BatchListFields)


# --- uploads --------------------------------------------------------------------------------------


def form(*pieces: Piece) -> Handed:
    taken = Form()
    for one in pieces:
        taken.take(one)
    return taken.handed()


PURPOSE = Piece("purpose", None, b"batch", True)
FILE = Piece("file", "in.jsonl", b"x", True)
ANCHOR = Piece("expires_after[anchor]", None, b"created_at", True)


def test_an_upload_comes_in_any_order() -> None:
    assert form(PURPOSE, FILE) == form(FILE, PURPOSE) == Handed("in.jsonl", "batch", LONGEST_S)
    assert form(FILE, PURPOSE, ANCHOR, Piece("expires_after[seconds]", None, b"3600", True)).lasts_s == 3600


def test_only_the_files_bytes_are_passed_on() -> None:
    taken = Form()
    assert [taken.take(one) for one in (PURPOSE, FILE._replace(last=False), FILE)] == [b"", b"x", b"x"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\temp\\in.jsonl", "in.jsonl"),
        ("a\r\nb\x00", "ab"),
        ("", "file"),
        ("x/", "file"),
        ("x" * 999, "x" * 255),
    ],
)
def test_a_files_name_is_a_name(name: str, shown: str) -> None:
    assert form(PURPOSE, FILE._replace(filename=name)).filename == shown


@pytest.mark.parametrize(
    ("pieces", "kind", "param"),
    [
        ([FILE], InvalidField, "purpose"),
        ([PURPOSE], InvalidField, "file"),
        ([PURPOSE, FILE._replace(last=False)], InvalidField, "file"),
        ([PURPOSE, FILE._replace(filename=None)], InvalidField, "file"),
        ([PURPOSE._replace(data=b"user_data"), FILE], UnsupportedParameter, "purpose"),
        ([PURPOSE._replace(data=b"\xff"), FILE], InvalidField, "purpose"),
        ([PURPOSE._replace(data=b"x" * (MOST_FIELD + 1))], InvalidField, "purpose"),
        ([Piece("model", None, b"", True)], UnknownField, "model"),
        ([FILE, FILE], MeshnodeError, None),
        ([PURPOSE, PURPOSE], MeshnodeError, None),
        ([PURPOSE, FILE, ANCHOR], InvalidField, "expires_after.seconds"),
        (
            [PURPOSE, FILE, ANCHOR, Piece("expires_after[seconds]", None, b"1", True)],
            InvalidField,
            "expires_after.seconds",
        ),
    ],
)
def test_an_upload_that_is_wrong_is_named(pieces: list[Piece], kind: type[MeshnodeError], param: str | None) -> None:
    with pytest.raises(kind) as caught:
        form(*pieces)
    assert caught.value.param == param


# --- what is shown --------------------------------------------------------------------------------


def test_a_file_is_openais() -> None:
    file = StoredFile(id="file-1", filename="a", purpose="batch", bytes=5, created=7, expires=9, ready=True)
    shown = file_object(file)
    assert FileObject.model_validate(shown, strict=True).to_dict() == shown


@pytest.mark.parametrize("status", BatchStatus)
def test_a_batch_is_openais_in_every_status(status: BatchStatus) -> None:
    batch = msgspec.structs.replace(
        a_batch(),
        status=status,
        moments={status.value: 5},
        faults=(Fault(code="x", message="y", line=3),),
        total=3,
        completed=1,
        failed=1,
        output_bytes=9,
        error_bytes=9,
        usage=Usage(5, 2, 1, 1),
        metadata={"a": "b"},
    )
    shown = batch_object(batch)
    assert SdkBatch.model_validate(shown, strict=True).to_dict() == shown
    has_files = status in (BatchStatus.COMPLETED, BatchStatus.EXPIRED, BatchStatus.CANCELLED)
    assert (shown["output_file_id"] is not None) is has_files
    assert (shown["error_file_id"] is not None) is has_files
    if status is not BatchStatus.VALIDATING:
        assert shown[f"{status}_at"] == 5
