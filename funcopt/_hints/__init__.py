"""What a newcomer meant: names and keywords of other libraries, and typos."""
