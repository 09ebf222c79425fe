"""Search a kernel's schedules: candidates, what cannot fit, the race, and what it leaves."""
