"""The public judge's format: problem folders and submissions of one function, `run_kernel`."""
