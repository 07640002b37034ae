"""HTTP as every route needs it: requests, responses, problems, caching."""
