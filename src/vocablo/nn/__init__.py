"""The parts of which the families are made, a page each."""
