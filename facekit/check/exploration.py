"""The exercises of notebook 01. Built in notebook 01."""
