// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// Score sheets: a grade from 0 to 4 for each trace, two in a byte, the first in the high half; a half byte left over is
/// zero. Works on 32 grades at a time, each in a byte of a word.
library Grades {
    uint256 internal constant TOP = 4;
    /// grades apart at most for a sheet to agree with the median about a trace
    uint256 internal constant TOLERANCE = 1;
    /// more sheets than this would overflow the sums of a byte
    uint256 internal constant MOST_SHEETS = 127;

    uint256 private constant ONES = 0x0101010101010101010101010101010101010101010101010101010101010101;
    uint256 private constant LOW_HALVES = 0x0f * ONES;

    /// How many bytes a sheet for so many traces has.
    function lengthFor(uint256 count) internal pure returns (uint256) {
        return (count + 1) / 2;
    }

    /// Whether `sheet` is one for `count` traces: its length, every grade on the grid, nothing after the last
    function valid(bytes memory sheet, uint256 count) internal pure returns (bool) {
        if (sheet.length != lengthFor(count)) return false;
        if (count & 1 == 1 && uint8(sheet[sheet.length - 1]) & 0x0f != 0) return false;
        for (uint256 place; place < sheet.length; place += 32) {
            uint256 word = _wordAt(sheet, place);
            // A half byte over 4 has its highest bit set, or the second and one of those below.
            uint256 over = (word & (8 * 0x11 * ONES)) | ((word >> 2) & ((word >> 1) | word) & (0x11 * ONES));
            if (over != 0) return false;
        }
        return true;
    }

    /// For each sheet how many of `count` traces it has within the tolerance of the median of all of them. The median is
    /// the lower one where their number is even. Sheets must be valid and at most MOST_SHEETS.
    function agreements(bytes[] memory sheets, uint256 count) internal pure returns (uint256[] memory agreeing) {
        uint256 number = sheets.length;
        agreeing = new uint256[](number);
        if (number == 0) return agreeing;
        uint256 length = sheets[0].length;
        uint256[] memory lanes = new uint256[](number);
        uint256[] memory apart = new uint256[](number);
        unchecked {
            for (uint256 place; place < length; place += 32) {
                for (uint256 half; half < 2; ++half) {
                    for (uint256 i; i < number; ++i) {
                        lanes[i] = _wordAt(sheets[i], place) >> (half == 0 ? 4 : 0) & LOW_HALVES;
                    }
                    _compare(lanes, apart, agreeing);
                }
            }
            // What is past the last trace is zero in all sheets, so every sheet agrees there.
            uint256 past = (length + 31) / 32 * 64 - count;
            for (uint256 i; i < number; ++i) {
                agreeing[i] -= past;
            }
        }
    }

    /// Adds to `agreeing` how many of 32 lanes each sheet has within the tolerance. Nothing here can overflow: a byte of a
    /// word never exceeds the number of sheets. `apart` is room to work in.
    function _compare(uint256[] memory lanes, uint256[] memory apart, uint256[] memory agreeing) private pure {
        unchecked {
            uint256 number = lanes.length;
            // The lower median is at least g where so many sheets are.
            uint256 lift = (128 - (number / 2 + 1)) * ONES;
            for (uint256 i; i < number; ++i) {
                apart[i] = 0;
            }
            for (uint256 grade = 1; grade <= TOP; ++grade) {
                uint256 step = (128 - grade) * ONES;
                uint256 votes;
                for (uint256 i; i < number; ++i) {
                    votes += _carried(lanes[i] + step);
                }
                uint256 median = _carried(votes + lift);
                for (uint256 i; i < number; ++i) {
                    apart[i] += _carried(lanes[i] + step) ^ median;
                }
            }
            for (uint256 i; i < number; ++i) {
                agreeing[i] += 32 - _sum(_carried(apart[i] + (128 - TOLERANCE - 1) * ONES));
            }
        }
    }

    /// Gives 1 in every byte that is 128 or more, else 0: what reached a bound after 128 less the bound was added.
    function _carried(uint256 lanes) private pure returns (uint256) {
        return lanes >> 7 & ONES;
    }

    /// @return sum of the bytes of a word, below 256
    function _sum(uint256 lanes) private pure returns (uint256 sum) {
        unchecked {
            return (lanes * ONES) >> 248;
        }
    }

    /// @return word 32 bytes of a sheet from `place` on, zeros past its end
    function _wordAt(bytes memory sheet, uint256 place) private pure returns (uint256 word) {
        assembly ("memory-safe") {
            word := mload(add(add(sheet, 32), place))
        }
        uint256 left = sheet.length - place;
        if (left < 32) word = word >> (8 * (32 - left)) << (8 * (32 - left));
    }
}
