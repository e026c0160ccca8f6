"""From Kafka into a copy: applying, rebuilding, dead letters, and the proof that copy equals source."""
