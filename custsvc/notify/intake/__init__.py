"""From events and mail requests on Kafka to notifications in the ledger."""
