"""Finds what is wrong with this installation, and names the command that repairs it."""
