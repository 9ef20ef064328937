"""How a client is set up.

Owns the options, their rules and the reading of the environment. Must not know how they are carried out.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from .errors import OptionsError
from .selectors import Selector, selectors
from .settings import WORDS, Default
from .snapshot import Snapshot
from .staleness import Staleness

_DEFAULT_URL = "http://127.0.0.1:50051"
_MAX_SELECTORS = 64
_MAX_QUEUE = 65_536
_MIN_STATE = 1 << 20
#: A shorter secret could be guessed, and the file tried offline.
_MIN_CACHE_KEY = 32

Path = str | os.PathLike[str]
Metrics = Callable[[str, float], None]
Validate = Callable[[Snapshot], str | None]


@dataclass(frozen=True)
class Options:
    """How a client is set up. Checked when it is made; `OptionsError` says what is wrong."""

    url: str | Sequence[str] = _DEFAULT_URL
    """The servers of one service, tried in turn: one URL, several, or several separated by commas. `http://` sends the token
    in the clear: for this machine, or a network where nobody else listens (a warning is logged). `https://` is TLS."""

    token: str | None = field(default=None, repr=False)
    """The bearer token."""

    token_file: Path | None = None
    """Where to read the token, anew at each connection, so that it can be replaced."""

    token_callback: Callable[[], str] | None = None
    """Asked for the token at each connection. An error counts as a failed attempt to connect."""

    ca_file: Path | None = None
    """A PEM file of the authorities to trust for `https://`, instead of gRPC's own."""

    cert_file: Path | None = None
    """A PEM file of this client's certificate chain, for a server that asks for one."""

    key_file: Path | None = field(default=None, repr=False)
    """A PEM file of the certificate's key."""

    selectors: str | Selector | Sequence[str | Selector] = ()
    """What to watch, as in `providers/*`, `kind:setting` or `settings/max_retries`; at most 64. None is everything granted."""

    secrets: bool = False
    """Whether secrets are sent in plaintext. Needs a token with `secrets:read`, else the client is refused."""

    defaults: Mapping[str, Default] = field(default_factory=dict)
    """The values of settings that are set nowhere else."""

    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The variables whose `SIGNALBOX_SETTING_<KEY>` override stored settings."""

    staleness: Staleness = field(default_factory=Staleness)
    """What may be read of a cache that has not been confirmed for a while."""

    progress_interval: float = 5.0
    """How often the server lets itself be heard at least, 1 to 60 seconds. A stream that is silent for three times as long is
    given up."""

    event_queue: int = 1_024
    """Change sets that a subscriber may be behind, 1 to 65,536, before it is given differences."""

    max_state_bytes: int = 1 << 30
    """Bytes that a state may take, a MiB or more. A stream that brings more is given up, and what is there is served on. While a
    snapshot comes, the state before is held beside it."""

    worker_id: str | None = None
    """How this process appears to operators, at most 128 characters; its host and process by default."""

    worker_labels: Mapping[str, str] = field(default_factory=dict)
    """Labels of this process, for operators and staged rollouts; at most 32."""

    report: bool = True
    """Whether the service is told which revision this process runs, at most once a second. Otherwise it counts as silent:
    no `--wait` counts it, and it holds the rotation of a key that it reads until that one's time is over, because nobody knows
    whether it still uses the value before. It does not say goodbye either: for a minute after its end it is still waited
    for."""

    validate: Validate | None = None
    """Called with each new state before it is served, in the watching thread, by one revision or one new snapshot: `None`
    accepts it, a text says why not. Then what was accepted last is served on, without the secrets that are gone, until a later
    revision is accepted; operators are shown the reason, which must not hold a secret. It must not block."""

    cache_file: Path | None = None
    """Where the last state is kept, encrypted, so that this worker can start while the service is away. Needs a key, and
    the package with its extra `cache`."""

    cache_key: str | bytes | None = field(default=None, repr=False)
    """The secret that the cache's key is derived from: at least 32 characters, made at random."""

    cache_key_file: Path | None = field(default=None, repr=False)
    """Where to read that secret. Nobody else may have access to the file."""

    cache_max_age: float = 86_400.0
    """Seconds after which a cache on disk is not used any more. `staleness` applies besides."""

    metrics: Metrics | None = None
    """Told of what happens, by name and value, in the watching thread; it must not block. `reads` from the cache, `changes` and
    `revocations` are what came since the last time; `reconnects`, `resets` and `digest_mismatches` are counts since the start;
    `revision` and `confirmed_age` (in seconds) are as they are now; `load_seconds` is how long a stream took to be in sync.
    `signalbox.prometheus.Metrics` is one for Prometheus."""

    enabled: bool = True
    """Whether the service is used at all. Otherwise the client has what the environment variables of the providers say
    (`GROQ_API_KEY` and so on), and connects to nothing: a way back."""

    def __post_init__(self) -> None:
        for name, (wanted, fits) in _FORMS.items():
            if not fits(getattr(self, name)):
                # The value is left out of the message: it may be a secret in the wrong place.
                raise OptionsError(f"{name}: must be {wanted}")
        seconds = (self.progress_interval, self.staleness.bound)
        given = [each is not None for each in (self.token, self.token_file, self.token_callback)]
        rules = (
            (bool(self.urls), "url: at least one is needed"),
            (sum(given) <= 1, "token, token_file and token_callback exclude each other"),
            (len(self.watched) <= _MAX_SELECTORS, "selectors: at most 64 are allowed"),
            (1 <= self.progress_interval <= 60, "progress_interval: 1 to 60 seconds"),
            (seconds[1] > seconds[0], "staleness: the bound must be above the progress interval"),
            ((self.cert_file is None) == (self.key_file is None), "cert_file and key_file belong together"),
            (1 <= self.event_queue <= _MAX_QUEUE, "event_queue: 1 to 65,536"),
            (self.max_state_bytes >= _MIN_STATE, "max_state_bytes: a MiB or more"),
            (self.cache_max_age > 0, "cache_max_age: more than 0 seconds"),
            (len(self.worker_id or "") <= 128, "worker_id: at most 128 characters"),
            (len(self.worker_labels) <= 32, "worker_labels: at most 32 are allowed"),
            (
                self.cache_key is None or self.cache_key_file is None,
                "cache_key and cache_key_file exclude each other",
            ),
            (
                self.cache_file is None or self.cache_key is not None or self.cache_key_file is not None,
                "cache_file: needs cache_key or cache_key_file",
            ),
            (
                self.cache_key is None or len(self.cache_key) >= _MIN_CACHE_KEY,
                "cache_key: at least 32 characters, made at random",
            ),
        )
        for holds, rule in rules:
            if not holds:
                raise OptionsError(rule)
        for url in self.urls:
            _check_url(url)

    def __reduce__(self) -> Any:
        raise TypeError("options are not pickled, because they may hold secrets: make them in each process")

    def __copy__(self) -> Options:
        return self

    def __deepcopy__(self, _: object) -> Options:
        return self

    @property
    def urls(self) -> tuple[str, ...]:
        """The servers, one by one."""
        several = self.url.split(",") if isinstance(self.url, str) else self.url
        return tuple(url.strip() for url in several if url.strip())

    @property
    def watched(self) -> tuple[Selector, ...]:
        """The selectors, made."""
        given = self.selectors
        return selectors(given if isinstance(given, str | Selector) else list(given))

    @classmethod
    def from_environment(cls, variables: Mapping[str, str] | None = None, /, **changes: Any) -> Options:
        """From the environment, of this process unless another is given: `SIGNALBOX_URL`, `SIGNALBOX_TOKEN` or
        `SIGNALBOX_TOKEN_FILE`, `SIGNALBOX_CA_FILE`, `SIGNALBOX_CLIENT_CERT_FILE` with `SIGNALBOX_CLIENT_KEY_FILE`,
        `SIGNALBOX_CACHE_FILE` with `SIGNALBOX_CACHE_KEY` or `SIGNALBOX_CACHE_KEY_FILE`, `SIGNALBOX_ENABLED`, and
        `SIGNALBOX_SETTING_<KEY>`. What is given besides wins; `environment` is
        the option of that name, which overrides settings and nothing else."""
        variables = os.environ if variables is None else variables
        ours = {name: text for name, text in variables.items() if name.startswith("SIGNALBOX_") and text}
        found: dict[str, Any] = {"environment": ours}
        found.update({option: ours[name] for name, option in _VARIABLES.items() if name in ours})
        if "SIGNALBOX_ENABLED" in ours:
            found["enabled"] = _truth("SIGNALBOX_ENABLED", ours["SIGNALBOX_ENABLED"])
        # The stronger of each pair, among what is given and then in the environment.
        for strong, weak in (("token", "token_file"), ("cache_key", "cache_key_file")):
            if strong in found:
                found.pop(weak, None)
        for option in ("token", "token_file", "token_callback"):
            if changes.get(option) is not None:
                found.pop("token", None)
                found.pop("token_file", None)
        if changes.get("cache_key") is not None or changes.get("cache_key_file") is not None:
            found.pop("cache_key", None)
            found.pop("cache_key_file", None)
        unknown = sorted(changes.keys() - {each.name for each in dataclasses.fields(cls)})
        if unknown:
            raise OptionsError(f"there is no option {unknown[0]!r}")
        overrides = changes.get("environment") or {}
        for name in (*_VARIABLES, "SIGNALBOX_ENABLED"):
            if overrides.get(name, variables.get(name)) != variables.get(name):
                option = _VARIABLES.get(name, "enabled")
                raise OptionsError(f"environment: overrides settings only; give {option} instead of {name}")
        return cls(**{**found, **changes})


