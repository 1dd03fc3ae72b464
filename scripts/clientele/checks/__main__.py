"""``python -m clientele.checks openai|anthropic [WORD …]``: carries out the checks of one SDK against the target."""

from __future__ import annotations

import sys


def main(sdk: str, *wanted: str) -> None:
    """Carry out the checks; each is told as a line on stdout."""
    from clientele.checks.checklist import target

    if sdk == "openai":
        from clientele.checks import openai_chat, openai_responses, openai_rest, openai_subject, openai_tools

        for each in (openai_chat, openai_tools, openai_responses, openai_rest):
            each.check.run(openai_subject.subject(target()), wanted)
    else:
        from clientele.checks import anthropic_messages, anthropic_subject

        anthropic_messages.check.run(anthropic_subject.subject(target()), wanted)


if __name__ == "__main__":
    main(*sys.argv[1:])
