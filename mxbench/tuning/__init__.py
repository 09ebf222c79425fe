"""Search a kernel's schedules: candidates, what cannot fit, the race, and what it leaves.

TileLang's own autotuner is not used: it compiles and times in the calling process, where one
candidate's illegal access ends the search, and times candidates one after the other, where a clock
that falls favours the early ones. Its carver proposes tiles for matrix products, reductions and
dense attention; the programs here have parameters of their own (splits, panels, passes), and MACA
is none of its targets. So the space is read off the schedule files, and the race is mxbench's own.
"""
