"""Anthropic's dialect: ``POST /v1/messages`` and ``/v1/messages/count_tokens``, and the models in its shape."""
