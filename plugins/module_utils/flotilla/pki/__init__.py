"""Certificates inside an environment: what is valid, what is due, what a host may ask for, and its files."""
