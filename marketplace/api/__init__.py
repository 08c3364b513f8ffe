"""The read API: the index over HTTP.

models   what routes answer with (pydantic; the source of the OpenAPI document)
inputs   path and query values, checked
views    rows of the index -> models
routes   the routes
app      create_app: routes, errors, documentation
serve    the API and its indexer in one process
"""
