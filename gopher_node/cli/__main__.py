"""`python -m gopher_node.cli` is `gopher-node`."""

from gopher_node.cli import main

if __name__ == "__main__":
    main()
