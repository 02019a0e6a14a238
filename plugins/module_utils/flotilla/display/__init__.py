"""What the callback plugin `flotilla` shows: pure functions over events, so that a test can read a whole run.

`lines` gives a line its shape, `readable` turns results into lines, `story` remembers a run and says what is worth a
line, `live` redraws the status line of a terminal.
"""
