import numpy as np

from descend.data.messages import listed, rows_hold, rows_text


def test_long_lists_are_shortened():
    assert listed(["x" * 100])[:5] == "'xxxx"
    assert len(listed(["x" * 100])) < 70
    assert rows_text(np.arange(20)) == "rows 0, 1, 2, 3, 4, 5, 6, 7 and 12 more"
    assert rows_hold([1]) == "row 1 holds"
    assert rows_hold(np.arange(2)) == "rows 0, 1 hold"
