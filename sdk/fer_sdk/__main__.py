"""``python -m fer_sdk`` is ``fer``."""

from fer_sdk.cli import main

if __name__ == "__main__":
    main()
