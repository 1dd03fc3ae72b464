"""The page that lists every endpoint, made from the OpenAPI document. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from meshnode.api.docs.tables import table
from meshnode.api.openapi.schemas import allowed

_HEAD = """# API reference

Every endpoint of this node, with its parameters, body and answers; made from the same types that validate requests.
The same as a document for programs: [/openapi.json](/openapi.json) (OpenAPI 3.1).
"""


def reference(document: Mapping[str, Any]) -> str:
    """The page, in Markdown."""
    schemas = document["components"]["schemas"]
    parts = [_HEAD]
    for tag in document["tags"]:
        parts.append(f"## {tag['name']}\n")
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                if tag["name"] in operation["tags"] and "x-same-as" not in operation:
                    parts += _operation(f"{method.upper()} {path}", operation)
                    parts += _elsewhere(path, document["paths"])
    parts += ["## Records\n", *(_record(name, schemas[name]) for name in sorted(schemas))]
    return "\n".join(parts)


def _elsewhere(path: str, paths: Mapping[str, Any]) -> list[str]:
    """Where else the same is asked."""
    others = [other for other, methods in paths.items() for one in methods.values() if one.get("x-same-as") == path]
    return [f"Also at {', '.join(f'`{other}`' for other in others)}.\n"] if others else []


def _operation(title: str, operation: Mapping[str, Any]) -> list[str]:
    parts = [f"### {title}\n", f"{operation['summary']}. {operation.get('description', '')}".rstrip() + "\n"]
    rows = [(f"`{each['name']}`", each["in"], each["description"]) for each in operation["parameters"]]
    shown = [row for row in rows if row[0] != "`x-request-id`"]
    if shown:
        parts.append(table(("parameter", "in", "what it is"), shown))
    if (body := operation.get("requestBody")) is not None:
        parts.append(f"Body: {_contents(body['content'])}.\n")
    refused = []
    for status, answer in operation["responses"].items():
        if "$ref" in answer:
            refused.append(status)
        elif "content" in answer:
            parts.append(f"Answer {status}: {_contents(answer['content'])}.\n")
    parts.append(f"Errors: {', '.join(refused)}.\n")
    return parts


def _contents(content: Mapping[str, Any]) -> str:
    return ", or ".join(f"{_kind(each['schema'])} as `{media}`" for media, each in content.items())


def _record(name: str, schema: Mapping[str, Any]) -> str:
    needed: Sequence[str] = schema.get("required", ())
    rows = [
        (f"`{field}`", _kind(each), "yes" if field in needed else "", each.get("description", ""))
        for field, each in schema.get("properties", {}).items()
    ]
    head = f"### {name}\n\n{schema.get('description', '').replace('``', '`')}\n"
    return head + ("\n" + table(("field", "type", "always", "about"), rows) if rows else "")


def _kind(schema: Mapping[str, Any]) -> str:
    """A type in a word or two; records by a link to where they stand."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(_kind, schema["anyOf"])))
    if schema.get("type") == "array":
        return f"array of {_kind(schema.get('items', {}))}"
    if "enum" in schema or "const" in schema:
        return allowed({key: schema[key] for key in ("enum", "const") if key in schema})
    return str(schema.get("type", "anything"))
