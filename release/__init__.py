"""What a release is made of, and the check that it holds."""
