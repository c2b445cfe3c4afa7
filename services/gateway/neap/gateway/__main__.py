"""`python -m neap.gateway`: the gateway as a process of its own."""

from neap.common.runtime.main import main

if __name__ == "__main__":
    main("gateway")
