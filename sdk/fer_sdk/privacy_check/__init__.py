"""Shows on the user's own machine that nothing leaves it: ``python -m fer_sdk.privacy_check``."""
