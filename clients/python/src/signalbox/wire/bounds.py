"""What the parameters of a call have to be, whoever it goes to: their ranges, and what excludes what.

Owns these rules, which the server holds calls to as well. Must not know any provider.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .. import specs

#: The lowest and the highest value of parameters that are numbers, by their names.
_RANGES: Mapping[str, tuple[float, float]] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "top_k": (1, 1000),
    "max_tokens": (1, 10_000_000),
    "frequency_penalty": (-2, 2),
    "presence_penalty": (-2, 2),
}
_MOST_THOUGHTS = 10_000_000

Found = tuple[str, str]


def generation_problems(given: specs.GenerationParameters) -> Iterator[Found]:
    """What is wrong with generation parameters, by paths from the call."""
    for name, (least, most) in _RANGES.items():
        value = getattr(given, name)
        if value is not None and not least <= value <= most:
            yield f"generation.{name}", f"must be from {least} to {most}"


def reasoning_problems(given: specs.ReasoningParameters, max_tokens: int | None) -> Iterator[Found]:
    """What is wrong with reasoning parameters, by paths from the call; `max_tokens` is the most that an answer has."""
    idle = given.effort == "none"
    if idle and given.thinking_mode in ("enabled", "adaptive"):
        yield "reasoning.thinking_mode", "must be disabled or left out, because `effort` is none"
    tokens, path = given.thinking_tokens, "reasoning.thinking_tokens"
    if tokens is None:
        return
    within = 1 <= tokens <= _MOST_THOUGHTS
    if not within:
        yield path, f"must be from 1 to {_MOST_THOUGHTS}"
    if idle or given.thinking_mode == "disabled":
        yield path, "must be left out, because `effort` or `thinking_mode` says that the model does not think"
    elif within and max_tokens is not None and tokens >= max_tokens:
        yield path, "must be less than `generation.max_tokens`, which the thoughts are counted against"
