"""Processes: a supervisor without torch drives one worker that owns the device."""
