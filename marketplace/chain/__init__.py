"""The chain: contracts as Python calls, typed reads, events and keys.

amounts      human decimals <-> token base units
anvil        a local chain as a context manager
artifacts    compiled contracts (abi/*.json), package data written by generate_abi
client       MarketClient: every write, on top of reads.MarketReader
deployment   where a market lives; the deployment file
deploying    putting a market on a chain
errors       reverts decoded into sentences with a fix
keystore     keystore v3 files
parameters   the market's parameters and its presets
permits      EIP-2612 signatures
reads        MarketReader: typed reads and events, no key
records      the dataclasses that reads return
rpc          the connection to a node
sending      sign, send, wait, decode: one transaction at a time
"""
