"""The pool's decisions: a state machine without I/O and without a clock."""
