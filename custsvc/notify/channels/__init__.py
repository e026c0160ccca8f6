"""How a notification leaves: mail over SMTP, chat, webhooks, and what their answers mean."""
