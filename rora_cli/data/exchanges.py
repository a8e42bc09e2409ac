"""What users say to a causal language model, and what it should answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Message:
    """One turn of a conversation; ``role`` is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True)
class Exchange:
    """The last user turn, its good answer (None: prompts alone), and the turns before it."""

    prompt: str
    reply: str | None = None
    context: tuple[Message, ...] = ()

    @property
    def shape(self) -> tuple[str, ...]:
        """The roles of the context, in order."""
        return tuple(message.role for message in self.context)
