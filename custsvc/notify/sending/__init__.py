"""From the ledger to a channel: claims, retries, gates, breakers and the journal."""
