"""Transform: runs dbt on what is loaded, and knows whether the models are up to date."""
