"""Checkpoints that go to others or come from them: inspect, validate, convert, card, push, pull."""
