"""`python -m neap.planner`: the planner as a process of its own."""

from neap.common.runtime.main import main

if __name__ == "__main__":
    main("planner")
