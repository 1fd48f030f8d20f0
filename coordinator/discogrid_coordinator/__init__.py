"""Schedules tasks on agents and keeps what was accepted."""
