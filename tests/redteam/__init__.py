"""Attacks on the host from inside a sandbox, one a test, and each control's absence: README.md here says what holds."""
