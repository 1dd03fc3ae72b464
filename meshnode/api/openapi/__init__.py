"""What the API is, as an OpenAPI document: made from the types that validate requests, one table entry a path."""
