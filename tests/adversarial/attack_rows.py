"""Every row of the matrix, in the order of the table."""

# ruff: noqa: F401, I001
import rows_content
import rows_draws
import rows_votes
import rows_majority
import rows_court
import rows_juries
import rows_escrow
import rows_tokens
import rows_chain
from matrix import ROWS

__all__ = ["ROWS"]
