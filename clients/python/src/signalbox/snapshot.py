"""The state of one revision in memory, and the getters over it.

Owns the maps and the digest over them. A snapshot that has been published never changes; the next one is a copy of the maps,
which share their resources. Must not know streams, threads or time.
"""

from __future__ import annotations

import copy
import hashlib
import hmac
import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from typing import Any, TypeVar, cast

from . import flags
from ._model_id import model_id_of, segment_of
from ._setting_getters import SettingGetters
from ._setting_key import normalise
from .errors import OptionsError, SecretError
from .resources import (
    ApiKey,
    CachePolicy,
    Database,
    FeatureFlag,
    Model,
    NotificationChannel,
    PromptTemplate,
    Provider,
    Resource,
    Router,
    SettingResource,
    Tool,
    VirtualKey,
)
from .selectors import Selector, selectors
from .settings import Overrides, Setting
from .staleness import Aging

_log = logging.getLogger("signalbox")

View = TypeVar("View", bound=Resource[Any])

#: Longer texts are no virtual keys, and are not worth hashing.
_LONGEST_KEY = 256
#: Effective settings that a snapshot remembers at most.
_REMEMBERED = 4_096
_NEVER_ASKED: Any = object()
#: The digest is a sum modulo this.
_MODULUS = 2**128
#: What a resource counts beside its content.
_RESOURCE_BYTES = 1 << 10


