"""A finished student in the formats that others read."""
