"""The servers under test: programs that print their port, then echo until they are killed."""
