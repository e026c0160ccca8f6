"""The benchmarks of `custsvc bench`: the real roles on your own servers, beside bare loops."""
