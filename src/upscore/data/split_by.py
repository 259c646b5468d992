"""What images that are not divided into train and val are grouped by: those of one group are in one split."""

from __future__ import annotations

import re
from collections.abc import Mapping

from upscore.errors import DataError
from upscore.text import listed, shortened

__all__ = ["SplitBy"]

_EXPECTED = "expected folder, column:NAME of a table, or a regular expression with a group, such as '(patient[0-9]+)_'"


class SplitBy:
    """What the group of an image is.

    Parameters
    ----------
    text : str
        ``folder``: the folder that the image is in; ``column:NAME``: the cell of its row in a table of pairs; or a regular expression
        that is searched for in the image's key, and whose first group is the image's.

    Raises
    ------
    DataError
        It is none of these.

    Examples
    --------
    >>> SplitBy("folder").group("rome/0001"), SplitBy("_(p[0-9]+)_").group("scan_p07_3")
    ('rome', 'p07')
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.used = False  #: whether a reader has divided images by it
        kind, _, name = text.partition(":")
        self.column = name.strip() if kind == "column" else ""
        self._pattern: re.Pattern[str] | None = None
        if text == "folder" or self.column:
            return
        try:
            self._pattern = re.compile(text)
        except (re.error, RecursionError, OverflowError) as error:
            raise DataError(f"found split_by '{shortened(text, 80)}', which is no regular expression ({error}), {_EXPECTED}") from None
        if not self._pattern.groups:
            raise DataError(f"found split_by '{shortened(text, 80)}', {_EXPECTED}")

    def group(self, key: str, row: Mapping[str, str] | None = None) -> str:
        """Return the group of the image with this key, and this row where it comes from a table; DataError where it has none."""
        if self.column:
            if row is None:
                raise DataError(f"split_by is {self.text}, and the dataset is no table of pairs: {_EXPECTED}")
            if self.column not in row:
                raise DataError(f"split_by is {self.text}, and the columns of the table are {listed(list(row), 8)}")
            return row[self.column].strip()
        if self._pattern is None:
            return key.rpartition("/")[0]
        found = self._pattern.search(key)
        if found is None or found[1] is None:
            raise DataError(f"split_by is {self.text}, which does not occur in the image '{shortened(key, 80)}': {_EXPECTED}")
        return found[1]
