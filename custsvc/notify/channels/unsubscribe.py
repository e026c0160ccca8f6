"""The unsubscribe link: signed, so that nobody can forge one for another customer.

It holds only the customer's number, and never expires: a mail may be read years later.
"""

from __future__ import annotations

from itsdangerous import BadSignature, URLSafeSerializer

from ...domain.customers import INT64_MAX

PATH = "/unsubscribe/"


class BadLink(ValueError):
    """The link was not made here, or was altered."""


class UnsubscribeLinks:
    """Makes and reads the links. `secret` is stored in the database, so all its processes share it."""

    def __init__(self, secret: bytes, public_url: str) -> None:
        self._signer = URLSafeSerializer(secret, salt="custsvc.unsubscribe")
        self._base = public_url.rstrip("/") + PATH

    def url(self, customer_id: int) -> str:
        """The unsubscribe link for a customer's mails."""
        return self._base + self.token(customer_id)

    def token(self, customer_id: int) -> str:
        token = self._signer.dumps(customer_id)
        return token if isinstance(token, str) else token.decode()

    def customer(self, token: str) -> int:
        """The customer's number in a token. Raises BadLink."""
        try:
            customer_id = self._signer.loads(token)
        except BadSignature as exc:
            raise BadLink("this link is not complete, or was not made by us") from exc
        if (
            isinstance(customer_id, bool)
            or not isinstance(customer_id, int)
            or not 0 < customer_id <= INT64_MAX
        ):
            raise BadLink("this link names no customer")
        return customer_id
