// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// Provenance a bounty asks for: what is proven about who wrote a trace (DESIGN, section 4).
enum Tier {
    Replayable,
    Scorable,
    Opaque
}

/// Which traces of a batch are worth a unit.
enum PayRule {
    Correct,
    Informative
}

/// What a poster buys and for how much. Fixed for the life of a bounty.
struct BountyTerms {
    /// sha2-256 digest of the environment's spec file: the id is the content address
    bytes32 environment;
    /// whose registered checkpoints count as the policy (tiers A and B); zero where the tier is Opaque
    address trainer;
    /// last second at which a batch may be committed
    uint64 deadline;
    /// traces of one task
    uint16 groupSize;
    Tier tier;
    PayRule payRule;
    /// token base units for one payable unit
    uint96 pricePerUnit;
    /// token base units for the checking of one trace, shared by the whole committee
    uint96 feePerTrace;
}

/// EIP-2612 signature by the payer in favour of the ledger.
struct Permit {
    uint256 value;
    uint256 deadline;
    uint8 v;
    bytes32 r;
    bytes32 s;
}

/// A CIDv1: sha2-256 digest and codec (0x55 raw, 0x70 dag-pb).
struct ContentId {
    bytes32 digest;
    uint8 codec;
}

/// Who gets what is paid for the use of a checkpoint: fixed when it is registered.
struct Shares {
    /// root of the Merkle-sum tree of share leaves, whose shares add up to a billion
    bytes32 root;
    /// leaves of that tree
    uint32 holders;
    /// millionths of what comes in that go on to the parent's royalties
    uint32 passOnPpm;
    /// the file that lists the leaves
    ContentId list;
}

/// What a committee says of a batch: the root of its Merkle-sum tree of verdicts and that root's sums.
struct Attestation {
    bytes32 verdictRoot;
    uint32 units;
    uint32 faults;
}

/// A leaf of a verdict tree: what a committee says of one trace.
struct Verdict {
    uint32 index;
    /// in millionths
    uint32 score;
    uint8 reason;
    uint32 units;
    uint32 faults;
}

/// One set per deployment, immutable.
struct Parameters {
    /// seats of a batch's first round
    uint8 committeeSize;
    /// rounds a batch may have before it is void
    uint8 maxRounds;
    /// juries a dispute may have; the last one is final
    uint8 maxJuries;
    /// verifiers with a free seat below which no batch may be committed: a market too thin for a jury sells nothing
    uint32 minVerifiers;
    /// seconds a round may wait for its draw before the batch can be made void
    uint32 drawTimeout;
    /// seconds to commit after the draw
    uint32 commitWindow;
    /// seconds to reveal after the commits
    uint32 revealWindow;
    /// seconds between attestation and settlement, during which it can be disputed
    uint32 challengeWindow;
    /// seconds between a jury's decision and the end of the dispute, during which it can be appealed
    uint32 appealWindow;
    /// seconds for one move of an opening, and for narrowing a round that ended in conflict
    uint32 openingWindow;
    /// seconds between asking for stake back and getting it
    uint32 unbondingDelay;
    /// token base units locked by one seat
    uint96 seatStake;
    /// share of the seat's stake lost by a member that did not commit, in 1/10,000
    uint16 absenceBps;
    /// share of the seat's stake lost by a member that committed and did not reveal
    uint16 lateBps;
    /// share of the seat's stake lost by a member that revealed another verdict than the final one
    uint16 incoherenceBps;
    /// what a signer of an attestation that fell loses, in 1/10,000 of the seat's stake; above 10,000 it reaches the
    /// signer's free and unbonding stake
    uint32 fraudBps;
    /// token base units of miner's bond for each trace (never below the bounty's fee for a trace)
    uint96 bondPerTrace;
    /// how many times bondPerTrace one fault (a proven lie) costs, up to the batch's bond
    uint16 faultMultiple;
    /// share of the checking fee of a trace without a unit that its miner bears, in 1/10,000
    uint16 wrongBps;
    /// least fee a bounty may offer for the checking of one trace, in token base units
    uint96 minFeePerTrace;
    /// token base units for one juror of one dispute
    uint96 jurorFee;
    /// most traces of one batch
    uint32 maxTraces;
}
