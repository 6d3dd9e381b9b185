"""Every run draws the same examples, so that what fails once fails again."""

from hypothesis import settings

settings.register_profile("tests", derandomize=True, deadline=None)
settings.load_profile("tests")
