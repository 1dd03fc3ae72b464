"""The dialect of OpenAI's Responses: ``POST /v1/responses`` and what is kept under an answer's id.

``schema`` reads a request (``items`` its input, ``tooling`` its tools, ``form`` its text format), ``render`` writes the
answer (``output`` its items as they grow, ``shape`` the object around them). Source: OpenAI's API reference for
Responses, and its Python SDK's types for what is always there.
"""
