"""`python -m training.cli` is `ernie-train`."""

from training.cli.ernie_train import main

if __name__ == "__main__":
    raise SystemExit(main())
