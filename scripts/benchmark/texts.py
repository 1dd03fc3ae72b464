"""What the loads say to a server: seeded texts of a wanted length, and a schema. Pure."""

from __future__ import annotations

import random
from typing import Any, Final

WORDS: Final = (
    "time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world", "school", "state",
    "family", "student", "group", "country", "problem", "hand", "part", "place", "case", "week", "company",
    "system", "program", "question", "work", "government", "number", "night", "point", "home", "water", "room",
    "mother", "area", "money", "story", "fact", "month", "lot", "right", "study", "book", "eye", "job", "word",
    "business", "issue", "side", "kind", "head", "house", "service", "friend", "father", "power", "hour", "game",
    "line", "end", "member", "law", "car", "city", "community", "name", "president", "team", "minute", "idea",
)  # fmt: skip
"""Common words: about one token each in any vocabulary."""

TURNS: Final = (
    "What should I know first about {topic}?",
    "Explain that once more, with an example from daily life.",
    "What do people often get wrong there?",
    "How would you tell it to a child of eight?",
    "Which of all that matters most, and why?",
    "Sum it up in two sentences, please.",
)

SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "minLength": 12, "maxLength": 60},
        "entries": {
            "type": "array",
            "minItems": 12,
            "maxItems": 24,
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "minLength": 4, "maxLength": 40},
                    "kind": {"enum": ["person", "place", "thing", "event"]},
                    "year": {"type": "integer", "minimum": 1, "maximum": 2100},
                    "known": {"type": "boolean"},
                },
                "required": ["name", "kind", "year", "known"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["title", "entries"],
    "additionalProperties": False,
}
"""Long enough that no answer of a few hundred tokens ends: the speed is that of the tokens in between."""


def words(count: int, salt: str) -> str:
    """``count`` words in sentences of twelve, different from the first word on for each ``salt``."""
    drawn = random.Random(salt).choices(WORDS, k=count)
    sentences = [" ".join(drawn[start : start + 12]).capitalize() for start in range(0, count, 12)]
    return ". ".join(sentences) + "."


def schema_format(schema: dict[str, Any]) -> dict[str, Any]:
    """``response_format`` of a request that is held to a schema."""
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
