"""Builds the archives of a release and checks them."""
