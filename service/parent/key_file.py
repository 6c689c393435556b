"""Reads the API keys from the settings and their file."""

from __future__ import annotations

import hashlib

from service.settings import Settings


class KeysError(ValueError):
    """API keys that cannot be used; the message is one sentence."""


def read_keys(settings: Settings) -> list[str]:
    """SHA-256 of every key in `api_keys` and in `api_keys_file`, without its blank lines and # comments.

    Raises KeysError if one of these settings is given but has no key or cannot be read: without a key, every request
    would be accepted.
    """
    keys = [key.strip() for key in settings.api_keys.get_secret_value().split(",") if key.strip()]
    if not keys and "api_keys" in settings.model_fields_set:
        raise KeysError("--api-keys (ERNIE_API_KEYS) has no API key; write them with commas between, or leave it out.")
    if (file := settings.api_keys_file) is not None:
        try:
            # Editors on Windows write a byte order mark; utf-8-sig drops it.
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise KeysError(f"the API keys in {file} cannot be read: {error}.") from error
        found = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
        if not found:
            raise KeysError(f"{file} has no API key; write one a line, or leave --api-keys-file out.")
        keys += found
    return [hashlib.sha256(key.encode()).hexdigest() for key in dict.fromkeys(keys)]
