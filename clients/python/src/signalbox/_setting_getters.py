"""The typed getters of settings, which clients and snapshots share.

Owns nothing but their types. Must not know where a setting comes from.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, overload

from .resources import SecretText
from .settings import Setting


class SettingGetters:
    """Each raises `SettingTypeError` for a setting of another type, and gives `default` for one that is set nowhere."""

    __slots__ = ()

    def setting(self, key: str, user: str | None = None) -> Setting | None:
        """The effective setting, of any type."""
        raise NotImplementedError

    @overload
    def setting_str(self, key: str, default: str, *, user: str | None = None) -> str: ...

    @overload
    def setting_str(self, key: str, default: None = None, *, user: str | None = None) -> str | None: ...

    def setting_str(self, key: str, default: str | None = None, *, user: str | None = None) -> str | None:
        """The effective setting as text."""
        setting = self.setting(key, user)
        return default if setting is None else setting.as_str()

    @overload
    def setting_int(self, key: str, default: int, *, user: str | None = None) -> int: ...

    @overload
    def setting_int(self, key: str, default: None = None, *, user: str | None = None) -> int | None: ...

    def setting_int(self, key: str, default: int | None = None, *, user: str | None = None) -> int | None:
        """The effective setting as a whole number."""
        setting = self.setting(key, user)
        return default if setting is None else setting.as_int()

    @overload
    def setting_float(self, key: str, default: float, *, user: str | None = None) -> float: ...

    @overload
    def setting_float(self, key: str, default: None = None, *, user: str | None = None) -> float | None: ...

    def setting_float(
        self, key: str, default: float | None = None, *, user: str | None = None
    ) -> float | None:
        """The effective setting as a finite number."""
        setting = self.setting(key, user)
        return default if setting is None else setting.as_float()

    @overload
    def setting_bool(self, key: str, default: bool, *, user: str | None = None) -> bool: ...

    @overload
    def setting_bool(self, key: str, default: None = None, *, user: str | None = None) -> bool | None: ...

    def setting_bool(self, key: str, default: bool | None = None, *, user: str | None = None) -> bool | None:
        """The effective setting as a truth value."""
        setting = self.setting(key, user)
        return default if setting is None else setting.as_bool()

    @overload
    def setting_duration(self, key: str, default: timedelta, *, user: str | None = None) -> timedelta: ...

    @overload
    def setting_duration(
        self, key: str, default: None = None, *, user: str | None = None
    ) -> timedelta | None: ...

    def setting_duration(
        self, key: str, default: timedelta | None = None, *, user: str | None = None
    ) -> timedelta | None:
        """The effective setting as a length of time."""
        setting = self.setting(key, user)
        return default if setting is None else setting.as_duration()

    def setting_json(self, key: str, default: Any = None, *, user: str | None = None) -> Any:
        """The effective setting as a parsed JSON document."""
        setting = self.setting(key, user)
        return default if setting is None else setting.as_json()

    def setting_secret(self, key: str, *, user: str | None = None) -> SecretText | None:
        """The effective setting as a secret; `None` when it is set nowhere. Raises `SecretError` too."""
        setting = self.setting(key, user)
        return None if setting is None else setting.as_secret()
