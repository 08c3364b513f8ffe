"""The index: the market's events and what follows from them, in one SQLite file.

    events        a stored log: JSON-plain arguments
    tables        how a dataclass becomes a row of SQLite
    rows          one frozen dataclass per table
    schema        tables, version, connections
    projecting    events -> rows; rows remember what they were before each block
    market_rules  the rules for bounties, batches, rounds, seats and verifiers
    court_rules   the rules for disputes, juries, openings and audits
    judging       which seats a judgement closes, and what their members lose and earn
    money_rules   the rules for the ledger
    sheet_rules   the rules for juries' score sheets, their pots and gold
    store         IndexStore: the writer; a page of blocks is one transaction
    source        what the indexer asks of a chain
    follow        Indexer: follows a chain, survives restarts and reorgs
    phases        phases of batches, rounds and disputes at a moment
    queries       Snapshot: typed reads for the API

Everything but the raw events is a function of the raw events: `IndexStore.rebuild` replays them.
"""
