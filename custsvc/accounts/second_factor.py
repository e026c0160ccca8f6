"""The second factor of users: codes of an app that change every 30 seconds (TOTP), or recovery codes.

RFC 6238. A code of the step before or after is taken too, for clocks that differ; no code is taken twice.
Recovery codes have 80 random bits, are kept as hashes, and each is good for one sign-in.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import re
import secrets
from typing import Final

from ..ports.accounts import Factor, Factors

ISSUER: Final = "custsvc"
RECOVERY_CODES: Final = 10
_DRIFT: Final = (0, -1, 1)
_TYPED_MAX: Final = 100


def new_secret() -> str:
    """A secret of 160 random bits, in base32."""
    import pyotp

    return pyotp.random_base32()


def address_of(factor: Factor) -> str:
    """The address in the QR code, which an authenticator app reads."""
    import pyotp

    return pyotp.TOTP(factor.secret).provisioning_uri(name=factor.name, issuer_name=ISSUER)


def step_of(secret: str, typed: str, now: dt.datetime) -> int | None:
    """The time step whose code this is, among the current one and those beside it; None for a wrong code."""
    import pyotp

    code = re.sub(r"\s", "", typed[:_TYPED_MAX])
    totp = pyotp.TOTP(secret)
    current = totp.timecode(now)
    right = [
        current + drift
        for drift in _DRIFT
        if hmac.compare_digest(totp.generate_otp(current + drift).encode(), code.encode("utf-8", "replace"))
    ]
    return right[0] if right else None


def new_recovery_codes() -> list[str]:
    """Codes like `ABCD-EFGH-IJKL-MNOP`, to be shown once."""
    codes = (base64.b32encode(secrets.token_bytes(10)).decode() for _ in range(RECOVERY_CODES))
    return ["-".join(code[start : start + 4] for start in range(0, 16, 4)) for code in codes]


def hash_code(typed: str) -> str:
    """The stored form of a recovery code, however it is typed. A fast hash will do for 80 random bits."""
    plain = re.sub(r"[\s-]", "", typed[:_TYPED_MAX]).upper()
    return hashlib.sha256(plain.encode("utf-8", "replace")).hexdigest()


def use(factors: Factors, factor: Factor, typed: str, now: dt.datetime) -> bool:
    """Use a code of a confirmed factor, of the phone or for recovery; False for a wrong or used one."""
    step = step_of(factor.secret, typed, now)
    if step is not None:
        return factors.use_step(factor.name, step)
    return factors.use_recovery(factor.name, hash_code(typed))
