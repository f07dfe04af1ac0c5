"""The exercises of notebook 05. Built in notebook 05."""
