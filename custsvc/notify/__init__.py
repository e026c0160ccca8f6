"""Mails about customers: intake writes mails to the ledger, senders send them from there.

So a slow mail server never delays the Kafka consumer, and a retry survives the process. No mail is sent twice
automatically: the sender records `handing_over` just before it gives the text to the server. If it dies after
that, the mail becomes `unknown`, and is held and shown.
"""
