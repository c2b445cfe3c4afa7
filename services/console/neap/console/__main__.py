"""`python -m neap.console` is `neap`."""

from neap.console.cli import main

if __name__ == "__main__":
    main()
