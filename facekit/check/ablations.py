"""The exercises of notebook 07. Built in notebook 07."""
