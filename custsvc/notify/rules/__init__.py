"""Which event notifies whom of what: the rules file, and the mail templates."""
