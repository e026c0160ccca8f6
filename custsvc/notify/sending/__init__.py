"""From the ledger to a channel: claims, retries, gates, breakers and the journal.

    intake ──► queued ◄──────── not tried: the server is down, too many per minute, stop, the lease expired
                 │ claim
                 ▼
              claimed ───────► suppressed   the gate refuses: address, unsubscribed, empty digest, too many
                 │ │ └───────► failed       the mail cannot be made, or is refused permanently
                 │ └─────────► deferred     refused temporarily: claimed again at its `next_at`
                 │ hand over
                 ▼
            handing_over ────► sent         accepted
                   │ └───────► failed, deferred   as above, but refused after the text
                   └─────────► unknown      no answer after the text, or the lease expired

A deferred mail whose tries or days are used up becomes failed. With CUSTSVC_NOTIFY_ON_UNKNOWN=resend an
unknown mail becomes deferred, or queued if its lease expired, and may arrive twice.
Operators move mails too: `retry` queues failed, unknown, suppressed and discarded ones again; `discard` gives
up queued, deferred, failed and unknown ones.

`sender.py` takes these steps, `journal.py` writes them to the ledger for all senders of a process,
`upkeep.py` handles expired leases.
"""
