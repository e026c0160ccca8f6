"""What `custsvc bench` runs: the real roles on servers of your own, beside the barest loops there are."""
