"""The chain: contracts as Python calls, typed reads, events and keys.

amounts      human decimals <-> token base units
anvil        a local chain as a context manager
artifacts    compiled contracts (abi/*.json), package data written by generate_abi
batch_terms  the terms of a batch, as the chain has them
client       MarketClient: every call that changes a market
connection   a node that serves one deployment: checked, then blocks, events, raw reads
deploying    putting a market on a chain
deployment   where a market lives; the deployment file
errors       reverts decoded, with a fix
events       logs as typed events, in pages that any node accepts
keystore     keystore v3 files
parameters   the market's parameters and its presets
paying       signing for one key; how tokens get into the ledger
permits      EIP-2612 signatures
reads        MarketReader: typed reads, no key
records      the dataclasses that reads return
rpc          reaching a node, and its failures as errors
sending      sign, send, wait, decode: one transaction at a time
sentences    the errors of the contracts in plain English
"""
