"""The exercises of notebook 04. Built in notebook 04."""
