"""From the ledger to a channel: claims, retries, gates, breakers and the journal.

    intake ──► queued ◄──────── not tried: the other side is down, too many a minute, stop, the lease ran out
                 │ claim
                 ▼
              claimed ───────► suppressed   the gate refuses: address, wish, or too many an hour
                 │ │ └───────► failed       the mail cannot be made, or is refused for good
                 │ └─────────► deferred     refused for now: claimed again at its `next_at`
                 │ hand over
                 ▼
            handing_over ────► sent         accepted
                   │ └───────► failed, deferred   as above, but refused after the text
                   └─────────► unknown      no answer after the text, or the lease ran out

A deferred one whose tries or days are used up is failed. With CUSTSVC_NOTIFY_ON_UNKNOWN=resend an unknown one
is deferred, or queued where its lease ran out, and may arrive twice.
A person moves them too: `retry` queues failed, unknown, suppressed and discarded ones again; `discard` gives
up queued, deferred, failed and unknown ones.

`sender.py` takes these steps, `journal.py` writes them down for all senders of a process, `upkeep.py` ends
leases that ran out.
"""
