"""Content by address: CIDv1, an embedded store and IPFS behind one interface.

Imports only marketplace.protocol. Start at `store.open_store`.
"""
