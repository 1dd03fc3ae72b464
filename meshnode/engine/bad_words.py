"""Words that must not come (vLLM's ``bad_words``): the token that would complete one is impossible. Pure.

What is banned is the word's own tokens, with and without a space before it; spelt otherwise (another case, other
tokens), it is another word.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

TokenWords = tuple[tuple[int, ...], ...]


def token_words(words: Sequence[str], tokenize: Callable[[str], list[int]]) -> TokenWords:
    """The token sequences of each word, alone and after a space; ``tokenize`` adds no special tokens."""
    texts = [form for word in words for form in (word.lstrip(), " " + word.lstrip()) if word.strip()]
    return tuple(dict.fromkeys(tuple(tokenize(text)) for text in texts))


class BadWords:
    """What of the words has come already. ``prompt`` counts, so that an answer continued elsewhere goes on alike."""

    def __init__(self, words: TokenWords, prompt: Sequence[int]) -> None:
        self._alone = tuple(word[0] for word in words if len(word) == 1)
        self._ends: dict[int, list[tuple[tuple[int, ...], int]]] = {}
        for word in words:
            if len(word) > 1:
                self._ends.setdefault(word[-2], []).append((word[:-1], word[-1]))
        longest = max([0, *(len(word) - 1 for word in words)])
        self._recent = deque(prompt[max(0, len(prompt) - longest) :], maxlen=longest)

    def accept(self, token: int) -> None:
        """A token was put out."""
        self._recent.append(token)

    def banned(self) -> Iterator[int]:
        """Tokens that would complete a word now."""
        yield from self._alone
        recent = tuple(self._recent)
        for beginning, last in self._ends.get(recent[-1], ()) if recent else ():
            if recent[-len(beginning) :] == beginning:
                yield last
