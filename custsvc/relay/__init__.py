"""From the outbox to Kafka, in order for each customer; and what follows when either was restored."""
