"""The parts of HTTP that all routes share: requests, responses, errors and caching."""
