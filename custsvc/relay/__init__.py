"""Sends the outbox to Kafka, in order for each customer; also recovery after either was restored."""
