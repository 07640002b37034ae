"""The PostgreSQL that DevNest runs itself."""