_VARIABLES = {
    "SIGNALBOX_URL": "url",
    "SIGNALBOX_TOKEN": "token",
    "SIGNALBOX_TOKEN_FILE": "token_file",
    "SIGNALBOX_CA_FILE": "ca_file",
    "SIGNALBOX_CLIENT_CERT_FILE": "cert_file",
    "SIGNALBOX_CLIENT_KEY_FILE": "key_file",
    "SIGNALBOX_CACHE_FILE": "cache_file",
    "SIGNALBOX_CACHE_KEY": "cache_key",
    "SIGNALBOX_CACHE_KEY_FILE": "cache_key_file",
}


_Form = tuple[str, Callable[[Any], bool]]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_one_or_several(value: Any, *kinds: type) -> bool:
    several = value if isinstance(value, Sequence) else [value]
    return isinstance(value, kinds) or all(isinstance(each, kinds) for each in several)


def _is_texts(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(each, str) for pair in value.items() for each in pair
    )


_TRUTH: _Form = ("True or False", lambda value: isinstance(value, bool))
_NUMBER: _Form = ("a number of seconds", _is_number)
_WHOLE: _Form = ("a whole number", lambda value: _is_number(value) and not isinstance(value, float))
_TEXT: _Form = ("a text", lambda value: value is None or isinstance(value, str))
_CALLED: _Form = ("what can be called", lambda value: value is None or callable(value))
_PATH: _Form = ("a path", lambda value: isinstance(value, str | os.PathLike | None))
_TEXTS: _Form = ("a dict of texts", _is_texts)
#: What options are: what is none would only be found once it is used, in the watching thread.
_FORMS: Mapping[str, _Form] = {
    "url": ("a text, or several", lambda value: _is_one_or_several(value, str)),
    "token": _TEXT,
    "token_file": _PATH,
    "ca_file": _PATH,
    "cert_file": _PATH,
    "key_file": _PATH,
    "selectors": ("a selector, or several", lambda value: _is_one_or_several(value, str, Selector)),
    "defaults": (
        "a dict of values by their keys",
        lambda value: isinstance(value, Mapping) and all(isinstance(key, str) for key in value),
    ),
    "cache_file": _PATH,
    "cache_key": ("a text or bytes", lambda value: isinstance(value, str | bytes | None)),
    "cache_key_file": _PATH,
    "token_callback": _CALLED,
    "secrets": _TRUTH,
    "environment": _TEXTS,
    "staleness": ("a Staleness", lambda value: isinstance(value, Staleness)),
    "progress_interval": _NUMBER,
    "event_queue": _WHOLE,
    "max_state_bytes": _WHOLE,
    "worker_id": _TEXT,
    "worker_labels": _TEXTS,
    "report": _TRUTH,
    "validate": _CALLED,
    "cache_max_age": _NUMBER,
    "metrics": _CALLED,
    "enabled": _TRUTH,
}


def _truth(name: str, text: str) -> bool:
    word = WORDS.get(text.strip().lower())
    if word is None:
        raise OptionsError(f"{name}: true or false")
    return word


def _check_url(url: str) -> None:
    # The text is left out of the messages: it may hold a password, which is one of the things refused.
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise OptionsError("url: not a URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise OptionsError("url: neither http:// nor https://, with a host")
    if "@" in parts.netloc:
        raise OptionsError("url: credentials in a URL")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise OptionsError("url: a URL with a path or query")


def as_path(path: Path | None) -> pathlib.Path | None:
    """A path of the options, made."""
    return None if path is None else pathlib.Path(path)
