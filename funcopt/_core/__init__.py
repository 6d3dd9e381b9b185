"""What a transformation is, and how one rule for one tensor works on whole trees."""
