"""The search for recipes: spaces to search in, the study, its trials. Imports `orchestrator` and `engine`."""
