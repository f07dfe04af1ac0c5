"""The exercises of notebook 06. Built in notebook 06."""
