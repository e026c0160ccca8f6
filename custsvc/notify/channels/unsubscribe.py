"""The link that takes a customer off the list: signed, so that nobody can make one for somebody else.

It holds the customer's number and nothing else, and never expires: a mail is read years later too.
"""

from __future__ import annotations

from itsdangerous import BadSignature, URLSafeSerializer

from ...domain.customers import INT64_MAX

PATH = "/unsubscribe/"


class BadLink(ValueError):
    """The link was not made here, or was changed on its way."""


class UnsubscribeLinks:
    """Makes and reads the links. `secret` is the database's, the same for all processes on it."""

    def __init__(self, secret: bytes, public_url: str) -> None:
        self._signer = URLSafeSerializer(secret, salt="custsvc.unsubscribe")
        self._base = public_url.rstrip("/") + PATH

    def url(self, customer_id: int) -> str:
        """The address that a customer's mails carry."""
        return self._base + self.token(customer_id)

    def token(self, customer_id: int) -> str:
        token = self._signer.dumps(customer_id)
        return token if isinstance(token, str) else token.decode()

    def customer(self, token: str) -> int:
        """The customer of a token. Raises BadLink."""
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
