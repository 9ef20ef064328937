"""Resources as a reader gets them.

Owns the views of each kind and the access to secrets. A resource is immutable and shared by all snapshots that hold it; it
is decoded when it is first looked into. Must not know streams.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, ClassVar, Generic, TypeVar

from . import specs
from ._decode import Decoded, decode
from .errors import SecretError

Spec = TypeVar("Spec")
Same = TypeVar("Same", bound="Resource[Any]")


class SecretText:
    """A text that does not print. `expose` gives it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def expose(self) -> str:
        """The text. Put it where it has to go, and nowhere else."""
        return self._text

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SecretText):
            return NotImplemented
        return hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash((SecretText, self._text))

    def __repr__(self) -> str:
        return "SecretText(...)"

    def __reduce__(self) -> Any:
        raise TypeError("a secret is not pickled")


class Resource(Generic[Spec]):
    """One piece of configuration. Immutable."""

    __slots__ = ("_decoded", "_packed", "_refusal", "name", "update_revision")

    #: The kind, by the arm of `Resource.spec`; empty where this version of the client does not know it.
    kind: ClassVar[str] = ""

    name: str
    """The full name, for example `providers/groq`."""

    update_revision: int
    """Revision of the store in which the resource last changed."""

    _packed: bytes
    _decoded: Decoded | None
    _refusal: str | None

    def __init__(self, name: str, update_revision: int, packed: bytes, refusal: str | None = None) -> None:
        put = object.__setattr__
        put(self, "name", name)
        put(self, "update_revision", update_revision)
        put(self, "_packed", packed)
        put(self, "_decoded", None)
        put(self, "_refusal", refusal)

    @property
    def id(self) -> str:
        """The last segment of the name."""
        return self.name.rpartition("/")[2]

    @property
    def spec(self) -> Spec:
        """The configuration itself; of secrets it has only the state."""
        # Asked for most of all: an attribute costs less here than a call.
        spec: Spec = (self._decoded or self._content()).spec
        return spec

    @property
    def labels(self) -> Mapping[str, str]:
        """What operators have attached to it; selectors can ask for them."""
        return self._content().labels

    @property
    def uid(self) -> str:
        """Identity of this resource for its whole life."""
        return self._content().uid

    @property
    def version(self) -> int:
        """Counts the changes of this resource, from 1."""
        return self._content().version

    @property
    def create_revision(self) -> int:
        """The revision that created it."""
        return self._content().create_revision

    @property
    def create_time(self) -> datetime | None:
        """When it was created, by the service's clock."""
        return self._content().create_time

    @property
    def update_time(self) -> datetime | None:
        """When it was last changed, by the service's clock."""
        return self._content().update_time

    @property
    def updated_by(self) -> str:
        """Subject of the token that last changed it."""
        return self._content().updated_by

    @property
    def etag(self) -> str:
        """Its etag: an update that carries it is refused where somebody was faster."""
        return self._content().etag

    @property
    def revoked(self) -> bool:
        """Whether its secrets must not be used any more; what replaces them is still to come."""
        return self._refusal == "revoked"

    def secret_at(self, path: str) -> SecretText:
        """A secret by its path, for example `api_key.secret` or `provider.headers.x-key`.

        Raises `SecretError`, whose `reason` says why it can't be had.
        """
        field = (self._decoded or self._content()).secrets.get(path)
        state = "absent" if field is None else field.state
        if field is not None and state == "present":
            if self._refusal is None and field.value is not None:
                return SecretText(field.value)
            state = self._refusal or "masked"
        raise SecretError(self.name, path, state)

    def refusing(self: Same, refusal: str | None) -> Same:
        """The same resource, with or without a reason to refuse its secrets."""
        if refusal == self._refusal:
            return self
        copy = type(self)(self.name, self.update_revision, self._packed, refusal)
        object.__setattr__(copy, "_decoded", self._decoded)
        return copy

    def _content(self) -> Decoded:
        decoded = self._decoded
        if decoded is None:
            # Two threads at once decode it twice, to the same.
            decoded = decode(self._packed)
            object.__setattr__(self, "_decoded", decoded)
        return decoded

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a resource is immutable, {name} can't be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a resource is immutable, {name} can't be deleted")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} at revision {self.update_revision}>"

    def __reduce__(self) -> Any:
        raise TypeError("a resource is not pickled, because it may hold secrets")


class _Switchable(Resource[Spec]):
    __slots__ = ()

    @property
    def enabled(self) -> bool:
        """Whether it may be used."""
        spec: Any = self.spec
        return spec.enabled is not False


class Provider(_Switchable[specs.ProviderSpec]):
    """An LLM provider, `providers/{id}`."""

    __slots__ = ()
    kind = "provider"

    def header(self, name: str) -> SecretText | None:
        """The value of an extra header, sealed or not; `None` when there is no such header. Raises `SecretError`."""
        return _header(self, "provider", self.spec.headers, name)


class ApiKey(Resource[specs.ApiKeySpec]):
    """A key of a provider, `providers/{id}/apiKeys/{id}`."""

    __slots__ = ()
    kind = "api_key"

    @property
    def active(self) -> bool:
        """Whether it may be used: it is active and was not revoked."""
        return self.spec.active is not False and not self.revoked

    @property
    def weight(self) -> int:
        """Share of the calls when several keys are active, 1 to 1,000."""
        return 1 if self.spec.weight is None else self.spec.weight

    def secret(self) -> SecretText:
        """The key itself. Raises `SecretError`."""
        return self.secret_at("api_key.secret")

    def previous_secret(self) -> SecretText | None:
        """The key before this one, while a rotation is under way, to be tried where the provider refuses the present one because
        it does not know it yet; `None` when there is none. Raises `SecretError` as `secret` does."""
        try:
            return self.secret_at("api_key.previous_secret")
        except SecretError as error:
            if error.reason == "absent":
                return None
            raise


