"""Talking to Kafka: clients, options, records, topics, and reading them to an end or for ever."""
