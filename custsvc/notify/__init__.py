"""Mails about customers: intake writes down what is to be sent, senders send it, the ledger is between them.

So a slow mail server never holds up Kafka, and a retry outlives the process. A mail is never sent twice by
itself: the moment before a server is given the text is recorded, and whoever dies after it leaves a mail
that is `unknown`, which is held and shown.
"""