class SettingResource(Resource[specs.SettingSpec]):
    """A stored setting, `settings/{key}` or `users/{user}/settings/{key}`. For the effective value ask the client for the
    setting."""

    __slots__ = ()
    kind = "setting"


class Model(Resource[specs.ModelSpec]):
    """A model of the catalogue, `models/{provider}/{model}`."""

    __slots__ = ()
    kind = "model"


class PromptTemplate(Resource[specs.PromptTemplateSpec]):
    """A prompt with places left open, `promptTemplates/{id}`."""

    __slots__ = ()
    kind = "prompt_template"


class Router(Resource[specs.RouterSpec]):
    """Where calls go, `routers/{id}`."""

    __slots__ = ()
    kind = "router"


class Tool(_Switchable[specs.ToolSpec]):
    """A tool that models may call, `tools/{id}`."""

    __slots__ = ()
    kind = "tool"


class Database(_Switchable[specs.DatabaseSpec]):
    """A connection to a database, `databases/{id}`."""

    __slots__ = ()
    kind = "database"

    def password(self) -> SecretText:
        """The user's password. Raises `SecretError`."""
        return self.secret_at("database.password")

    def option(self, name: str) -> SecretText | None:
        """The value of a further option, sealed or not; `None` when there is none. Raises `SecretError`."""
        option = self.spec.options.get(name)
        if option is None or option.plain is not None:
            return None if option is None else SecretText(option.plain or "")
        return self.secret_at(f"database.options.{name}")


class VirtualKey(_Switchable[specs.VirtualKeySpec]):
    """A key that a gateway takes from its callers, `virtualKeys/{id}`."""

    __slots__ = ()
    kind = "virtual_key"

    @property
    def key_id(self) -> str:
        """Its public id, to be shown and logged in place of the key."""
        return self.spec.key_id

    @property
    def expires_at(self) -> datetime | None:
        """When it ends to be good; `None` if it does not."""
        return self.spec.expire_time

    def usable(self, now: datetime) -> bool:
        """Whether it may be used at all: it is enabled, was not revoked, and has not expired."""
        return self.enabled and not self.revoked and (self.expires_at is None or now < self.expires_at)

    def allows_model(self, model: str) -> bool:
        """Whether it may be used for a model. Without a list it may for any."""
        return not self.spec.allowed_models or model in self.spec.allowed_models

    def allows_provider(self, provider: str) -> bool:
        """Whether it may be used for a provider, by its id. Without a list it may for any."""
        return not self.spec.allowed_providers or f"providers/{provider}" in self.spec.allowed_providers


class NotificationChannel(_Switchable[specs.NotificationChannelSpec]):
    """Where changes are told to, `notificationChannels/{id}`."""

    __slots__ = ()
    kind = "notification_channel"

    def url(self) -> SecretText:
        """Where to post. Raises `SecretError`."""
        return self.secret_at("notification_channel.url")

    def signing_secret(self) -> SecretText:
        """What messages are signed with. Raises `SecretError`."""
        return self.secret_at("notification_channel.signing_secret")

    def header(self, name: str) -> SecretText | None:
        """The value of an extra header; `None` when there is no such header. Raises `SecretError`."""
        return _header(self, "notification_channel", self.spec.headers, name)


class FeatureFlag(_Switchable[specs.FeatureFlagSpec]):
    """A switch of a feature, `featureFlags/{id}`. `client.flag` evaluates it."""

    __slots__ = ()
    kind = "feature_flag"


class CachePolicy(_Switchable[specs.CachePolicySpec]):
    """Which answers of providers are kept, `cachePolicies/{id}`."""

    __slots__ = ()
    kind = "cache_policy"

    @property
    def ttl(self) -> timedelta:
        """How long an answer is good for."""
        return self.spec.ttl or timedelta()


#: The view of each kind.
VIEWS: dict[str, type[Resource[Any]]] = {
    view.kind: view
    for view in (
        Provider,
        ApiKey,
        SettingResource,
        Model,
        PromptTemplate,
        Router,
        Tool,
        Database,
        VirtualKey,
        NotificationChannel,
        FeatureFlag,
        CachePolicy,
    )
}
# A kind that has no view of its own yet can be read all the same, by its full name.
for _kind, _spec in specs.SPECS.items():
    if _kind not in VIEWS:
        VIEWS[_kind] = type(_spec.__name__, (Resource,), {"kind": _kind, "__slots__": ()})


def view_of(message: Any) -> Resource[Any]:
    """The view of a message. It keeps nothing of the message, whose memory it would hold together with its neighbours'."""
    view = VIEWS.get(message.WhichOneof("spec"), Resource)
    return view(message.name, message.update_revision, message.SerializeToString(deterministic=True))


def _header(
    resource: Resource[Any], arm: str, headers: Mapping[str, specs.HeaderValue], name: str
) -> SecretText | None:
    header = headers.get(name)
    if header is None or header.plain is not None:
        return None if header is None else SecretText(header.plain or "")
    return resource.secret_at(f"{arm}.headers.{name}")
