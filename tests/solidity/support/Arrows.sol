// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IBatchMarket} from "../../../contracts/src/interfaces/IBatchMarket.sol";
import {ICourt} from "../../../contracts/src/interfaces/ICourt.sol";
import {IOpenings} from "../../../contracts/src/interfaces/IOpenings.sol";
import {IRounds} from "../../../contracts/src/interfaces/IRounds.sol";

/// The arrows of README.md, "Forbidden transitions". With `time` those that passing time and blocks make, any number of
/// them at once; without it those that one call makes. To stay is always allowed.
library Arrows {
    function round(bool time, IRounds.Phase from, IRounds.Phase to) internal pure returns (bool) {
        if (from == to) return true;
        if (time) {
            if (from == IRounds.Phase.AwaitingRandomness) {
                return to == IRounds.Phase.Drawable || to == IRounds.Phase.Stalled;
            }
            if (from == IRounds.Phase.Drawable) return to == IRounds.Phase.Stalled;
            if (from == IRounds.Phase.Committing) {
                return to == IRounds.Phase.Revealing || to == IRounds.Phase.Closed;
            }
            return from == IRounds.Phase.Revealing && to == IRounds.Phase.Closed;
        }
        if (from == IRounds.Phase.None) return to == IRounds.Phase.AwaitingRandomness;
        if (from == IRounds.Phase.Drawable) {
            return to == IRounds.Phase.Committing || to == IRounds.Phase.AwaitingRandomness;
        }
        if (from == IRounds.Phase.Committing) return to == IRounds.Phase.Revealing;
        return (from == IRounds.Phase.Stalled || from == IRounds.Phase.Revealing) && to == IRounds.Phase.Closed;
    }

    function batch(bool time, IBatchMarket.Phase from, IBatchMarket.Phase to) internal pure returns (bool) {
        if (from == to) return true;
        if (time) {
            return from == IBatchMarket.Phase.Challengeable
                && (to == IBatchMarket.Phase.Settleable || to == IBatchMarket.Phase.Disputed);
        }
        bool back = to == IBatchMarket.Phase.InRound || to == IBatchMarket.Phase.Void;
        if (from == IBatchMarket.Phase.None) return to == IBatchMarket.Phase.InRound;
        if (from == IBatchMarket.Phase.InRound) {
            return to == IBatchMarket.Phase.Challengeable || to == IBatchMarket.Phase.Void;
        }
        if (from == IBatchMarket.Phase.Challengeable) return back;
        if (from == IBatchMarket.Phase.Disputed) {
            return back || to == IBatchMarket.Phase.Challengeable || to == IBatchMarket.Phase.Settleable;
        }
        return from == IBatchMarket.Phase.Settleable && (back || to == IBatchMarket.Phase.Settled);
    }

    function dispute(bool time, ICourt.Phase from, ICourt.Phase to) internal pure returns (bool) {
        if (from == to) return true;
        if (time) return from == ICourt.Phase.Appealable && to == ICourt.Phase.Decided;
        if (from == ICourt.Phase.None) return to == ICourt.Phase.Opening || to == ICourt.Phase.InJury;
        if (from == ICourt.Phase.Opening) return to == ICourt.Phase.InJury || to == ICourt.Phase.Decided;
        if (from == ICourt.Phase.InJury) return to == ICourt.Phase.Appealable || to == ICourt.Phase.Decided;
        if (from == ICourt.Phase.Appealable) return to == ICourt.Phase.InJury;
        return from == ICourt.Phase.Decided && to == ICourt.Phase.Closed;
    }

    function opening(bool time, IOpenings.Status from, IOpenings.Status to) internal pure returns (bool) {
        if (from == to) return true;
        if (time) {
            return (from == IOpenings.Status.Asked && to == IOpenings.Status.Refused)
                || (from == IOpenings.Status.Answered && to == IOpenings.Status.Abandoned);
        }
        if (from == IOpenings.Status.None) return to == IOpenings.Status.Asked;
        if (from == IOpenings.Status.Answered) return to == IOpenings.Status.Asked;
        return from == IOpenings.Status.Asked
            && (to == IOpenings.Status.Answered || to == IOpenings.Status.Opened || to == IOpenings.Status.Refused);
    }
}
