"""LLM configuration, pushed to every worker: the hot cache for Python.

    import signalbox

    client = signalbox.connect(secrets=True)
    client.wait_ready()
    provider = client.provider("groq")

`signalbox.aio` is the same for asyncio, `signalbox.testing` has a client for tests.
"""

from . import aio
from .client import Client, connect
from .errors import (
    CacheError,
    ClosedError,
    CredentialFileError,
    DesyncError,
    EndedError,
    NotReadyError,
    OptionsError,
    RejectedError,
    RevisionNotReachedError,
    RpcError,
    SecretError,
    SettingTypeError,
    SignalboxError,
    SilentError,
    StaleError,
    TokenError,
    UnconfirmedError,
)
from .events import ChangeEvent, ChangeSet
from .options import Options
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
    SecretText,
    Tool,
    VirtualKey,
)
from .selectors import Selector
from .settings import Setting
from .snapshot import Snapshot
from .staleness import Staleness
from .status import Rejection, Status
from .subscription import AsyncSubscription, Callback, Subscription

__all__ = [
    "ApiKey",
    "AsyncSubscription",
    "CacheError",
    "CachePolicy",
    "Callback",
    "ChangeEvent",
    "ChangeSet",
    "Client",
    "ClosedError",
    "CredentialFileError",
    "Database",
    "DesyncError",
    "EndedError",
    "FeatureFlag",
    "Model",
    "NotReadyError",
    "NotificationChannel",
    "Options",
    "OptionsError",
    "PromptTemplate",
    "Provider",
    "RejectedError",
    "Rejection",
    "Resource",
    "RevisionNotReachedError",
    "Router",
    "RpcError",
    "SecretError",
    "SecretText",
    "Selector",
    "Setting",
    "SettingTypeError",
    "SignalboxError",
    "SilentError",
    "Snapshot",
    "StaleError",
    "Staleness",
    "Status",
    "Subscription",
    "TokenError",
    "Tool",
    "UnconfirmedError",
    "VirtualKey",
    "aio",
    "connect",
]
