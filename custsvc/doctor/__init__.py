"""What is wrong with this installation, and the command that repairs it."""
