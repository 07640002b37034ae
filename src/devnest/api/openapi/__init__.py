"""The OpenAPI document: descriptions and examples."""
