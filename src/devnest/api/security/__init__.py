"""Authentication, tokens, throttling of guesses, and the audit log."""
