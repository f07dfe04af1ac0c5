"""The exercises of notebook 08. Built in notebook 08."""