class Getters(SettingGetters):
    """What can be read of a snapshot. A client has the same getters, over the present one."""

    __slots__ = ()

    #: Gives the snapshot that is read.
    _current: Callable[[], Snapshot]

    def get(self, name: str) -> Resource[Any] | None:
        """A resource by its full name, for example `providers/groq`."""
        return self._current()._get(name)

    def provider(self, id: str) -> Provider | None:
        """A provider by its id, enabled or not."""
        return self._current()._find("providers/" + id, Provider)

    def api_key(self, provider: str, id: str) -> ApiKey | None:
        """A key by its provider's id and its own."""
        return self._current()._find(f"providers/{provider}/apiKeys/{id}", ApiKey)

    def active_api_keys(self, provider: str) -> tuple[ApiKey, ...]:
        """The keys of a provider that may be used, by id in bytewise order."""
        snapshot = self._current()
        known = snapshot._active_keys.get(provider)
        if known is None:
            keys = snapshot._api_keys.get(provider)
            if keys is None:
                return ()
            shown = (cast("ApiKey", snapshot._show(keys[id])) for id in sorted(keys))
            known = snapshot._active_keys[provider] = tuple(key for key in shown if key.active)
        return known

    def model(self, provider: str, id: str) -> Model | None:
        """A model of the catalogue, by the id or type of its provider and its own: as calls carry it
        (`meta-llama/Llama-3.1-8B`), or as it stands in the name, where a slash is a plus."""
        segment = segment_of(id)
        found = self._current()._find(f"models/{provider}/{segment}", Model)
        # What a name can't hold is a `-` there, so that several ids come to the same segment.
        is_exact = id in (segment, model_id_of(segment))
        return found if found is None or is_exact or found.spec.model_id == id else None

    def prompt_template(self, id: str) -> PromptTemplate | None:
        """A prompt template by its id."""
        return self._current()._find("promptTemplates/" + id, PromptTemplate)

    def router(self, id: str = "default") -> Router | None:
        """A router by its id. The primary of `default` is the active provider."""
        return self._current()._find("routers/" + id, Router)

    def active_provider(self) -> Provider | None:
        """The provider that `routers/default` names as its primary."""
        snapshot = self._current()
        router = snapshot._find("routers/default", Router)
        return None if router is None else snapshot._find(router.spec.primary, Provider)

    def tool(self, id: str) -> Tool | None:
        """A tool by its id, enabled or not."""
        return self._current()._find("tools/" + id, Tool)

    def database(self, id: str) -> Database | None:
        """A connection to a database by its id, enabled or not."""
        return self._current()._find("databases/" + id, Database)

    def notification_channel(self, id: str) -> NotificationChannel | None:
        """A notification channel by its id, enabled or not."""
        return self._current()._find("notificationChannels/" + id, NotificationChannel)

    def feature_flag(self, id: str) -> FeatureFlag | None:
        """A feature flag by its id. `flag` evaluates it."""
        return self._current()._find("featureFlags/" + id, FeatureFlag)

    def cache_policy(self, id: str) -> CachePolicy | None:
        """A cache policy by its id, enabled or not."""
        return self._current()._find("cachePolicies/" + id, CachePolicy)

    def virtual_key(self, id: str) -> VirtualKey | None:
        """A virtual key by its id, enabled or not: what is configured. Whoever presents a key is known by
        `find_virtual_key`."""
        return self._current()._find("virtualKeys/" + id, VirtualKey)

    def flag(
        self, id: str, key: str = "", attributes: Mapping[str, str] | None = None, *, otherwise: bool = False
    ) -> bool:
        """Whether a feature is on, for a key (the id of a user, a tenant, a conversation) and attributes that rules look at;
        `otherwise` where there is no such flag. The same key always gets the same answer."""
        feature = self.feature_flag(id)
        return otherwise if feature is None else flags.evaluate(feature.spec, key, attributes or {})

    def find_virtual_key(self, presented: str, now: datetime | None = None) -> VirtualKey | None:
        """The virtual key that a caller presents, if there is such a key, and it is enabled, not revoked and not expired.

        Needs secrets: the hashes are sealed. Raises `OptionsError` where this client is not shown them, `SecretError` where
        they are older than the staleness policy allows. The hash is compared in constant time; what time tells is whether
        there is a key with that public id.
        """
        snapshot = self._current()
        if len(presented) > _LONGEST_KEY or not presented.startswith("sbx_"):
            return None
        key_id, separator, _ = presented.removeprefix("sbx_").partition("_")
        found = snapshot._virtual_keys.get(key_id) if separator else None
        if found is None:
            return None
        key = cast("VirtualKey", snapshot._show(found))
        try:
            stored = key.secret_at("virtual_key.key_hash").expose()
        except SecretError as error:
            if error.reason == "revoked":
                return None
            if error.reason == "masked":
                problem = (
                    "virtual keys can't be checked: connect(secrets=True), with a token that may read secrets"
                )
                raise OptionsError(problem) from error
            _log.warning("virtual keys can't be checked: %s", error)
            if error.reason == "stale":
                raise
            return None
        hashed = hashlib.sha256(presented.encode("utf-8", "surrogatepass")).hexdigest()
        same = hmac.compare_digest(hashed.encode(), stored.encode())
        return key if same and key.usable(now or datetime.now(timezone.utc)) else None

    def setting(self, key: str, user: str | None = None) -> Setting | None:
        """The effective setting: environment, else the user's (where one is named), else the global one, else the worker's
        default. Keys are taken in snake_case and camelCase."""
        snapshot = self._current()
        asked = key if user is None else (key, user)
        known: Setting | None = snapshot._settings.get(asked, _NEVER_ASKED)
        if known is _NEVER_ASKED:
            known = snapshot._effective(normalise(key), user)
            # Users may be many: they leave room for what all of them read.
            if len(snapshot._settings) < (_REMEMBERED if user is None else _REMEMBERED // 2):
                snapshot._settings[asked] = known
        return known

    def select(self, selector: str | Selector = "*") -> Iterator[Resource[Any]]:
        """The resources that a selector picks, by name in bytewise order. Looks at all of them."""
        snapshot = self._current()
        (wanted,) = selectors(selector)
        for name in sorted(snapshot._resources):
            resource = snapshot._resources[name]
            if resource.kind and wanted.matches(resource):
                yield snapshot._show(resource)


class Snapshot(Getters):
    """All resources that the client sees, at one revision. Reading it takes no lock and does no I/O.

    Take one for each piece of work: holding one for long means reading the past, secrets revoked since included.
    """

    __slots__ = (
        "_active_keys",
        "_aging",
        "_api_keys",
        "_bytes",
        "_digest",
        "_overrides",
        "_resources",
        "_revision",
        "_revoked",
        "_sequence",
        "_settings",
        "_virtual_keys",
    )

    def __init__(self, overrides: Overrides) -> None:
        self._revision = 0
        #: Counts published snapshots, so that a subscriber knows which changes a snapshot already holds.
        self._sequence = 0
        self._overrides = overrides
        self._resources: dict[str, Resource[Any]] = {}
        self._api_keys: dict[str, dict[str, ApiKey]] = {}
        self._virtual_keys: dict[str, VirtualKey] = {}
        #: Names whose secrets are refused until the cursor has passed the revision.
        self._revoked: dict[str, int] = {}
        self._digest = 0
        self._bytes = 0
        self._aging: Aging | None = None
        #: Effective settings by what was asked for, the spelling and perhaps a user: looking one up again costs a look-up.
        self._settings: dict[str | tuple[str, str], Setting | None] = {}
        #: The keys that may be used, of each provider that was asked about.
        self._active_keys: dict[str, tuple[ApiKey, ...]] = {}

    @property
    def revision(self) -> int:
        """The revision of the store that this is the state of; 0 before the first."""
        return self._revision

    @property
    def digest(self) -> bytes:
        """The digest over the names and update revisions in it, as `Progress` carries it."""
        return self._digest.to_bytes(16, "little")

    def __len__(self) -> int:
        """Resources in it, of kinds that this client knows and of others."""
        return len(self._resources)

    def __repr__(self) -> str:
        return f"<Snapshot of {len(self)} resources at revision {self.revision}>"

    def _current(self) -> Snapshot:
        return self

    def _find(self, name: str, view: type[View]) -> View | None:
        resource: Any = self._resources.get(name)
        if resource.__class__ is not view:
            return None
        found: View = resource
        return found if self._aging is None else self._aging.show(found)

    def _get(self, name: str) -> Resource[Any] | None:
        resource = self._resources.get(name)
        # What this client does not know is counted in the digest and otherwise ignored.
        return self._show(resource) if resource is not None and resource.kind else None

    def _effective(self, key: str, user: str | None) -> Setting | None:
        text = self._overrides.environment.get(key)
        if text is not None:
            return Setting(key, "environment", text)
        stored = None if user is None else self._find(f"users/{user}/settings/{key}", SettingResource)
        if stored is not None:
            return Setting(key, "user", stored)
        stored = self._find("settings/" + key, SettingResource)
        if stored is not None:
            return Setting(key, "global", stored)
        default = self._overrides.defaults.get(key)
        return None if default is None else Setting(key, "default", default)

    def _show(self, resource: Resource[Any]) -> Resource[Any]:
        return resource if self._aging is None else self._aging.show(resource)

    def _aged(self, aging: Aging) -> Snapshot:
        """The same state, as it may be read at some age."""
        aged = copy.copy(self)
        aged._aging = aging
        aged._settings, aged._active_keys = {}, {}
        return aged

    def _at(self, revision: int) -> Snapshot:
        """The same state at a later revision."""
        later = copy.copy(self)
        later._revision = revision
        later._sequence += 1
        return later


class Draft:
    """A snapshot in the making."""

    def __init__(self, base: Snapshot) -> None:
        self.revision = base.revision
        self._base = base
        self._resources = dict(base._resources)
        self._api_keys = dict(base._api_keys)
        self._virtual_keys = dict(base._virtual_keys)
        self._digest = base._digest
        #: What the resources take, about.
        self.bytes = base._bytes
        #: Providers whose keys are in a map of this draft's own.
        self._owned: set[str] = set()

    def upsert(self, resource: Resource[Any]) -> Resource[Any] | None:
        """Puts a resource in, in place of one of that name, which it returns."""
        previous = self.remove(resource.name)
        self._resources[resource.name] = resource
        self._digest = (self._digest + _term(resource)) % _MODULUS
        self.bytes += len(resource._packed) + _RESOURCE_BYTES
        self._index(resource)
        return previous

    def remove(self, name: str) -> Resource[Any] | None:
        """Takes a resource out, and returns it."""
        resource = self._resources.pop(name, None)
        if resource is None:
            return None
        self._digest = (self._digest - _term(resource)) % _MODULUS
        self.bytes -= len(resource._packed) + _RESOURCE_BYTES
        if isinstance(resource, ApiKey):
            keys = self._keys_of(resource)
            keys.pop(resource.id, None)
        elif isinstance(resource, VirtualKey) and self._virtual_keys.get(resource.key_id) is resource:
            del self._virtual_keys[resource.key_id]
        return resource

    def publish(self, after: Snapshot, revoked: Mapping[str, int]) -> Snapshot:
        """The snapshot that follows on another, with the secrets of these names refused and those of no others. The draft is
        used up."""
        for name in {*self._base._revoked, *revoked}:
            resource = self._resources.get(name)
            if resource is not None:
                refusing = resource.refusing("revoked" if name in revoked else None)
                self._resources[name] = refusing
                self._index(refusing)
        snapshot = Snapshot(self._base._overrides)
        snapshot._revision = self.revision
        snapshot._sequence = after._sequence + 1
        snapshot._resources = self._resources
        snapshot._api_keys = self._api_keys
        snapshot._virtual_keys = self._virtual_keys
        snapshot._revoked = dict(revoked)
        snapshot._digest = self._digest
        snapshot._bytes = self.bytes
        return snapshot

    def _index(self, resource: Resource[Any]) -> None:
        if isinstance(resource, ApiKey):
            self._keys_of(resource)[resource.id] = resource
        elif isinstance(resource, VirtualKey):
            self._virtual_keys[resource.key_id] = resource

    def _keys_of(self, key: ApiKey) -> dict[str, ApiKey]:
        """The map of the keys beside this one, to be changed."""
        # A name of another form, as a later server may give one, is nobody's key.
        provider = key.name.partition("/")[2].partition("/")[0]
        if provider not in self._owned:
            self._owned.add(provider)
            self._api_keys[provider] = dict(self._api_keys.get(provider, {}))
        return self._api_keys[provider]


def _term(resource: Resource[Any]) -> int:
    data = resource.name.encode() + b"\0" + resource.update_revision.to_bytes(8, "little")
    return int.from_bytes(hashlib.sha256(data).digest()[:16], "little")
