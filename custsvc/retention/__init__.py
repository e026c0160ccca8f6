"""Old history: archives it to files and drops it from the source, so that its size stays flat."""
