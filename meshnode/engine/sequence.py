"""The token state of one request: what is known, what is computed, what is left to spend, and when it ends. Pure.

A sequence is *prefilling* while more than its newest token is missing from the KV cache, and *decoding* when
only that one is. Being pre-empted throws the cache away, not the tokens: the sequence prefills again, prompt and
answer alike, and goes on as if nothing had happened.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

from meshnode.domain import FinishReason, ServiceClass, Stopping
from meshnode.engine.pipe import UNLIMITED


class Ending(NamedTuple):
    """Why a sequence is over; ``token`` is the one that ended it and whose text is not part of the answer."""

    reason: FinishReason
    token: int | None = None


class TokenSequence:
    """Tokens and credit of one answer (``choice``) of request ``number``.

    ``limit`` bounds prompt and answer together (tokens). Two buckets count positions that may be computed for the
    first time: ``prefill`` those of the prompt, ``credit`` those of the answer. Recomputing what pre-emption threw
    away is not charged again. What an earlier request left in the cache is paid like the rest of the prompt, but may
    overdraw the bucket, since it is no work (:meth:`reuse`). The first token of the answer is drawn from the prompt's
    last position: once the prompt is paid it comes without credit, and a credit of N lets N + 1 tokens out.
    """

    def __init__(
        self,
        number: int,
        prompt: Sequence[int],
        *,
        limit: int,
        stopping: Stopping,
        credit: int = UNLIMITED,
        prefill: int = UNLIMITED,
        service_class: ServiceClass = ServiceClass.OWNER,
        caller: str = "",
        shared: bool = True,
    ) -> None:
        self.number = number
        self.choice = 0
        self.caller = caller
        self.shared = shared
        """Whether it may use what its caller's other requests computed, and leave its own to them."""
        self.tokens = list(prompt)
        self.prompt_length = len(self.tokens)
        self.limit = limit
        self.stopping = stopping
        self.credit = credit
        self.prefill = prefill
        self.service_class = service_class
        self.slot: int | None = None
        self.computed = 0
        """Positions in the KV cache; the next one to compute."""
        self.charged = 0
        """Positions paid for: the most that were ever computed."""
        self.cached = 0
        """Positions of the prompt that were found in the cache when it was first admitted."""
        self.began = 0
        """Positions paid for when it got its slot."""
        self.stalled_at: float | None = None
        """Since when it has been waiting for credit, while it holds a slot."""
        self._overdrawn = 0
        self._stop_ids = frozenset(stopping.stop_token_ids)

    @property
    def owner(self) -> Hashable:
        """Whose part of the cache it uses: its caller's, or one of its own, for all answers to its request."""
        return self.caller if self.shared else self.number

    @property
    def output_length(self) -> int:
        """Tokens of the answer so far."""
        return len(self.tokens) - self.prompt_length

    @property
    def pending(self) -> int:
        """Known tokens whose positions are not computed."""
        return len(self.tokens) - self.computed

    @property
    def decoding(self) -> bool:
        """Whether only the newest token is missing from the cache, and it is one of the answer."""
        return self.pending == 1 and self.output_length > 0

    @property
    def allowance(self) -> int:
        """How many pending positions may be computed now: those paid for before, and those the buckets can pay."""
        return self.charged - self.computed + self.fresh

    @property
    def fresh(self) -> int:
        """How many positions the buckets let be computed for the first time; the answer's only after all the prompt.

        A sequence of which this is 0 stands still: what it could recompute would bring it no further.
        """
        known = len(self.tokens) - self.charged
        prompt = max(0, self.prompt_length - self.charged)
        if self.prefill != UNLIMITED and self.prefill < prompt:
            return self.prefill
        return known if self.credit == UNLIMITED else min(known, prompt + self.credit)

    def fork(self, choice: int) -> TokenSequence:
        """Another answer to the same prompt, which is paid for; without credit if this one's is bounded."""
        other = TokenSequence(
            self.number,
            self.tokens[: self.prompt_length],
            limit=self.limit,
            stopping=self.stopping,
            credit=UNLIMITED if self.credit == UNLIMITED else 0,
            service_class=self.service_class,
            caller=self.caller,
            shared=self.shared,
        )
        other.choice = choice
        other.charged = self.prompt_length
        return other

    def take_credit(self) -> int:
        """What is left to be computed of the answer, taken away; 0 where nobody counts it."""
        if self.credit == UNLIMITED:
            return 0
        left, self.credit = self.credit, 0
        return left

    def grant(self, tokens: int, prefill: int = 0) -> None:
        """Allow ``tokens`` more positions of the answer and ``prefill`` more of the prompt, where these are gated."""
        if self.credit != UNLIMITED:
            self.credit += max(0, tokens)
        if self.prefill != UNLIMITED:
            owed = min(self._overdrawn, max(0, prefill))
            self._overdrawn -= owed
            self.prefill += max(0, prefill) - owed

    def advance(self, count: int) -> None:
        """``count`` pending positions are in the cache now; the new ones among them are paid for."""
        self.computed += count
        paid, self.charged = self.charged, max(self.charged, self.computed)
        prompt = max(0, min(self.charged, self.prompt_length) - paid)
        if self.prefill != UNLIMITED:
            self.prefill -= prompt
        if self.credit != UNLIMITED:
            self.credit -= self.charged - paid - prompt

    def reuse(self, length: int) -> None:
        """The cache held the first ``length`` tokens when the sequence got its slot.

        New positions of the prompt among them are paid for like computed ones. Those that the bucket does not hold are
        owed: they are taken from the next grants before anything is computed.
        """
        if self.charged == 0:
            self.cached = min(length, self.prompt_length)
        self.began = max(self.charged, length)
        new = max(0, min(length, self.prompt_length) - self.charged)
        if self.prefill != UNLIMITED and new > self.prefill:
            self._overdrawn += new - self.prefill
            self.prefill = new
        self.advance(length - self.computed)

    def rewind(self, position: int = 0) -> None:
        """The cache holds only the positions before ``position`` any more."""
        self.computed = min(self.computed, position)

    def bans_ending(self) -> bool:
        """Whether the next token must not be one of the model's end tokens."""
        return self.stopping.ignore_eos or self.output_length < self.stopping.min_tokens

    def bans_stop_ids(self) -> bool:
        """Whether the next token must not be one of the caller's stop tokens."""
        return self.output_length < self.stopping.min_tokens

    def starved(self) -> Ending | None:
        """The ending of a sequence that may not produce a single token, before any is drawn."""
        return Ending(FinishReason.LENGTH) if self.stopping.max_tokens == 0 else None

    def accept(self, token: int, *, ends_generation: bool) -> Ending | None:
        """Append a drawn token; the ending it causes, if it does."""
        self.tokens.append(token)
        if token in self._stop_ids or (ends_generation and not self.stopping.ignore_eos):
            return Ending(FinishReason.STOP, token)
        most = self.stopping.max_tokens
        if (most is not None and self.output_length >= most) or len(self.tokens) >= self.limit:
            return Ending(FinishReason.LENGTH)
        return None
