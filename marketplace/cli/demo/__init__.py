"""`tracemarket demo`: the whole loop on one machine, with real parts, and a report.

settings   how large the run is
world      chain, market, people with keys and money
liar       the dishonest miner
turns      mine, check, settle, train, register, again
money      where every base unit went
report     report.json and report.html
"""
