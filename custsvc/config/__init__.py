"""Settings, their sources, and the only reader of them from the environment.

`settings` has one line for each setting: its type, default, words and limits. `sources` reads flags,
environment and files; `values` makes a value from a text, or says what is allowed.
"""

from .setting import PREFIX, Setting, env_name
from .settings import BACKENDS, SETTINGS, Backend, Settings, describe
from .sources import OTHER_NAMES

__all__ = [
    "BACKENDS",
    "OTHER_NAMES",
    "PREFIX",
    "SETTINGS",
    "Backend",
    "Setting",
    "Settings",
    "describe",
    "env_name",
]
