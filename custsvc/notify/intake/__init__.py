"""Intake: from events and mail requests on Kafka to rows of the ledger.

    updates topic ────► event ──────────┐
                                        ├──► rows, one per event, rule and recipient; each begins as
    mail requests ────► MailRequest ────┘      │
      │                                        ├─► queued      due at once; a digest, when its window ends:
      │ cannot be read                         │               until it is tried, it takes more events in
      ▼                                        ├─► suppressed  older than CUSTSVC_NOTIFY_MAX_AGE
    failed topic ◄─────────────────────────────┴── failed      its template is broken, or no address

`consumer.py` reads the records and writes the rows, `notifications.py` makes a row, `digest.py` merges the
rows of a window, `failed.py` sends failed mails to their topic. An erasure blanks all rows of its customer
and discards those that wait. From `queued` on, `sending` moves a row.
"""
