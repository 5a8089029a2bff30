"""``python -m gloss``: the command ``gloss``, also where its script is not on the path."""

from gloss.cli.main import main

if __name__ == "__main__":
    main()
