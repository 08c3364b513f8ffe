"""The pure protocol core: byte layouts, trees, seeds, pay rules. No I/O, no clock, no network.

Imports nothing else of this project; every other package may import it. Solidity and
Python are held to the same values by tests/vectors/protocol.json.
"""
