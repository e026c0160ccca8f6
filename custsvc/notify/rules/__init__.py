"""Which event tells whom what: the file of rules, and the templates of mails."""
