"""Every row of the matrix, in the order of the table."""

import rows_content  # noqa: F401
import rows_court  # noqa: F401
import rows_majority  # noqa: F401
from matrix import ROWS

__all__ = ["ROWS"]
