"""The parts of one step of training; `trainer` puts them together."""
