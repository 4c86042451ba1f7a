"""The exit codes of every command."""

EXIT_OK, EXIT_PARTICIPANT, EXIT_USAGE, EXIT_HOST, EXIT_INTERRUPTED = 0, 1, 2, 3, 130
"""Scored, the participant's fault, the caller's, ours, Ctrl-C."""
