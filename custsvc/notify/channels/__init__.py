"""Channels for notifications: mail over SMTP, chat, webhooks; and the meaning of their answers."""
