"""JSON-RPC, wire-compatible with Netron clients: envelopes, services, and their doors.

Requests come as ``{"id", "service": "Name@x.y.z", "method", "input"}``; input is an object or, from
real clients, an array of arguments, of which ours have one.
"""
