"""`python -m custsvc` is `custsvc`."""

from .cli import main

if __name__ == "__main__":
    main()
