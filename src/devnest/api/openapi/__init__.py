"""The OpenAPI document, with its descriptions and examples, and the page that shows it."""
