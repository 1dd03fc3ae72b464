"""Constrained output: what the text may be (JSON schema, grammar, regex, choice), held token by token.

``matcher`` is the door to the library that computes which tokens may come next. What stands before it is pure:
``schema`` turns a JSON schema into the canonical one that the library holds exactly, or refuses the keyword by name;
``patterns``, ``formats``, ``disjoint``, ``finite`` and ``gbnf`` are its parts.
"""
