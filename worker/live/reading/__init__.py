"""What other services' clients read (`app.contract.reading`): a file for each request, from the check
of it to the JSON of its answer; `texts` is what those about texts have in common."""
