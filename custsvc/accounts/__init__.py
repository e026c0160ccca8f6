"""Who may do what: API keys, and the passwords of users."""
