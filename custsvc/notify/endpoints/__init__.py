"""Webhook endpoints: receivers that administrators manage, each with a log of its deliveries.

    event ──► intake/deliveries ──► row of the ledger ──► dispatch ──► channel ──► the receiver
              ops, changed,         beside the event's    up to four    signed, to a
              conditions            mails, in one write   lanes         checked address

The channel of a row is webhook:ID, and so is its recipient: later deliveries about a customer wait for
earlier ones to the same endpoint, as mails do.

A receiver that fails is called again as a mail server is; nothing is given up before the endpoint is paused.
`channel.py` notes how each call ended with the endpoint (`failing_since`), the database pauses it once it has
failed for CUSTSVC_WEBHOOK_PAUSE_DAYS, `dispatch.py` then queues the mail to its owner and calls it no more
until it is resumed.
"""
