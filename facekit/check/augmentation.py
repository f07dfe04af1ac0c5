"""The exercises of notebook 02. Built in notebook 02."""
