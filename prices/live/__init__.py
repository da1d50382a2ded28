"""The live edge: hot reads, JSON-RPC and streams, answered in ASGI from memory, before Django.

It answers what it is sure of, in the very bytes that Django would; everything else is Django's.
What all doors of the project share (error texts, headers) is config's, handed down as a `Frame`.
"""
